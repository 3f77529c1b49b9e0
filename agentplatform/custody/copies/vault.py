"""The holder's edge: keeps copies of other hosts' held agents on disk, and gives one out when the ledger says so.

Whoever sends must be the host that the ledger names as the agent's at that epoch. What is taken is typed rows and
opaque bytes; nothing of it is opened here. The tables are those of custody's journal, in a database of their own.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from agentplatform.custody import kept as keeping
from agentplatform.custody.copies.holders import NOTHING, Answer, Copy, Shelf
from agentplatform.custody.copies.messages import (
    MAX_GROWTH_BYTES,
    Answered,
    Bound,
    Changes,
    Checkpointed,
    CopyMessage,
    Have,
    Joined,
    Op,
    Pieces,
    Refused,
    Settled,
    Unneeded,
    Whole,
    Wrote,
    check_op,
    check_whole,
)
from agentplatform.custody.kept import Kept, Rows
from agentplatform.custody.sealed import SealedDatabase, Seals, Secret
from agentplatform.parcel.manifest import Birth, code_digest
from ledger import codec
from ledger.contracts.residence import Residence
from ledger.database import Statement
from ledger.disk import Disk
from ledger.errors import PeerFault
from ledger.room import Room
from ledger.sqlite import Schema

log = logging.getLogger(__name__)

SCHEMA = Schema(
    "copies",
    2,
    (
        """CREATE TABLE copies (agent TEXT PRIMARY KEY, subject BLOB NOT NULL, source TEXT NOT NULL,
           epoch INTEGER NOT NULL, run INTEGER NOT NULL, position INTEGER NOT NULL, size INTEGER NOT NULL,
           certificate BLOB NOT NULL, init BLOB NOT NULL, code BLOB NOT NULL, luggage BLOB NOT NULL) WITHOUT ROWID""",
        # The epoch in which each agent went on from its copy here, for ever: nothing of a lower one is taken [H5].
        "CREATE TABLE served (agent TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE code (digest BLOB PRIMARY KEY, bundle BLOB NOT NULL)",
        *keeping.TABLES,
    ),
)


class Checkpoint(msgspec.Struct, frozen=True):
    """All that a restart reads of one agent."""

    certificate: bytes
    init: bytes
    luggage: bytes
    code: bytes
    rows: Rows


class _Held(msgspec.Struct, frozen=True):
    """What is known of a copy beside its position."""

    subject: bytes
    source: str  # the host that fills it
    size: int  # bytes that came since the last full copy, and that
    full: bool = True  # there is a full copy, and not pieces of the first one alone


class Vault:
    def __init__(
        self,
        database: SealedDatabase,
        send: Callable[[str, bytes], bool],
        residence: Callable[[bytes], Residence | None],
        certified: Callable[[bytes, str], Birth],
        host: str,
        most: int,
        room: Room,
    ) -> None:
        """`residence` is the ledger's, as this host knows it; `certified(certificate, sender)` opens what a host sends,
        or raises PeerFault; `most` is how many bytes one host may fill here, `room` the disk's."""
        self._database, self._send, self._residence = database, send, residence
        self._certified, self._host, self._most, self._room = certified, host, most, room
        self._kept = Kept(database)
        self.shelf = Shelf({}, {})
        self._held: dict[str, _Held] = {}
        self._used: Counter[str] = Counter()  # bytes of all copies of a source

    @classmethod
    async def open(
        cls,
        disk: Disk,
        seals: Seals,
        send: Callable[[str, bytes], bool],
        residence: Callable[[bytes], Residence | None],
        certified: Callable[[bytes, str], Birth],
        host: str,
        most: int,
    ) -> "Vault":
        database = SealedDatabase(await disk.open("copies", SCHEMA), seals)
        vault = cls(database, send, residence, certified, host, most, disk.room)
        await vault._database.write(("DELETE FROM pieces WHERE agent NOT IN (SELECT agent FROM copies)", ()))
        await vault._kept.know_pieces()
        copies = {}
        for agent, subject, source, epoch, run, position, size in await vault._database.read(
            "SELECT agent, subject, source, epoch, run, position, size FROM copies"
        ):
            copies[agent] = Copy(source, epoch, run, position)
            vault._note(agent, _Held(bytes(subject), source, size))
        vault.shelf = Shelf(copies, dict(await vault._database.read("SELECT agent, epoch FROM served")))
        return vault

    async def close(self) -> None:
        await self._database.close()

    # What comes from the agents' hosts

    def receive(self, host: str, message: CopyMessage) -> None:
        """Raises PeerFault for what must not be sent."""
        if not isinstance(message, Pieces | Whole | Changes | Unneeded):
            return
        agent, there = message.agent, self._held.get(message.agent)
        if there is not None and there.subject != message.subject:
            raise PeerFault(host, f"sent a copy of {agent} under another residence than that of the agent")
        now = self._residence(message.subject)
        if isinstance(message, Unneeded):
            if there is not None and self.shelf.copies[agent].source == host and not self._named(now):
                self.drop(agent)
            return
        if now is None or (now.host, now.epoch) != (host, message.epoch):
            where = "is in no held custody" if now is None or not now.host else f"is on {now.host}, epoch {now.epoch}"
            self._refuse(host, message, f"{agent} {where}, as this host knows the ledger")
            return
        match message:
            case Pieces():
                self._take_pieces(host, message)
            case Whole():
                self._take_whole(host, message)
            case Changes():
                self._take_changes(host, message)

    def _take_pieces(self, host: str, message: Pieces) -> None:
        size = sum(len(body) for _, body in message.pieces)
        there = self._held.get(message.agent)
        if not self._has_room(host, message, size):
            return
        if there is None:
            there = _Held(message.subject, host, 0, full=False)
            self.shelf.begin(message.agent, Copy(host, message.epoch, message.run, NOTHING))
        self._note(message.agent, msgspec.structs.replace(there, size=there.size + size))
        self._database.write(*self._kept.add_pieces(message.agent, message.pieces))

    def _take_whole(self, host: str, whole: Whole) -> None:
        birth = self._certified(whole.certificate, host)
        check_whole(whole, birth, host)
        agent = whole.agent
        self._database.seals.owned(agent, birth.owner)  # its first pieces came before, and are sealed for this host
        if whole.head is not None and self._kept.lacks(agent, whole.digests):
            self._refuse(host, whole, "pieces of the state are missing")
            return
        size = len(whole.luggage) + len(whole.code) + self._kept.state_bytes(agent)
        size += sum(len(codec.encode(each)) for each in (whole.seen, whole.sent, whole.loose))
        if not self._has_room(host, whole, size) or not self._takes(host, whole, whole=True):
            return
        self._note(agent, _Held(whole.subject, host, size))
        rows = Rows(whole.head, whole.digests, {}, whole.seen, whole.sent, whole.loose, whole.standing)
        digest = code_digest(whole.code)
        row = (agent, whole.subject, host, whole.epoch, whole.run, whole.position, size)
        self._write(
            host,
            whole,
            ("INSERT OR IGNORE INTO code VALUES (?, ?)", (digest, whole.code)),
            (
                "INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *row,
                    whole.certificate,
                    Secret(agent, f"init {agent}", whole.init),
                    digest,
                    Secret(agent, f"luggage {agent}", whole.luggage),
                ),
            ),
            *self._kept.adopt(agent, rows),
        )

    def _take_changes(self, host: str, message: Changes) -> None:
        agent = message.agent
        for op in message.ops:
            check_op(agent, op, host)
        size = sum(len(codec.encode(op)) for op in message.ops)
        there = self._held.get(agent)
        if there is not None and there.size + size > MAX_GROWTH_BYTES:
            self.shelf.spoil(agent)  # a full copy takes less
        if not self._has_room(host, message, size) or not self._takes(host, message, whole=False):
            return
        assert there is not None
        there = msgspec.structs.replace(there, size=there.size + size)
        self._note(agent, there)
        try:
            statements = [each for op in message.ops for each in _statements(self._kept, agent, op)]
        except PeerFault:
            self.shelf.spoil(agent)
            raise
        moved = ("UPDATE copies SET position = ?, size = ? WHERE agent = ?", (message.position, there.size, agent))
        self._write(host, message, moved, *statements)

    def _takes(self, host: str, message: Whole | Changes, whole: bool) -> bool:
        match self.shelf.take(message.agent, Copy(host, message.epoch, message.run, message.position), whole):
            case Answer.TAKE:
                return True
            case Answer.REFUSE:
                self._refuse(host, message, f"a later copy of {message.agent} was here")
            case Answer.HAVE:
                self._answer(host, message)
        return False

    def _answer(self, host: str, message: Whole | Changes) -> None:
        """When all is durable that was taken of it so far."""
        position = self.shelf.position(message.agent, message.epoch, message.run)
        self._when(self._database.write(), host, message, position)

    def _write(self, host: str, message: Whole | Changes, *statements: Statement) -> None:
        self._when(self._database.write(*statements), host, message, message.position)

    def _when(self, durable: "asyncio.Future[None]", host: str, message: Whole | Changes, position: int) -> None:
        have = Have(message.agent, message.subject, message.epoch, message.run, position)

        def answer(done: "asyncio.Future[None]") -> None:
            if not done.cancelled() and done.exception() is None:
                self._send(host, codec.encode(have))

        durable.add_done_callback(answer)

    def _refuse(self, host: str, message: Pieces | Whole | Changes, reason: str) -> None:
        named = (message.agent, message.subject, message.epoch, message.run, message.position)
        self._send(host, codec.encode(Refused(*named, reason)))

    def _has_room(self, host: str, message: Pieces | Whole | Changes, size: int) -> bool:
        if self._room.full is not None:
            self._refuse(host, message, f"{self._host}: {self._room.full}")
            return False
        used = self._used[host]
        if used + size <= self._most:
            return True
        self._refuse(
            host, message, f"{self._host} has {used} bytes of copies of {host}, and takes {self._most} at most"
        )
        return False

    def _note(self, agent: str, now: _Held | None) -> None:
        """What there is of the agent from now on, if anything."""
        before = self._held.pop(agent, None)
        if before is not None:
            self._used[before.source] -= before.size
        if now is not None:
            self._held[agent] = now
            self._used[now.source] += now.size

    # What the ledger says

    def sources(self) -> dict[str, list[bytes]]:
        """The hosts whose agents have copies here, and the subjects of those. Where an agent is, the ledger says: the
        host that it went to may be gone before it has sent a copy of its own."""
        found: dict[str, list[bytes]] = {}
        for agent, copy in self.shelf.copies.items():
            subject = self._held[agent].subject
            now = self._residence(subject)
            source = now.host if now is not None and self._named(now) else copy.source
            found.setdefault(source, []).append(subject)
        return found

    def subject_of(self, agent: str) -> bytes | None:
        """What the residence of an agent stands under whose copy is here."""
        held = self._held.get(agent)
        return None if held is None else held.subject

    def copies_of(self, host: str) -> tuple[bytes, ...]:
        """Full copies of agents that the ledger has with that host, and names this one for: what their residences stand
        under."""
        return tuple(
            held.subject
            for agent, held in self._held.items()
            if held.full
            and (now := self._residence(held.subject)) is not None
            and (now.host, now.epoch) == (host, self.shelf.copies[agent].epoch)
            and self._named(now)
        )

    def due(self) -> list[tuple[str, bytes, int]]:
        """Agents that the ledger gave to this host as a holder: agent, subject, epoch. Drops what nobody needs."""
        due = []
        for agent, copy in list(self.shelf.copies.items()):
            subject = self._held[agent].subject
            now = self._residence(subject)
            if now is None or now.epoch <= copy.epoch:
                continue
            if now.host == self._host and not now.transfer and self._held[agent].full:
                due.append((agent, subject, now.epoch))
            elif not self._named(now):
                self.drop(agent)
        return due

    async def check_out(self, agent: str, epoch: int) -> Checkpoint:
        """The agent goes on from here in this epoch: nothing of a lower one is taken from now on [H5]."""
        self.shelf.serve(agent, epoch)
        self._database.write(("INSERT OR REPLACE INTO served VALUES (?, ?)", (agent, epoch)))
        select = "SELECT certificate, init, luggage, bundle FROM copies JOIN code ON digest = code WHERE agent = ?"
        (found,) = await self._database.read(select, (agent,))
        read = await self._kept.rows(agent)  # nothing changes it any more
        certificate, init, luggage, code = found
        init = self._database.open(agent, f"init {agent}", init)
        return Checkpoint(certificate, init, self._database.open(agent, f"luggage {agent}", luggage), code, read)

    def drop(self, agent: str) -> None:
        """Nobody needs the copy here any more."""
        self._note(agent, None)
        self.shelf.drop(agent)
        self._database.write(
            ("DELETE FROM copies WHERE agent = ?", (agent,)),
            ("DELETE FROM code WHERE digest NOT IN (SELECT code FROM copies)", ()),
            *self._kept.forget(agent),
        )

    def _named(self, now: Residence | None) -> bool:
        return now is not None and self._host in now.holders


def _statements(kept: Kept, agent: str, op: Op) -> Iterable[Statement]:
    match op:
        case Checkpointed(change):
            return kept.checkpoint(agent, change)
        case Wrote(letter, loose):
            return [keeping.letter(letter), *(() if loose is None else (keeping.loose(loose),))]
        case Answered(receiver, sequence, answer):
            return [keeping.answered(agent, receiver, sequence, answer)]
        case Settled(receiver, upto):
            return keeping.replied(agent, receiver, upto)
        case Bound():
            return [keeping.bound(agent)]
        case Joined(standing):
            return [keeping.standing(agent, standing)]

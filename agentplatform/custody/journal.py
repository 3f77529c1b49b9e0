"""The host's custody log on disk: records in one order, and beside them the bytes that they speak of.

Parcels stay while a transfer is open and while the agent is resident: a resident agent is restarted from its last
checkpoint (agentplatform.custody.kept); when it has none, from its last parcel, which is the one of its creation, of
its arrival, or of a departure that was aborted.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, get_args

from agentplatform.custody import kept
from agentplatform.custody.kept import Kept as Store
from agentplatform.custody.kept import Rows
from agentplatform.custody.records import (
    BIRTH,
    Aborted,
    Born,
    Closed,
    Commit,
    Confirmed,
    Convert,
    Discarded,
    Ended,
    Kept,
    Outcome,
    Past,
    Prepare,
    Received,
    Record,
    Revoked,
    Withdrawn,
)
from agentplatform.custody.sealed import SealedDatabase, Seals, Secret
from agentplatform.custody.state import Custody
from agentplatform.mail import EVERYBODY, Change, Letter, Loose, Standing
from agentplatform.messages import Answer
from ledger import codec
from ledger.database import Statement
from ledger.disk import Disk
from ledger.errors import Misuse
from ledger.sqlite import Schema

_RECORD: Any = Record
_BOUND = "record"  # to what a record is sealed: it may have mail of several owners, and is the host's
COMPACT_RECORDS = 4096  # after so many the log is due to be shortened: a start reads and folds them in about 50 ms

SCHEMA = Schema(
    "custody",
    6,
    (
        "CREATE TABLE records (position INTEGER PRIMARY KEY, kind TEXT NOT NULL, transfer BLOB, body BLOB NOT NULL)",
        # Finished transfers, for ever: no id is taken twice, and a late question gets its answer.
        "CREATE TABLE past (transfer BLOB PRIMARY KEY, outcome TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE parcels (agent TEXT NOT NULL, epoch INTEGER NOT NULL, transfer BLOB NOT NULL,
           body BLOB NOT NULL, UNIQUE (agent, transfer))""",
        "CREATE INDEX parcels_of ON parcels (transfer)",
        # Which file of the spool has the state of a parcel, if the parcel has only a table of its pieces.
        "CREATE TABLE spooled (agent TEXT NOT NULL, transfer BLOB NOT NULL, file TEXT, UNIQUE (agent, transfer))",
        "CREATE TABLE code (digest BLOB PRIMARY KEY, bundle BLOB NOT NULL)",
        *kept.TABLES,
    ),
)

# The files of the spool that parcels and checkpoints name.
FILES = """
SELECT file FROM spooled WHERE file IS NOT NULL AND (agent, transfer) IN (SELECT agent, transfer FROM parcels)
UNION SELECT file FROM states WHERE file IS NOT NULL
"""


class Journal:
    """Writes are queued at once, in the order of the calls, and durable when their future is done."""

    def __init__(self, database: SealedDatabase) -> None:
        self.kept = Store(database)
        self._database = database
        # A checkpoint is durable that names this file of the spool; None: in place of one that named one.
        self.named: Callable[[str | None], None] = lambda file: None
        self._lazy: list[Statement] = []  # what is written with the next transaction, since nothing waits for it
        self._told: list[asyncio.Future[None]] = []  # done when all that is durable
        self._since_compacted = 0
        self._due_at = COMPACT_RECORDS

    @classmethod
    async def open(cls, disk: Disk, seals: Seals) -> "Journal":
        """Raises Misuse for a database that is none of ours, or corrupt."""
        return cls(SealedDatabase(await disk.open("custody", SCHEMA), seals))

    async def close(self) -> None:
        self.flush()
        await self._database.close()

    def owned(self, agent: str, owner: bytes) -> None:
        """What is written of the agent from now on is sealed for this owner. After a restart what is read tells."""
        self._database.seals.owned(agent, owner)

    # Records

    def write(
        self,
        record: Record,
        parcels: Sequence[bytes] = (),
        files: Mapping[str, str] = MappingProxyType({}),
        parent: str | None = None,
    ) -> "asyncio.Future[None]":
        """One transaction: the record, with Born, Prepare, Convert and Received the agents' bytes (in the order of the
        cargo), and the removal of what it makes needless. `files`: by agent, where its state lies in the spool. Who was
        Born as the clone of `parent` begins with the last checkpoint of that.

        Closed is written with what is written next: without it the notice is sent again, and answered again."""
        self._since_compacted += 1
        spooled = [
            ("INSERT OR REPLACE INTO spooled VALUES (?, ?, ?)", (agent, getattr(record, "transfer", BIRTH), file))
            for agent, file in files.items()
        ]
        copied = self.kept.copy(parent, record.agent) if isinstance(record, Born) and parent is not None else ()
        beside = (*_store(record, parcels), *spooled, *copied, *_numbers(record))
        statements = (_insert(record), *beside, *self._clean(record))
        if not isinstance(record, Closed):
            return self._write(*statements)
        self._lazy += statements
        self._told.append(asyncio.get_running_loop().create_future())
        return self._told[-1]

    def _write(self, *statements: Statement) -> "asyncio.Future[None]":
        lazy, self._lazy = self._lazy, []
        told, self._told = self._told, []
        durable = self._database.write(*lazy, *statements)
        for future in told:
            durable.add_done_callback(partial(copy_outcome, future=future))
        return durable

    async def load(self) -> list[Record]:
        """All records, for Handoff.recover. The disk has synced them before it lets them be read [L2]."""
        past = await self._database.read("SELECT transfer, outcome FROM past")
        bodies = await self._database.read("SELECT body FROM records ORDER BY position")
        self._since_compacted = len(bodies)
        records: list[Record] = [Past(transfer, outcome) for transfer, outcome in past]
        records += [
            codec.decode(self._database.open("", _BOUND, body), _RECORD, "the custody journal") for (body,) in bodies
        ]
        return records

    async def parcel(self, transfer: bytes, agent: str) -> bytes:
        """The bytes that were written for `agent` with the PREPARE or RECEIVED of `transfer`, or at BIRTH."""
        rows = await self._database.read("SELECT body FROM parcels WHERE agent = ? AND transfer = ?", (agent, transfer))
        if not rows:
            origin = f"handoff {transfer.hex()}" if transfer else "its birth"
            raise Misuse(
                f"the custody journal has no parcel of {agent} for {origin}; "
                "its file was changed from outside: stop the host and restore a backup"
            )
        return self._database.open(agent, _of_parcel(agent, transfer), rows[0][0])

    async def file(self, transfer: bytes, agent: str) -> str:
        """Where the state of that parcel lies in the spool."""
        select = "SELECT file FROM spooled WHERE agent = ? AND transfer = ?"
        rows = await self._database.read(select, (agent, transfer))
        return str(rows[0][0]) if rows else ""

    async def files(self) -> set[str]:
        """Of all parcels and checkpoints that are kept."""
        await self._write(
            ("DELETE FROM spooled WHERE (agent, transfer) NOT IN (SELECT agent, transfer FROM parcels)", ())
        )
        return {file for (file,) in await self._database.read(FILES)}

    @property
    def due(self) -> bool:
        """Enough was written that shortening the log pays."""
        return self._since_compacted >= self._due_at

    def compact(self, machine: Custody) -> "asyncio.Future[None]":
        """Puts a short log in the place of the long one. Call it when every Write of the last step was handed over.

        Nothing is forgotten that a late message may ask for: finished transfers' ids and outcomes, every agent's
        highest epoch and where it went.
        """
        summary = machine.summary()
        self._since_compacted = 0
        self._due_at = max(COMPACT_RECORDS, 2 * len(summary))
        return self._write(
            (
                f"INSERT OR IGNORE INTO past SELECT transfer, kind FROM records WHERE kind IN {get_args(Outcome)}",
                (),
            ),
            ("DELETE FROM records", ()),
            *(_insert(record) for record in summary),
        )

    def adopt(self, agent: str, rows: Rows) -> "asyncio.Future[None]":
        """All of a checkpoint that was kept elsewhere, for an agent that goes on here."""
        return self._write(*self.kept.adopt(agent, rows))

    # Code bundles, by digest

    def put_code(self, digest: bytes, bundle: bytes) -> "asyncio.Future[None]":
        return self._write(("INSERT OR IGNORE INTO code VALUES (?, ?)", (digest, bundle)))

    async def get_code(self, digest: bytes) -> bytes | None:
        rows = await self._database.read("SELECT bundle FROM code WHERE digest = ?", (digest,))
        return bytes(rows[0][0]) if rows else None

    # What is kept of the agents that live here

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        """Raises PeerFault for a state that no honest worker sends."""
        before = self.kept.files.get(agent)
        durable = self._write(*self.kept.checkpoint(agent, change))
        file = self.kept.files.get(agent)
        if file != before:
            durable.add_done_callback(lambda done: self.named(file) if _succeeded(done) else None)
        return durable

    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        """With `loose` when it leaves before the state that knows of it."""
        return self._write(kept.letter(letter), *(() if loose is None else (kept.loose(loose),)))

    def keep_answer(self, agent: str, receiver: str, sequence: int, answer: Answer) -> None:
        """To a loose letter. Written with what is written next."""
        self._lazy.append(kept.answered(agent, receiver, sequence, answer))

    def reserve_numbers(self, agent: str, receiver: str, upto: int) -> "asyncio.Future[None]":
        """Letters up to this number may have left, and none of them is kept."""
        return self._write(*kept.replied(agent, receiver, upto))

    def drop_loose(self, agent: str) -> None:
        """None of its letters is loose any more. Written with what is written next."""
        self._lazy.append(kept.bound(agent))

    def drop_letters(self, agent: str, receiver: str, upto: int) -> None:
        """All letters to `receiver` up to this number were replied to. Written with what is written next."""
        self._lazy += kept.replied(agent, receiver, upto)

    def sleep(self, agent: str, until: float | None) -> "asyncio.Future[None]":
        """It is deactivated, until then (seconds since 1970) or until it is woken."""
        row = agent, None if until is None else int(until * 1000)
        return self._write(("INSERT OR REPLACE INTO asleep VALUES (?, ?)", row))

    def wake(self, agent: str) -> "asyncio.Future[None]":
        """It is deactivated no more."""
        return self._write(("DELETE FROM asleep WHERE agent = ?", (agent,)))

    def keep_standing(self, agent: str, standing: Standing) -> None:
        """What it belongs to now. Written with what is written next."""
        self._lazy.append(kept.standing(agent, standing))

    def replicated(self, agent: str) -> bool:
        """The journal alone is on this host alone (agentplatform.custody.copies.replication)."""
        return False

    def keep_end(self, agent: str, at: int) -> None:
        """It ended here, `at` milliseconds since 1970. Written with what is written next."""
        self._lazy.append(kept.end(agent, at))

    def flush(self) -> "asyncio.Future[None] | None":
        """Nothing else was written for a while."""
        return self._write() if self._lazy else None

    async def settled(self) -> None:
        """Until all that was queued by now is durable."""
        await self._database.read("SELECT 1")

    def _clean(self, record: Record) -> list[Statement]:
        """Removes what no recovery from here on can need."""
        match record:
            case Commit(_, cargo):  # unanswered letters went with the agent's luggage
                return [statement for load in cargo for statement in self.kept.forget(load.agent)]
            case Closed(_, cargo):  # a copy that came back has a higher epoch
                return [
                    ("DELETE FROM parcels WHERE agent = ? AND epoch <= ?", (load.agent, load.epoch)) for load in cargo
                ]
            case Aborted(transfer, cargo) | Withdrawn(transfer, cargo) | Kept(transfer, cargo):
                # The agent stays, and is restarted from this parcel until a checkpoint.
                others = "DELETE FROM parcels WHERE agent = ? AND transfer != ?"
                return [
                    *((others, (load.agent, transfer)) for load in cargo),
                    *(statement for load in cargo for statement in self.kept.forget_state(load.agent)),
                ]
            case Discarded(transfer):
                return [("DELETE FROM parcels WHERE transfer = ?", (transfer,))]
            case Revoked(agent, epoch):
                parcels = "DELETE FROM parcels WHERE agent = ? AND epoch <= ?", (agent, epoch)
                return [parcels, *self.kept.forget(agent)]
            case Ended(agent):
                return [("DELETE FROM parcels WHERE agent = ?", (agent,)), *self.kept.forget(agent)]
        return []


def copy_outcome(done: "asyncio.Future[Any]", future: "asyncio.Future[None]") -> None:
    """To a future that waits for no more than the end of `done`, unless it was given up."""
    if future.done():
        return
    if done.cancelled():
        future.cancel()
    elif (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(None)


def _succeeded(done: "asyncio.Future[None]") -> bool:
    return not done.cancelled() and done.exception() is None


def _numbers(record: Record) -> list[Statement]:
    """What a lost life may have used is never used again, to whomever."""
    return kept.replied(record.agent, EVERYBODY, record.floor) if isinstance(record, Confirmed) else []


def _insert(record: Record) -> Statement:
    return (
        "INSERT INTO records (kind, transfer, body) VALUES (?, ?, ?)",
        (type(record).__name__, getattr(record, "transfer", None), Secret("", _BOUND, codec.encode(record))),
    )


def _store(record: Record, parcels: Sequence[bytes]) -> list[Statement]:
    match record:
        case Prepare(transfer, _, cargo) | Received(transfer, _, cargo) | Convert(transfer, cargo):
            owners = [(load.agent, load.epoch, transfer) for load in cargo]
        case Born(agent, epoch):
            owners = [(agent, epoch, BIRTH)]
        case _:
            owners = []
    if len(owners) != len(parcels):
        raise Misuse(f"{type(record).__name__} has {len(owners)} agents and {len(parcels)} parcels; give one for each")
    return [
        (
            "INSERT OR REPLACE INTO parcels VALUES (?, ?, ?, ?)",
            (agent, epoch, transfer, Secret(agent, _of_parcel(agent, transfer), parcel)),
        )
        for (agent, epoch, transfer), parcel in zip(owners, parcels, strict=True)
    ]


def _of_parcel(agent: str, transfer: bytes) -> str:
    return f"parcel {agent} {transfer.hex()}"

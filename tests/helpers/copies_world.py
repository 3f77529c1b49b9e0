"""A held agent's host, its holders and a ledger, on a virtual clock: links that break, holders that crash, a host that
is started again, and in the end a host that is lost. Replication, Journal and Vault are those of production.
"""

import asyncio
from random import Random
from typing import Any

from agentplatform.custody.copies.holders import Candidate
from agentplatform.custody.copies.messages import decode as decode_copy
from agentplatform.custody.copies.origins import Origins
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.copies.vault import Vault
from agentplatform.custody.events import Created
from agentplatform.custody.held import Held
from agentplatform.custody.journal import Journal
from agentplatform.custody.records import Beginning
from agentplatform.custody.residences import subject_of
from agentplatform.mail import Change, Letter, Reply, Seen
from agentplatform.messages import Captured
from agentplatform.parcel.manifest import Birth, code_digest, give_birth, open_birth
from agentplatform.parcel.spool import MemorySpool
from agentplatform.settings import Holders
from ledger import codec
from ledger.contracts.residence import Hold, Residence
from ledger.errors import Misuse, Unavailable
from ledger.identity import Identity
from ledger.memory_disk import MemoryDisk
from tests.helpers.sealing import seals

OWNER = Identity(b"owner".ljust(32, b"."))
CODE = b"the code"
HOME, HOLDERS = "home", ("east", "south", "west")
ROOM = 1 << 20


def born(name: str = "held") -> tuple[Birth, bytes]:
    raw = give_birth(name, OWNER, bytes(16), code_digest(CODE), "module:Class", False, "held")
    return open_birth(raw, "test"), raw


class Lost(AssertionError):
    """What was let out is not in the copy that the agent goes on from."""


class World:
    replication: type[Replication] = Replication
    vault: type[Vault] = Vault

    def __init__(self, random: Random, wanted: int = 1) -> None:
        self.random, self.settings = random, Holders(copies=wanted, patience=5.0, room=ROOM)
        self.birth, self.certificate = born()
        self.subject = subject_of(OWNER.public, self.birth.agent)
        self.entry = Residence(OWNER.public, 0, HOME, (), 1)
        self.cut: set[str] = set()
        self.shut: set[str] = set()  # that say that they are closed
        self.stopped: set[str] = set()  # their links stay, and nothing comes of what is sent
        self.quorum = True
        self.disks = {host: MemoryDisk() for host in (HOME, *HOLDERS)}
        self.vaults: dict[str, Vault] = {}
        self.run = 0
        self.done = 0  # changes so far
        self.released = 0  # those whose release was let out

    async def boot(self) -> None:
        for host in HOLDERS:
            await self.start_holder(host)
        await self.start_home()

    # The hosts

    async def start_holder(self, host: str) -> None:
        certified = lambda raw, sender: open_birth(raw, sender)  # noqa: E731
        answer = lambda to, raw: self._carry(host, raw)  # noqa: E731
        self.vaults[host] = await self.vault.open(self.disks[host], seals(), answer, self.find, certified, host, ROOM)

    async def crash_holder(self, host: str) -> None:
        self.disks[host].crash()
        await self.start_holder(host)

    async def start_home(self) -> None:
        self.run += 1
        self.journal = await Journal.open(self.disks[HOME], seals())
        records = await self.journal.load()
        self.machine, _ = Held.recover(HOME, records)
        if not records:
            self.journal.put_code(self.birth.code, CODE)
            for effect in self.machine.step(Created(self.birth.agent, self.subject)):
                self.journal.write(effect.record, (codec.encode(Beginning(self.certificate, b"init")),))  # type: ignore[union-attr]
        run = self.run
        origins = Origins(self.journal, MemorySpool(), self.machine)
        self.here = self.replication(HOME, "org", self.journal, self, self, self.settings, lambda: run, origins.of)
        self.here.begin(self.birth, 0, self.subject)

    async def restart_home(self) -> None:
        self.here.end(self.birth.agent)
        self.disks[HOME].crash()
        self.done = max(self.released, self.done)  # numbers are not used again
        await self.start_home()

    # Around, and Ledger

    def send_copy(self, host: str, message: bytes) -> bool:
        if host in self.cut:
            return False
        asyncio.get_running_loop().call_later(0.01, self._deliver, host, message)
        return True

    def _deliver(self, host: str, message: bytes) -> None:
        if host not in self.cut | self.stopped:
            self.vaults[host].receive(HOME, decode_copy(message, HOME))

    def _carry(self, host: str, raw: bytes) -> bool:
        if host not in self.cut:
            asyncio.get_running_loop().call_later(0.01, self._answer, host, raw)
        return host not in self.cut

    def _answer(self, host: str, raw: bytes) -> None:
        if host not in self.cut:
            self.here.receive(host, decode_copy(raw, host))

    def candidates(self) -> list[Candidate]:
        return [Candidate(host, host) for host in HOLDERS if self.answers(host) and self.takes(host)]

    def trusted(self, host: str) -> bool:
        return True

    def linked(self, host: str) -> bool:
        return host not in self.cut

    def takes(self, host: str) -> bool:
        return host not in self.shut

    def answers(self, host: str) -> bool:
        return host not in self.cut | self.stopped

    def find(self, subject: bytes) -> Residence | None:
        return self.entry if subject == self.subject else None

    async def submit(self, action: Any) -> None:
        await asyncio.sleep(self.random.choice([0.02, 0.5]))
        if not self.quorum:
            raise Unavailable("there is no quorum")
        if not isinstance(action, Hold) or self.entry.host != HOME:
            raise Misuse("too late")
        self.entry = Residence(OWNER.public, 0, HOME, action.holders, self.entry.height + 1)

    # What the agent does

    def work(self) -> None:
        """It handles a message: a new state, an answer, and a letter, which leave when they may."""
        self.done += 1
        number, agent = self.done, self.birth.agent
        state = Captured(str(number).encode(), (), ())
        reply = Reply(agent, "client", number, HOME, True, b"")
        letter = Letter(agent, 0, number, 0, "other-0000000000000000", HOME, "kind", b"")
        change = Change(state, [Seen("client", number, 0, reply)], (), [letter])
        self.here.checkpoint(agent, change).add_done_callback(lambda done: self._left(number, done))

    def _left(self, number: int, done: "asyncio.Future[None]") -> None:
        if not done.cancelled() and done.exception() is None and self.here.may_leave(self.birth.agent):
            self.released = max(self.released, number)

    # What happens

    def cut_off(self, host: str) -> None:
        self.cut.add(host)

    def mend(self, host: str) -> None:
        if host in self.cut:
            self.cut.discard(host)
            self.here.linked(host)

    async def step(self) -> None:
        host = self.random.choice(HOLDERS)
        act = self.random.choices(
            ["work", "wait", "cut", "mend", "crash", "restart", "quorum", "remind"], [8, 8, 1.5, 2, 0.7, 0.4, 0.5, 2]
        )[0]
        match act:
            case "work":
                self.work()
            case "wait":
                await asyncio.sleep(self.random.choice([0.005, 0.03, 0.3, 2.0]))
            case "cut":
                self.cut_off(host)
            case "mend":
                self.mend(host)
            case "crash":
                await self.crash_holder(host)
                self.here.linked(host)
            case "restart":
                await self.restart_home()
            case "quorum":
                self.quorum = not self.quorum
            case "remind":
                self.here.remind()

    async def lose(self, heir: str) -> int:
        """The host is gone; the ledger gives the agent to `heir`. Returns from where it goes on."""
        released = self.released
        self.entry = Residence(OWNER.public, 1, heir, (), self.entry.height + 1)
        ((agent, _, epoch),) = self.vaults[heir].due()
        found = await self.vaults[heir].check_out(agent, epoch)
        position = int(found.rows.head or b"0")
        kept = {sequence for _, sequence, letter in found.rows.sent if letter is not None}
        handled = max((seen.sequence for seen in found.rows.seen), default=0)
        if min(position, handled, max(kept, default=0)) < released or found.code != CODE:
            raise Lost(f"{released} left, and the agent goes on from {position}, handled {handled}")
        for _ in range(5):  # the old host does not know yet, and goes on for a while
            self.work()
            self.here.remind()
            await asyncio.sleep(0.5)
        if self.released > released and self.released > position:
            raise Lost(f"{self.released} left after the agent had gone on from {position}")
        return position


async def live(world: World, steps: int) -> None:
    """A life, and its end."""
    await world.boot()
    for _ in range(steps):
        await world.step()
    if world.entry.holders:
        await world.lose(world.random.choice(world.entry.holders))
    world.here.end(world.birth.agent)

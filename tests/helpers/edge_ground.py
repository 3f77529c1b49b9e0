"""What hosts at the edge of custody stand on (tests.helpers.edge_host): links and disks that wait for the world to move
them, and the journal and the mailroom of production, which note what is durable and what may leave.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, cast

from agentplatform.custody.journal import Journal
from agentplatform.custody.records import Record
from agentplatform.custody.state import Custody
from agentplatform.mail import Change, Letter, Loose, Luggage
from agentplatform.mailroom.roads import Roads
from agentplatform.mailroom.room import Mailroom
from agentplatform.parcel.spool import MemorySpool
from agentplatform.replay import Replay
from agentplatform.settings import Handoff as Deadlines
from ledger.links.base import Channel, Passport
from ledger.links.memory import Hub
from ledger.memory_disk import MemoryDisk
from tests.helpers.linked_hosts import identity
from tests.helpers.residence_twin import Entries, Lease
from tests.helpers.runner_twin import Runs
from tests.helpers.virtual_history import Chronicle

PATIENCE = 600.0  # seconds: what waits in these tests waits for events, not for time


class HeldHub(Hub):
    """Messages wait on their pipes until the world delivers them."""

    def carry(self, source: str, target: str, channel: Channel, message: bytes) -> None:
        if not self.drops(source, target, channel, message):
            self.pipes[source, target].append((channel, message))

    def waiting(self) -> list[tuple[str, str]]:
        return sorted(ends for ends, pipe in self.pipes.items() if pipe)

    def deliver(self, ends: tuple[str, str]) -> None:
        self._deliver(*ends, self.pipes[ends])


class HeldDisk(MemoryDisk):
    def __init__(self) -> None:
        super().__init__(hold=True)

    def dirty(self) -> bool:
        return self.room.full is None and any(database._waiting for database in self._open.values())


class WatchedJournal(Journal):
    """Knows what is durable."""

    durable: Custody
    seen: list[Record]  # what became durable since the start
    promised: set[tuple[str, str, str, int]]  # what agents sent that may leave: kind, agent, receiver, sequence

    async def load(self) -> list[Record]:
        loaded = await super().load()
        self.durable, self.seen, self.promised = Custody(""), [], set()
        for record in loaded:
            self._note(record)
        return loaded

    def write(self, record: Record, *rest: Any, **more: Any) -> "asyncio.Future[None]":
        future = super().write(record, *rest, **more)
        future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else self._note(record))
        return future

    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        return self._keep([letter_key(letter)], super().keep_letter(letter, loose))

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        keys = [letter_key(letter) for letter in change.letters]
        keys += [("reply", agent, seen.sender, seen.sequence) for seen in change.seen]
        return self._keep(keys, super().checkpoint(agent, change))

    def _keep(self, keys: list[tuple[str, str, str, int]], future: "asyncio.Future[None]") -> "asyncio.Future[None]":
        future.add_done_callback(lambda done: done.cancelled() or done.exception() or self.promised.update(keys))
        return future

    def _note(self, record: Record) -> None:
        self.seen.append(record)
        self.durable.apply(record)
        self.durable.sink(record)


def letter_key(letter: Letter) -> tuple[str, str, str, int]:
    return "letter", letter.sender, letter.receiver, letter.sequence


class WatchedMailroom(Mailroom):
    def admit(
        self, agent: str, epoch: int, luggage: Luggage, waiting: Iterable[Letter] = (), replay: Replay | None = None
    ) -> None:
        """What an agent brings was written where it was sent, or came in a parcel that was."""
        promised = cast(WatchedJournal, self._outbox).promised
        promised |= {letter_key(each) for sent in luggage.sent.values() for each in sent.letters}
        promised |= {
            ("reply", agent, sender, each.sequence)
            for sender, memory in luggage.senders.items()
            for each in memory.replies
        }
        super().admit(agent, epoch, luggage, waiting, replay)


class Ground:
    """What the hosts of one world share and stand on."""

    def __init__(
        self,
        names: Sequence[str],
        deadlines: Deadlines,
        journal: type[WatchedJournal],
        mailroom: type[WatchedMailroom],
        roads: type[Roads],
        policy: str,
    ) -> None:
        """`policy` is the `checkpoint` of all agents: "message" or "hop"."""
        self.journal, self.mailroom, self.roads, self.policy = journal, mailroom, roads, policy
        self.index = 0  # of the next event
        self.now = 0.0  # seconds by the clock of the mail, which stands still unless a test moves it
        self.names, self.deadlines = names, deadlines
        self.hub = HeldHub()
        self.entries, self.lease = Entries(), Lease()
        self.disks = {name: HeldDisk() for name in names}
        self.spools = {name: MemorySpool() for name in names}
        self.registry = {name: Passport(name, f"org-{name}", identity(name).public, "") for name in names}
        self.broken: list[str] = []  # promises that were not kept
        self.chronicle = Chronicle(lambda: self.index)
        self.runs = Runs(self.broken, self.chronicle)
        self.refuses: dict[str, dict[str, str]] = {name: {} for name in names}  # host -> agent -> why it opens it not
        self.restored: set[str] = set()  # agents that a restart found on offer: they must hear that the move failed

    def wall(self) -> int:
        return 1_700_000_000_000

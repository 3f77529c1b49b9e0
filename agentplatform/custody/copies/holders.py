"""Holders: other hosts that have an agent's checkpoint, so that it comes back when its own host is gone. Pure.

    host of the agent                             holder
      a change is written, numbered         -->     takes the next number only, writes it
      what rests on it leaves, when                 Have: durable up to here
      every holder has it                   <--

The ledger names the holders (ledger.contracts.residence). A new one has a full copy before the ledger names it: whoever
is named can go on with the agent. From submitting a change of holders until its outcome is known, a release needs the
old and the new ones. A holder that has served a later epoch takes nothing of a lower one [H5].
"""

from collections.abc import Collection, Iterable, Mapping
from enum import Enum

import msgspec

from ledger import codec

NOTHING = -1  # the position of a holder that has no copy which could be continued
_DOMAIN = "agentplatform/holders"


class Copies:
    """The side of the agent's host, for one agent."""

    def __init__(self, wanted: int, position: int = 0) -> None:
        """`wanted`: how many holders there should be; with 0 nothing is waited for. `position` is not used again."""
        self.wanted = wanted
        self.position = position  # of the newest change
        self.named: tuple[str, ...] = ()  # by the ledger
        self.proposed: tuple[str, ...] | None = None  # submitted, and the outcome is not known
        self._whole = position + 1  # a copy that began before this position is of no use
        self._has: dict[str, int] = {}
        self._left = NOTHING  # what rests on changes up to here may have left

    def changed(self) -> int:
        """The position of one more change."""
        self.position += 1
        return self.position

    def renewed(self) -> int:
        """The agent has another state than its changes lead to, or another epoch: every holder needs a full copy."""
        self._whole = self.changed()
        self._has.clear()
        return self._whole

    def has(self, host: str, position: int) -> None:
        """`host` says what is durable there; NOTHING: no copy. What it cannot have does not count."""
        if position == NOTHING:
            self._has.pop(host, None)
        elif self._whole <= position <= self.position:
            self._has[host] = max(position, self._has.get(host, NOTHING))
        self._left = max(self._left, self.safe)

    def at(self, host: str) -> int:
        return self._has.get(host, NOTHING)

    # Changes of holders

    def ready(self, holders: tuple[str, ...]) -> bool:
        """Whether these may be proposed: the agent could go on with each of them from all that has left."""
        return self.proposed is None and all(self.at(host) >= max(self._left, self._whole) for host in holders)

    def propose(self, holders: tuple[str, ...]) -> None:
        """Call it before the ledger is asked, for holders that are ready."""
        self.proposed = holders

    def decided(self, holders: tuple[str, ...]) -> None:
        """The outcome is known: the ledger names these."""
        self.named, self.proposed = holders, None
        self._left = max(self._left, self.safe)

    @property
    def required(self) -> tuple[str, ...]:
        """Those that must have what a release rests on."""
        return tuple(dict.fromkeys((*self.named, *(self.proposed or ()))))

    @property
    def complete(self) -> bool:
        """Every holder has a full copy."""
        return self.safe >= self._whole

    @property
    def safe(self) -> int:
        """What rests on changes up to this position may leave."""
        if not self.named:
            return NOTHING if self.wanted else self.position
        return min(map(self.at, self.required))

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Holders that do not have all."""
        return tuple(host for host in self.required if self.at(host) < self.position)


class Copy(msgspec.Struct, frozen=True):
    """What a holder has of an agent."""

    source: str  # the agent's host
    epoch: int
    run: int  # of the source: its incarnation
    position: int


class Answer(Enum):
    TAKE = 1  # and say so when it is durable
    HAVE = 2  # say what is there: it is a repeat, or something is missing before it
    REFUSE = 3  # it is of a copy that is out of date


class Shelf:
    """The side of the holder, for all agents."""

    def __init__(self, copies: Mapping[str, Copy], served: Mapping[str, int]) -> None:
        """As they were kept: `served` is the highest epoch that each agent lived through on this host."""
        self.copies, self._served = dict(copies), dict(served)

    def take(self, agent: str, change: Copy, whole: bool) -> Answer:
        """A change, or a full copy, of whom the ledger names as the agent's host at that epoch. If it is to be taken,
        it is on its way to the disk from now on."""
        if change.epoch < self._served.get(agent, 0):
            return Answer.REFUSE
        there = self.copies.get(agent)
        if there is not None and (change.epoch, change.run) < (there.epoch, there.run):
            return Answer.REFUSE
        same = there is not None and (change.epoch, change.run) == (there.epoch, there.run)
        if there is not None and same:
            fits = change.position > there.position if whole else change.position == there.position + 1
        else:
            fits = whole
        if not fits:
            return Answer.HAVE
        self.copies[agent] = change
        return Answer.TAKE

    def position(self, agent: str, epoch: int, run: int) -> int:
        """What there is of that epoch and run."""
        there = self.copies.get(agent)
        return there.position if there is not None and (there.epoch, there.run) == (epoch, run) else NOTHING

    def serve(self, agent: str, epoch: int) -> None:
        """The agent goes on from the copy here, in this epoch: from now on no lower one is served. To be durable before
        the copy is read."""
        self._served[agent] = max(epoch, self._served.get(agent, 0))

    def begin(self, agent: str, copy: Copy) -> None:
        """Something comes ahead of the first full copy."""
        self.copies.setdefault(agent, copy)

    def spoil(self, agent: str) -> None:
        """Only a full copy can follow. Until then what is there is kept."""
        self.copies[agent] = msgspec.structs.replace(self.copies[agent], position=NOTHING)

    def drop(self, agent: str) -> None:
        self.copies.pop(agent, None)


class Candidate(msgspec.Struct, frozen=True):
    """A host that is trusted, has a link and has room."""

    host: str
    organisation: str


def choose(
    agent: str, wanted: int, keep: Collection[str], candidates: Iterable[Candidate], organisation: str, elsewhere: bool
) -> tuple[str, ...]:
    """Who shall hold the checkpoint of an agent that lives with `organisation`: those of `keep` first, then others.

    Hosts of other organisations come first, with `elsewhere` alone; among equals each agent has an order of its own, so
    that the copies are spread. May be fewer than `wanted`.
    """
    chosen: list[Candidate] = []
    left = [each for each in candidates if not elsewhere or each.organisation != organisation]
    while left and len(chosen) < wanted:
        taken = {organisation, *(each.organisation for each in chosen)}
        best = min(
            left,
            key=lambda each: (
                each.host not in keep,
                each.organisation in taken,
                codec.digest(_DOMAIN, agent.encode(), each.host.encode()),
            ),
        )
        left.remove(best)
        chosen.append(best)
    return tuple(each.host for each in chosen)

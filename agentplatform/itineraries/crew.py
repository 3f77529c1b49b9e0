"""A master and its workers: who has which part of the work, and what is done when a worker fails. Pure."""

from typing import Any, NamedTuple, Self

import msgspec
from msgspec.structs import force_setattr, replace

from agentplatform.itineraries.route import Where, host_of, is_name, set_tuple

MAX_TRIES = 100


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a part."""

    worker: str  # who answered for it last; "" when nobody was left
    value: Any = None
    error: str = ""


# What happens


class Start(NamedTuple):
    pass


class Answered(NamedTuple):
    worker: str
    value: Any


class Refused(NamedTuple):
    """The worker could not do the part, and can do others."""

    worker: str
    reason: str


class Lost(NamedTuple):
    """The worker did not answer in time, or has ended, or does not reach its host: it gets no more work."""

    worker: str
    reason: str


Event = Start | Answered | Refused | Lost


class Ask(NamedTuple):
    """To be done: let the worker do the part, on the host."""

    worker: str
    where: Where
    part: int


class MasterWorkers(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag="master-workers"):
    """Each worker goes to its host and does one part after the other there. A part that its worker failed goes to the
    next that is free, behind the parts that wait, up to `tries` times in all.

    Raises ValueError without workers or parts.
    """

    workers: tuple[tuple[str, Where], ...]  # ids of agents, and the hosts that they go to
    parts: tuple[Any, ...]  # plain data
    patience: float = 60.0  # seconds for one part and the way there; whose answer takes longer is lost
    tries: int = 3
    waiting: tuple[int, ...] | None = None  # parts that nobody has; None: not begun
    busy: dict[str, int] = {}  # worker -> part
    lost: dict[str, str] = {}  # worker -> why
    failures: dict[int, int] = {}  # part -> how often
    outcomes: dict[int, Outcome] = {}  # of parts that are done or given up

    def __post_init__(self) -> None:
        workers = tuple(tuple(each) if isinstance(each, list | tuple) else () for each in set_tuple(self, "workers"))
        if not workers or not all(
            len(each) == 2 and is_name(each[0]) and is_name(host_of(each[1])) for each in workers
        ):
            raise ValueError(f"workers are pairs of an id and a host, at least one, not {self.workers!r:.60}")
        if len({worker for worker, _ in workers}) != len(workers):
            raise ValueError("each worker stands in the list once")
        if not set_tuple(self, "parts"):
            raise ValueError("there is no work without parts: give a list of at least one")
        if not self.patience > 0 or not 1 <= self.tries <= MAX_TRIES:
            raise ValueError(f"patience is above 0 s, and a part is tried 1 to {MAX_TRIES} times")
        force_setattr(self, "workers", workers)

    @property
    def over(self) -> bool:
        return len(self.outcomes) == len(self.parts)

    def results(self) -> list[Outcome]:
        """Of all parts, in their order, when it is over."""
        return [self.outcomes[part] for part in range(len(self.parts))]

    def step(self, event: Event) -> tuple[Self, list[Ask]]:
        """The crew after the event, and who is asked for what now. What an idle worker says changes nothing."""
        if isinstance(event, Start):
            begun = self if self.waiting is not None else replace(self, waiting=tuple(range(len(self.parts))))
            return begun._assign()
        part = self.busy.get(event.worker)
        if part is None:
            return self, []
        after = replace(self, busy={worker: each for worker, each in self.busy.items() if worker != event.worker})
        if isinstance(event, Answered):
            after = after._settled(part, Outcome(event.worker, event.value))
        else:
            after = after._failed(part, event)
        return after._assign()

    def _failed(self, part: int, event: Refused | Lost) -> Self:
        failures = self.failures.get(part, 0) + 1
        after = replace(self, failures=self.failures | {part: failures})
        if isinstance(event, Lost):
            after = replace(after, lost=self.lost | {event.worker: event.reason})
        if failures == self.tries:
            return after._settled(part, Outcome(event.worker, None, event.reason))
        return replace(after, waiting=(*(after.waiting or ()), part))

    def _settled(self, part: int, outcome: Outcome) -> Self:
        return replace(self, outcomes=self.outcomes | {part: outcome})

    def _assign(self) -> tuple[Self, list[Ask]]:
        free = [each for each in self.workers if each[0] not in self.busy and each[0] not in self.lost]
        waiting = self.waiting or ()
        if len(self.lost) == len(self.workers):
            why = f"no worker is left; the last words: {list(self.lost.values())[-1]}"
            left = {part: Outcome("", None, why) for part in waiting}
            return replace(self, waiting=(), outcomes=self.outcomes | left), []
        asks = [Ask(worker, where, part) for (worker, where), part in zip(free, waiting, strict=False)]
        busy = self.busy | {ask.worker: ask.part for ask in asks}
        return replace(self, waiting=waiting[len(asks) :], busy=busy), asks

"""What all itineraries share: stops, what became of them, and stepping from one to the next. Pure.

An itinerary is a value: `step` returns the one after an event, and what the agent is to do next. The same event on the
same value says the same: an agent that goes on from its last checkpoint goes on with its itinerary too.
"""

from collections.abc import Sequence as Items
from typing import Any, Literal, NamedTuple, Self

import msgspec
from msgspec.structs import force_setattr, replace

from agentplatform.ticket import Ticket

Where = str | Ticket
"""A host, by its name or on the terms of a Ticket: that also says how often and how long a move is tried."""


class Visit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a stop."""

    host: str
    value: Any = None  # what its task returned
    error: str = ""  # of the task; or why the host was not reached
    reached: bool = True


class Stop(NamedTuple):
    where: Where
    task: str = "on_stop"  # the method that is called there

    @property
    def host(self) -> str:
        return host_of(self.where)


# What happens


class Ready(NamedTuple):
    """The agent runs on `host`: it arrived, its host was started again, or it is time to try again."""

    host: str


class Failed(NamedTuple):
    """The agent asked to go and is still on `host`."""

    host: str
    reason: str


class Done(NamedTuple):
    """It has done its work on `host`."""

    host: str
    value: Any = None
    error: str = ""
    enough: bool = False  # what `Work.until` said


Event = Ready | Failed | Done


# What is to be done


class Go(NamedTuple):
    where: Where


class Work(NamedTuple):
    task: str  # a method
    until: str = ""  # a method that is asked afterwards whether that was enough


class Wait(NamedTuple):
    """Be Ready again in so many seconds."""

    seconds: float


class Over(NamedTuple):
    """Nothing is left to do."""


Action = Go | Work | Wait | Over


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The base of all kinds. What the caller gives stands first; how far the agent has come is beside it."""

    unreachable: Literal["skip", "stop"] = "skip"
    """Whether the agent goes on to the next stop when it could not move to one, or the journey ends there."""

    at: int = 0  # stops that are behind it
    over: bool = False
    visits: tuple[Visit, ...] = ()

    def stop(self) -> Stop:
        """Where the agent is to be next, while it is not over."""
        raise NotImplementedError

    def is_last(self, visit: Visit) -> bool:
        """Whether nothing is left after this visit of the present stop."""
        raise NotImplementedError

    def step(self, event: Event) -> tuple[Self, Action]:
        """The itinerary after the event, and what is next."""
        if self.over:
            return self, Over()
        here = event.host == self.stop().host
        after = self
        if isinstance(event, Done) and here:
            after = self._passed(Visit(event.host, event.value, event.error), event.enough)
        elif isinstance(event, Failed) and not here:
            missed = Visit(self.stop().host, None, event.reason, reached=False)
            after = self._passed(missed, self.unreachable == "stop")
        return after, after._next(event.host)

    def _next(self, host: str) -> Action:
        if self.over:
            return Over()
        stop = self.stop()
        return Work(stop.task) if stop.host == host else Go(stop.where)

    def _passed(self, visit: Visit, enough: bool) -> Self:
        over = enough or self.is_last(visit)
        return replace(self, at=self.at + 1, over=over, visits=(*self.visits, visit))

    def _check(self, stops: Items[Where]) -> None:
        """For `__post_init__`. Raises ValueError."""
        if not stops or not all(isinstance(each, Ticket) or is_name(each) for each in stops):
            raise ValueError(f"{type(self).__name__} takes names of hosts, or Tickets, at least one; not {stops!r:.60}")
        if self.unreachable not in ("skip", "stop"):
            raise ValueError(f"an agent can skip a stop, or stop, not {self.unreachable!r:.40}")
        self._check_at(len(stops))

    def _check_at(self, stops: int) -> None:
        if not 0 <= self.at <= stops or (self.at == stops and not self.over):
            raise ValueError(f"{self.at} of {stops} stops cannot be behind it")


def host_of(where: Where) -> str:
    return where.host if isinstance(where, Ticket) else where


def is_name(name: Any) -> bool:
    return isinstance(name, str) and name != ""


def set_tuple(value: msgspec.Struct, field: str) -> Any:
    """Makes the list in a field of a frozen struct a tuple; what is neither is none of anything."""
    given = getattr(value, field)
    made = tuple(given) if isinstance(given, list | tuple) else ()
    force_setattr(value, field, made)
    return made

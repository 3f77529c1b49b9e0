"""Agents gather at a place and learn of each other. Pure.

Each that comes tells those who are there, and they answer it: so any two who are there together know of each other.
"""

from typing import NamedTuple, Self

from msgspec.structs import replace

from agentplatform.itineraries import route
from agentplatform.itineraries.route import Ready, Route, Stop, Visit, Where, Work, host_of, is_name, set_tuple

MAX_PATIENCE = 7 * 24 * 3600.0


class Present(NamedTuple):
    """`agent` is at the place, as this one, which is on `host`."""

    host: str
    agent: str  # its id


class Late(NamedTuple):
    """The agent has waited on `host` for as long as it wanted to."""

    host: str


class Gather(NamedTuple):
    """Say under `topic` that the agent is here, and be Late in so many seconds."""

    topic: str
    seconds: float


Event = route.Event | Present | Late
Action = route.Action | Gather


class Meeting(Route, frozen=True, tag="meeting"):
    """Waits on `host` until all `guests` are there, or for `patience` seconds from its own arrival on; then `on_stop`
    is called, and `present` has the ids of those who came. Raises ValueError.

    A guest is named by its name or id; the list may name the agent itself, so that all can have the same. Anybody can
    give an agent a name: give ids where that matters. Patience begins anew when the host was started again.
    """

    host: Where
    guests: tuple[str, ...]
    patience: float = 60.0
    name: str = "meeting"  # several meetings at one place do not hear each other
    present: tuple[str, ...] = ()
    late: bool = False

    def __post_init__(self) -> None:
        guests = set_tuple(self, "guests")
        if not guests or not all(map(is_name, guests)) or not is_name(self.name):
            raise ValueError(f"a meeting has a name, and guests by their names or ids, not {self.guests!r:.60}")
        if not 0 < self.patience <= MAX_PATIENCE:
            raise ValueError(f"patience is above 0 and at most {MAX_PATIENCE:g} seconds, not {self.patience}")
        self._check([self.host])

    @property
    def topic(self) -> str:
        return f"{self.name} on {host_of(self.host)}"

    def stop(self) -> Stop:
        return Stop(self.host)

    def is_last(self, visit: Visit) -> bool:
        return True

    def missing(self) -> list[str]:
        """The guests who are not there yet."""
        there = {each for agent in self.present for each in _names_of(agent)}
        return [guest for guest in self.guests if guest not in there]

    def step(self, event: Event) -> tuple[Self, Action]:  # type: ignore[override]
        after = self
        if event.host == host_of(self.host) and not self.over:
            if isinstance(event, Present) and self._expects(event.agent):
                after = replace(self, present=(*self.present, event.agent))
            elif isinstance(event, Late):
                after = replace(self, late=True)
        if isinstance(event, Present | Late):
            event = Ready(event.host)
        after, action = super(Meeting, after).step(event)
        if isinstance(action, Work) and after.missing() and not after.late:
            return after, Gather(self.topic, self.patience)
        return after, action

    def invites(self, agent: str) -> bool:
        """Whether an agent of this id is on the list."""
        return any(guest in _names_of(agent) for guest in self.guests)

    def _expects(self, agent: str) -> bool:
        """One for each name: the first."""
        return any(guest in _names_of(agent) for guest in self.missing())


def _names_of(agent: str) -> tuple[str, str]:
    return agent, agent.rpartition("-")[0]

"""Around and around. Pure."""

from typing import Self

from msgspec.structs import replace

from agentplatform.itineraries.route import Action, Event, Failed, Go, Route, Stop, Visit, Wait, Where, Work, set_tuple

REST_SECONDS = 1.0  # before the next round, when no host took it in the last


class Circular(Route, frozen=True, tag="circular"):
    """`on_stop` is called on each host, `rounds` times around (None: for ever), and at most until the agent's method
    `until` returns something true after a stop. `visits` has those of the last round. Raises ValueError."""

    hosts: tuple[Where, ...]
    rounds: int | None = 1
    until: str = ""

    def __post_init__(self) -> None:
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"it goes around once at least, not {self.rounds} times; None is for ever")
        self._check(set_tuple(self, "hosts"))

    def _check_at(self, stops: int) -> None:
        if self.rounds is not None:
            super()._check_at(self.rounds * stops)
        elif self.at < 0:
            raise ValueError(f"{self.at} stops cannot be behind it")

    def stop(self) -> Stop:
        return Stop(self.hosts[self.at % len(self.hosts)])

    def is_last(self, visit: Visit) -> bool:
        return self.rounds is not None and self.at + 1 == self.rounds * len(self.hosts)

    def step(self, event: Event) -> tuple[Self, Action]:
        after, action = super().step(event)
        if isinstance(action, Work):
            action = Work(action.task, self.until)
        elif isinstance(event, Failed) and isinstance(action, Go) and after._is_shut_out():
            action = Wait(REST_SECONDS)
        return after, action

    def _is_shut_out(self) -> bool:
        """Nobody took it in the whole last round: it rests before the next."""
        return self.at % len(self.hosts) == 0 and not any(each.reached for each in self.visits)

    def _passed(self, visit: Visit, enough: bool) -> Self:
        after = super()._passed(visit, enough)
        return replace(after, visits=after.visits[-len(self.hosts) :])

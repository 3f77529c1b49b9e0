"""From host to host, in order. Pure."""

from agentplatform.itineraries.route import Route, Stop, Visit, Where, set_tuple


class Sequence(Route, frozen=True, tag="sequence"):
    """`on_stop` is called on each host. Raises ValueError without hosts."""

    hosts: tuple[Where, ...]

    def __post_init__(self) -> None:
        self._check(set_tuple(self, "hosts"))

    def stop(self) -> Stop:
        return Stop(self.hosts[self.at])

    def is_last(self, visit: Visit) -> bool:
        return self.at + 1 == len(self.hosts)

"""To the first host that takes the agent. Pure."""

from agentplatform.itineraries.route import Route, Stop, Visit, Where, set_tuple


class Alternatives(Route, frozen=True, tag="alternatives"):
    """Tries the hosts in order; on the first that it reaches `on_stop` is called, and that is all. `visits` says which
    refused, and why. Raises ValueError without hosts."""

    hosts: tuple[Where, ...]

    def __post_init__(self) -> None:
        self._check(set_tuple(self, "hosts"))
        if self.unreachable == "stop":
            raise ValueError('of alternatives the next is tried: unreachable="stop" contradicts that')

    def stop(self) -> Stop:
        return Stop(self.hosts[self.at])

    def is_last(self, visit: Visit) -> bool:
        return visit.reached or self.at + 1 == len(self.hosts)

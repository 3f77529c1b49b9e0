"""From host to host, with a task of its own on each. Pure."""

from msgspec.structs import force_setattr

from agentplatform.itineraries.route import Route, Stop, Visit, Where, is_name, set_tuple


class Plan(Route, frozen=True, tag="plan"):
    """Stops are pairs of a host and the name of the agent's method that is called there; what each returns is the
    value of its visit. Raises ValueError without stops."""

    stops: tuple[tuple[Where, str], ...]

    def __post_init__(self) -> None:
        stops = tuple(tuple(each) if isinstance(each, list | tuple) else () for each in set_tuple(self, "stops"))
        if not all(len(each) == 2 and is_name(each[1]) for each in stops):
            raise ValueError(f'Plan takes pairs of host and method: (("east", "buy"), ..), not {self.stops!r:.60}')
        force_setattr(self, "stops", stops)
        self._check([where for where, _ in stops])

    def stop(self) -> Stop:
        return Stop(*self.stops[self.at])

    def is_last(self, visit: Visit) -> bool:
        return self.at + 1 == len(self.stops)

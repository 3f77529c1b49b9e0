"""Since when agents that live elsewhere are where they are, as far as this host saw it: their hosts alone know more.
Pure: time is an argument."""

MAX_AGENTS = 10_000  # the one looked for least lately is forgotten


class Sightings:
    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, float]] = {}  # agent -> host, and since when

    def since(self, agent: str, host: str, now: float) -> float:
        """The first look after it had moved counts, so no decision that rests on this moves it before its minimum stay
        is over; 0 for one that was never seen elsewhere."""
        before = self._seen.pop(agent, None)
        since = 0.0 if before is None else before[1] if before[0] == host else now
        self._seen[agent] = host, since
        if len(self._seen) > MAX_AGENTS:
            del self._seen[next(iter(self._seen))]
        return since

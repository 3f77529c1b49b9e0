"""The hosts that something speaks against, though the ledger trusts them still: nothing new goes there for a while, and
who is there leaves if it can. Pure: time is an argument."""

from services.eds.events import HostSuspected

LASTS_S = 600.0  # after the last suspicion; then only what the ledger says counts
MAX_SUSPECTS = 1_000  # the one suspected least lately is forgotten


class Suspects:
    def __init__(self) -> None:
        self._suspects: dict[str, tuple[str, float]] = {}  # host -> why, and when last

    def add(self, event: HostSuspected, now: float) -> None:
        self._suspects.pop(event.host, None)
        self._suspects[event.host] = event.reason, now
        if len(self._suspects) > MAX_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def why(self, host: str, now: float) -> str:
        """What speaks against `host`, for Host.closed; "" when nothing does."""
        reason, at = self._suspects.get(host, ("", 0.0))
        return f"it is suspected: {reason}" if reason and at <= now < at + LASTS_S else ""

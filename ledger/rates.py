"""How much each peer may send: a token bucket of bytes (RFC 2697 calls it a meter)."""

from collections.abc import Callable

BYTES_PER_SECOND = 32 * 1024 * 1024
BURST_BYTES = 96 * 1024 * 1024  # above the largest message of a link, and what one catching up is served


class Rates:
    def __init__(
        self, clock: Callable[[], float], per_second: float = BYTES_PER_SECOND, burst: float = BURST_BYTES
    ) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._left: dict[str, tuple[float, float]] = {}  # peer -> (bytes left, when that was)

    def allow(self, peer: str, size: int) -> bool:
        """Whether `peer` may send `size` bytes now; if so they are counted."""
        now = self._clock()
        left, since = self._left.get(peer, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        allowed = size <= left
        self._left[peer] = (left - size if allowed else left, now)
        return allowed

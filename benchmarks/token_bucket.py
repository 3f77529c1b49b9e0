"""How long bytes take on a line of some rate. Pure: the time is an argument."""


class TokenBucket:
    """Holds what may pass at once, `burst` bytes, and fills with `rate` bytes a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._since = burst, 0.0

    def take(self, size: int, now: float) -> float:
        """The time at which all of them are through, `now` at the earliest. What is owed delays the next."""
        self._level = min(self._burst, self._level + (now - self._since) * self._rate) - size
        self._since = now
        return now + max(0.0, -self._level / self._rate)

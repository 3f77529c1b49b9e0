"""When a primary lets the next block fill, though it could propose at once. Pure.

A block has its own cost, whatever its size, so a chain that is busy does more with larger blocks. One that is not must
not wait: a single transaction on an idle chain never does, nor do a few clients that wait for an answer before
they go on.
"""

from ledger.consensus.settings import Settings
from ledger.consensus.timers import is_past

BUSY = 0.125  # blocks that wait when one is decided; with no more the next is proposed at once
PAUSE = 0.04  # seconds in which nothing came: what was to come is there


class Linger:
    def __init__(self, settings: Settings) -> None:
        self._longest = settings.linger
        self._proposed_at = 0.0
        self._end = 0.0
        self.until: float | None = None  # when to propose, unless the block is full before; None: at once

    def proposed(self, now: float) -> None:
        self._proposed_at = now
        self.until = None

    def decided(self, now: float, backlog: float) -> None:
        """Waits no longer than the last block took, so that it doubles a transaction's time at most."""
        self._end = now + min(now - self._proposed_at, self._longest)
        waits = BUSY < backlog < 1.0 and self._end > now
        self.until = min(self._end, now + PAUSE) if waits else None

    def came(self, now: float, backlog: float) -> None:
        """More waits now."""
        if self.until is not None:
            self.until = None if backlog >= 1.0 else min(self._end, now + PAUSE)

    def tick(self, now: float) -> None:
        if is_past(self.until, now):
            self.until = None

"""Whether agents in held custody may run on this host now, and whether what they do may leave it. Pure.

The lease itself is counted in ledger.heartbeats. Its end is on CLOCK_BOOTTIME, which counts the time in which the
machine was suspended; the edge passes that clock in. Agents stop MARGIN before the end, by themselves: their worker
processes know it, so that they freeze in time also when the daemon is stopped. What leaves asks `may_leave` at that
moment: whoever was suspended between the last look and now finds the lease over.
"""

import msgspec

MARGIN = 0.5  # seconds before the end of the lease: for a worker to notice
LOOK_EVERY = 1.0  # seconds


class Run(msgspec.Struct, frozen=True):
    """Held agents run here until `until`, unless told a later time before."""

    until: float


class Freeze(msgspec.Struct, frozen=True):
    """Held agents do not run here any more. They have stopped by themselves already, if their workers could."""


Effect = Run | Freeze


class Watch:
    def __init__(self) -> None:
        self.until = float("-inf")  # the end of the lease
        self.running = False  # what the effects said last

    def look(self, until: float | None, now: float) -> list[Effect]:
        """`until` is the end of the lease as it is known now; None when there is none. Call it every LOOK_EVERY
        seconds, and when a lease begins."""
        before, self.until = self.until, max(self.until, until or self.until)
        may_run = now < self.until - MARGIN
        was_running, self.running = self.running, may_run
        if may_run and (not was_running or self.until > before):
            return [Run(self.until - MARGIN)]
        return [Freeze()] if was_running and not may_run else []

    def may_leave(self, now: float) -> bool:
        """Asked for each effect of a held agent at the moment at which it leaves."""
        return self.running and now < self.until

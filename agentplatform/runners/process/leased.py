"""A worker of agents in held custody stops itself when the lease of its host ends, whatever its agents do just then and
whether or not the daemon still runs. The daemon lets it go on (ForkServer.wake) when there is a lease again: the
fork server sends CALL before SIGCONT. A SIGCONT of anyone else, who wakes all that was stopped, lets nothing run.
"""

import os
import signal
import time
from collections.abc import Callable

CALL = signal.SIGUSR1
GRACE = 0.25  # seconds after it was let go on, in which the loop reads how long the new lease is


def now() -> float:
    """Counts the time in which the machine was suspended, where the system can."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    def __init__(self, pausing: Callable[[bool], None]) -> None:
        """`pausing(True)` is called right before the process stops, `pausing(False)` when it goes on."""
        self._pausing = pausing
        self._until = float("-inf")
        self._called = False
        signal.signal(CALL, self._hear)

    def extend(self, until: float) -> None:
        """The lease holds until then, by `now`."""
        self._until = until
        signal.signal(signal.SIGALRM, self._look)
        self._look()

    def _look(self, *_: object) -> None:
        """A signal handler, so that a long computation of an agent is interrupted too."""
        signal.setitimer(signal.ITIMER_REAL, 0)  # else it rings while the process is stopped, and stops it once more
        left = self._until - now()
        if left <= 0:
            self._pausing(True)
            self._called = False
            while not self._called:  # it comes before SIGCONT
                os.kill(os.getpid(), signal.SIGSTOP)  # all its threads
            self._pausing(False)
            left = GRACE
            self._until = now() + GRACE
        signal.setitimer(signal.ITIMER_REAL, left)

    def _hear(self, *_: object) -> None:
        self._called = True

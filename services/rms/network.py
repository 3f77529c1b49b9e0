"""What is free of this machine's network interfaces: their speed, less what goes through them now."""

import time
from collections.abc import Callable

import psutil

ASSUMED_BANDWIDTH = 1000.0  # Mbit/s, when no interface tells its speed (virtual machines often do not)
LEAST_PART = 0.01  # of an interface: one that is full still takes something


class NetworkProbe:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[str, tuple[int, int]] = {}
        self._at = -1.0

    def free(self) -> float:
        """Mbit/s, of the interface that has the most; loopback aside. Traffic is that since the last call: in both
        directions at once, so the busier one counts."""
        now = self._clock()
        counters = psutil.net_io_counters(pernic=True)
        after = {name: (each.bytes_recv, each.bytes_sent) for name, each in counters.items()}
        seconds = now - self._at
        before, self._before, self._at = self._before, after, now
        speeds = {}
        for name, stats in psutil.net_if_stats().items():
            if stats.isup and "loopback" not in stats.flags.split(","):
                speeds[name] = float(stats.speed)
        told = {name: speed for name, speed in speeds.items() if speed > 0}
        free = []
        for name, speed in (told or dict.fromkeys(speeds, ASSUMED_BANDWIDTH)).items():
            busy = 0.0
            if name in before and name in after and seconds > 0:
                moved = max(later - earlier for earlier, later in zip(before[name], after[name], strict=True))
                busy = max(0, moved) * 8 / 1e6 / seconds
            free.append(max(speed - busy, speed * LEAST_PART))
        return max(free, default=ASSUMED_BANDWIDTH)

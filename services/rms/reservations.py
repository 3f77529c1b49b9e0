"""What of a host is promised to agents that are on their way to it. Pure: time is an argument.

The probe does not see what an agent will take once it runs, so a host that looked at the probe alone would give its
last memory to all who ask within the same second. A reservation ends when the agents are there and the probe has seen
them, when the handoff is off, or at its deadline, whatever became of it. It is nowhere on the disk: who is started
again begins with none, and looks at its probe.
"""

import msgspec
from msgspec.structs import replace

from services.rms.resources import Minima, Resources

SETTLE_S = 8.0  # after their arrival: by then the probe has four fifths of the processors that agents take (SMOOTHED_S)
LEAST_BANDWIDTH = 0.001  # Mbit/s: resources have some


class Reservation(msgspec.Struct, frozen=True):
    owner: str  # of the agents: others are not told their names
    agents: tuple[str, ...]
    least: Minima
    until: float


class Reservations:
    """Of one host, by the transfer that they are for. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Reservation] = {}

    def take(self, transfer: bytes, asked: Reservation, free: Resources, now: float) -> tuple[str, ...]:
        """Reserves what is asked, until its time; then nothing is returned. Or the shortages, in words, of what the
        probe finds `free` less what is reserved already; then nothing is reserved."""
        self._kept.pop(transfer, None)
        short = self.left(free, now).shortages(asked.least)
        if not short:
            self._kept[transfer] = asked
            return ()
        return (*short, *self._reserved_for(asked.owner))

    def settled(self, transfer: bytes, now: float) -> None:
        """The agents are there."""
        if transfer in self._kept:
            kept = self._kept[transfer]
            self._kept[transfer] = replace(kept, until=min(kept.until, now + SETTLE_S))

    def release(self, transfer: bytes) -> None:
        """They do not come."""
        self._kept.pop(transfer, None)

    def left(self, free: Resources, now: float) -> Resources:
        """Of what the probe finds `free`. Devices are not used up: their number stays."""
        self._kept = {transfer: each for transfer, each in self._kept.items() if now < each.until}
        if not self._kept:
            return free
        taken = sum((each.least for each in self._kept.values()), Minima())
        return replace(
            free,
            cpu_free=max(0.0, free.cpu_free - taken.cpu_cores / free.cores),
            memory_free=max(0, free.memory_free - taken.memory),
            disk_free=max(0, free.disk_free - taken.disk),
            bandwidth=max(LEAST_BANDWIDTH, free.bandwidth - taken.bandwidth),
            gpu_memory_free=max(0, free.gpu_memory_free - taken.gpu_memory),
        )

    def _reserved_for(self, owner: str) -> list[str]:
        """How much each reservation has, and for whom if they have the same owner."""
        return [
            f"reserved for {', '.join(each.agents) if each.owner == owner else 'others'} on their way here: {amounts}"
            for each in self._kept.values()
            if (amounts := each.least.words())
        ]

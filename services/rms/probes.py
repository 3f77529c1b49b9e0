"""Where a host's numbers come from: psutil in production, a script in tests."""

import math
import os
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import psutil

from ledger.errors import Misuse, Unavailable
from services.rms.adverts import MAX_OFFER, MAX_OFFERS
from services.rms.cgroup import Container
from services.rms.gpu import GpuProbe, Gpus
from services.rms.network import NetworkProbe
from services.rms.resources import Resources

# In which what the processors did counts for 1/e. One reading of a second jumps, and would let near-equal hosts look
# different; an agent that is moved for it stands still for longer than the jump lasts.
SMOOTHED_S = 5.0


class Probe(Protocol):
    def read(self) -> Resources:
        """What is free now. It may take milliseconds, and is called in any thread, one call at a time. Raises
        Unavailable when the system does not tell."""


class SystemProbe:
    """This machine's numbers, within the limits of the container that this process runs in. `bandwidth` (Mbit/s)
    overrides what the network interfaces say and measure."""

    def __init__(
        self,
        data: Path,
        bandwidth: float | None = None,
        container: Container | None = None,
        gpu: bool = False,
    ) -> None:
        """`gpu`: agents may use the GPUs; else there are none for them."""
        self._data, self._bandwidth = data, bandwidth
        self._container = container or Container()
        self._gpus = GpuProbe() if gpu else None
        self._network = NetworkProbe()
        self._times = _times()
        self._idle = self._passed = 0.0  # seconds of all processors: what was idle, and in all, the latest most

    def read(self) -> Resources:
        try:
            memory = psutil.virtual_memory()
            free, total = min(memory.available, memory.total), memory.total
            if (limit := self._container.memory()) is not None:
                free, total = min(free, limit[0]), min(total, limit[1])
            cpu_free, cores = self._processor()
            gpus = Gpus() if self._gpus is None else self._gpus.read()
            return Resources(
                cpu_free=cpu_free,
                cores=cores,
                memory_free=min(free, total),
                memory_total=total,
                disk_free=psutil.disk_usage(str(self._data)).free,
                bandwidth=self._network.free() if self._bandwidth is None else self._bandwidth,
                gpus=gpus.count,
                gpu_free=gpus.free,
                gpu_memory_free=gpus.memory_free,
                gpu_memory_total=gpus.memory_total,
            )
        except (OSError, psutil.Error) as error:
            raise Unavailable(f"the resources of this host cannot be read: {error}", retry_after=1.0) from error

    def _processor(self) -> tuple[float, int]:
        """The part of the processors that was idle in the last seconds, and how many there are for us. Of a machine
        that others share, what is idle there is free here, as far as our limit goes."""
        machine = psutil.cpu_count() or 1
        before, self._times = self._times, _times()
        passed = max(0.0, self._times[1] - before[1])
        kept = math.exp(-passed / machine / SMOOTHED_S)
        self._idle = kept * self._idle + min(passed, max(0.0, self._times[0] - before[0]))
        self._passed = kept * self._passed + passed
        idle = self._idle / self._passed if self._passed > 0 else 1.0
        ours = min(machine, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else machine
        limit = min(float(ours), self._container.cores() or float(ours))
        cores = max(1, round(limit))
        return min(1.0, idle * machine / cores, limit / cores), cores


def _times() -> tuple[float, float]:
    """Seconds of all processors since the machine was started: idle, and in all. Guests' are in the others already."""
    times = psutil.cpu_times()
    twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return times.idle + getattr(times, "iowait", 0.0), sum(times) - twice


def offers(gpu: bool = False, dev: Path = Path("/dev")) -> frozenset[str]:
    """The Python modules that agents can import here beside the standard library, and the devices, by name; a GPU when
    agents may use it. Those with the shortest names when there are too many for an advert."""
    modules = {module.name for module in pkgutil.iter_modules() if not module.name.startswith("_")}
    found = {name for name in modules - sys.stdlib_module_names if len(name) <= MAX_OFFER}
    devices = {"camera": "video[0-9]*", **({"gpu": "nvidia[0-9]*"} if gpu else {})}
    found |= {name for name, pattern in devices.items() if any(dev.glob(pattern))}
    return frozenset(sorted(found, key=lambda name: (len(name), name))[:MAX_OFFERS])


class ScriptedProbe:
    """Gives the scripted numbers one after the other, then the last one for ever."""

    def __init__(self, script: Iterable[Resources]) -> None:
        self._script = list(script)
        if not self._script:
            raise Misuse("a scripted probe needs at least one reading")

    def read(self) -> Resources:
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]

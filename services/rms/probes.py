"""Where a host's numbers come from: psutil in production, a script in tests."""

import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import psutil

from ledger.errors import Misuse, Unavailable
from services.rms.catalogue import MAX_OFFER, MAX_OFFERS
from services.rms.resources import Resources

ASSUMED_BANDWIDTH = 1000.0  # Mbit/s, when no interface tells its speed (virtual machines often do not)


class Probe(Protocol):
    def read(self) -> Resources:
        """What is free now. Quick, and does not block. Raises Unavailable when the system does not tell."""


class SystemProbe:
    """This machine's numbers. `bandwidth` (Mbit/s) overrides what the network interfaces say of themselves."""

    def __init__(self, data: Path, bandwidth: float | None = None) -> None:
        self._data = data
        self._bandwidth = bandwidth if bandwidth is not None else _interface_speed()
        # cpu_percent tells the load since its last call, and nothing useful at the first.
        psutil.cpu_percent(interval=None)

    def read(self) -> Resources:
        try:
            memory = psutil.virtual_memory()
            return Resources(
                cpu_free=min(1.0, max(0.0, 1.0 - psutil.cpu_percent(interval=None) / 100.0)),
                cores=psutil.cpu_count() or 1,
                memory_free=min(memory.available, memory.total),
                memory_total=memory.total,
                disk_free=psutil.disk_usage(str(self._data)).free,
                bandwidth=self._bandwidth,
                gpus=sum(1 for _ in Path("/dev").glob("nvidia[0-9]*")),
            )
        except (OSError, psutil.Error) as error:
            raise Unavailable(f"the resources of this host cannot be read: {error}", retry_after=1.0) from error


def offers() -> frozenset[str]:
    """The Python modules that agents can import here beside the standard library, and the devices, by name. Those with
    the shortest names when there are too many for an advert."""
    modules = {module.name for module in pkgutil.iter_modules() if not module.name.startswith("_")}
    found = {name for name in modules - sys.stdlib_module_names if len(name) <= MAX_OFFER}
    devices = {"gpu": "nvidia[0-9]*", "camera": "video[0-9]*"}
    found |= {name for name, pattern in devices.items() if any(Path("/dev").glob(pattern))}
    return frozenset(sorted(found, key=lambda name: (len(name), name))[:MAX_OFFERS])


class ScriptedProbe:
    """Gives the scripted numbers one after the other, then the last one for ever."""

    def __init__(self, script: Iterable[Resources]) -> None:
        self._script = list(script)
        if not self._script:
            raise Misuse("a scripted probe needs at least one reading")

    def read(self) -> Resources:
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]


def _interface_speed() -> float:
    """Mbit/s of the fastest interface that is up and tells its speed; loopback tells none."""
    speeds = [nic.speed for nic in psutil.net_if_stats().values() if nic.isup and nic.speed > 0]
    return float(max(speeds)) if speeds else ASSUMED_BANDWIDTH

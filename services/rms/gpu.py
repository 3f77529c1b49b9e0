"""What is free of this machine's GPUs: by NVML (the package nvidia-ml-py, extra `[gpu]`) where that works, else they
are counted by their device files. Nothing that goes wrong with a driver goes further than a line in the log."""

import importlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

RETRY_S = 60.0  # after NVML failed: a driver may be loaded later, or be replaced under us

log = logging.getLogger(__name__)


class Gpus(msgspec.Struct, frozen=True):
    """As in services.rms.resources.Resources."""

    count: int = 0
    free: float = 0.0
    memory_free: int = 0
    memory_total: int = 0


class GpuProbe:
    def __init__(
        self,
        load: Callable[[], Any] = lambda: importlib.import_module("pynvml"),
        devices: Path = Path("/dev"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` gives the module of NVML, or raises whatever it does where there is none."""
        self._load, self._devices, self._clock = load, devices, clock
        self._nvml: Any = None
        self._retry = -1.0

    def read(self) -> Gpus:
        """May take milliseconds: each GPU is asked. Raises nothing."""
        count = sum(1 for _ in self._devices.glob("nvidia[0-9]*"))
        if not count:
            return Gpus()  # and NVML is not loaded
        if self._nvml is None and self._clock() < self._retry:
            return Gpus(count)
        try:
            if self._nvml is None:
                nvml = self._load()
                nvml.nvmlInit()
                self._nvml = nvml
            return self._measured()
        except Exception as error:  # NVML's own, ctypes', an import's: no GPU is worth the host
            log.warning("the GPUs are counted, and not measured, for %g s: %s", RETRY_S, error or type(error).__name__)
            self._nvml, self._retry = None, self._clock() + RETRY_S
            return Gpus(count)

    def _measured(self) -> Gpus:
        nvml = self._nvml
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        memory = [(int(each.free), int(each.total)) for each in map(nvml.nvmlDeviceGetMemoryInfo, handles)]
        free, total = max(memory, default=(0, 0))
        idle = [part for part in map(self._idle, handles) if part is not None]
        return Gpus(len(handles), sum(idle) / len(idle) if idle else 0.0, min(max(free, 0), total), total)

    def _idle(self, handle: Any) -> float | None:
        """Part of the last moments in which nothing ran on it. None where it does not tell: a GPU in partitions."""
        try:
            return float(min(1.0, max(0.0, 1.0 - self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)))
        except self._nvml.NVMLError:
            return None

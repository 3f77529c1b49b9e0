"""What a worker needs of NVIDIA's driver, where the operator opens GPUs to agents ([workers] gpu).

The driver's files are few, but what can be asked of it by ioctl is much, and runs in the kernel: off by default.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

DEV = Path("/dev")
NODES = re.compile(r"nvidia(ctl|-uvm|-uvm-tools|-modeset|[0-9]+|-caps/nvidia-cap[0-9]+)")
# What the driver's library reads of the machine: which GPUs there are, where they are, what the kernel allows.
FILES = (
    *(
        "/proc/driver/nvidia",
        "/proc/driver/nvidia-uvm",
        "/proc/devices",
        "/proc/modules",
        "/proc/version",
        "/proc/sys/vm",
    ),
    *("/sys/bus/pci", "/sys/devices", "/sys/class/drm", "/sys/module/nvidia", "/sys/module/nvidia_uvm"),
)
WRITTEN = (Path("/proc/self/task"),)  # CUDA gives its threads names there, and does not start where it cannot
# Said by whoever installed the driver, or by the operator; all else of the daemon's environment stays with it.
ENVIRONMENT = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES")


def nodes() -> Iterator[Path]:
    """The driver's device files that are there. A worker cannot have one made: they are there before it starts."""
    for path in (*DEV.glob("nvidia*"), *DEV.glob("nvidia-caps/*")):
        if NODES.fullmatch(str(path.relative_to(DEV))) and stat.S_ISCHR(path.lstat().st_mode):
            yield path


def files() -> Iterator[Path]:
    """What is read beside what all workers may read."""
    yield from (path for path in map(Path, FILES) if path.exists())


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}

"""The limits of the container that this process runs in (Linux control groups, versions 1 and 2): psutil gives the
machine's numbers alone. What cannot be read is no limit.

Kernel documentation: admin-guide/cgroup-v2.rst (cpu.max, memory.max) and cgroup-v1 (cpu.cfs_quota_us,
memory.limit_in_bytes).
"""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60  # version 1 says so in numbers near 2**63


class Container:
    """The control groups of this process, from its own up to the outermost that it sees."""

    def __init__(self, root: Path = ROOT, own: Path = OWN) -> None:
        self._memory: list[Path] = []
        self._cpu: list[Path] = []
        for controllers, path in _groups(own):
            if not controllers:
                folders = _upwards(root, path)
                self._memory += folders
                self._cpu += folders
            if "memory" in controllers:
                self._memory += _upwards(root / "memory", path)
            if "cpu" in controllers:
                self._cpu += _upwards(root / "cpu", path)

    def memory(self) -> tuple[int, int] | None:
        """Bytes (free, in all) of the tightest limit; None where there is none. What the kernel can drop at once, files
        that nobody uses, counts as free."""
        limits = [limit for limit in map(_memory_of, self._memory) if limit is not None]
        return min(limits, default=None)

    def cores(self) -> float | None:
        """Processors that this process may use at a time, as the tightest limit says; None where there is none."""
        return min((limit for limit in map(_cores_of, self._cpu) if limit is not None), default=None)


def _groups(own: Path) -> Iterator[tuple[list[str], str]]:
    """Controllers (none: version 2) and path of each group; a line is "4:memory:/path" or "0::/path"."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield [each for each in controllers.split(",") if each], path


def _upwards(mount: Path, path: str) -> list[Path]:
    """The folder of the group and those above it. In a container the mount may begin at its own group, whatever the
    path says."""
    below = mount / path.strip("/")
    return [folder for folder in (below, *below.parents) if folder == mount or mount in folder.parents]


def _memory_of(folder: Path) -> tuple[int, int] | None:
    for limit_file, used_file, idle in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number(folder / limit_file), _number(folder / used_file)
        if limit is not None and used is not None and 0 < limit < UNLIMITED:
            used -= _statistics(folder / "memory.stat").get(idle, 0)
            return min(limit, max(0, limit - used)), int(limit)
    return None


def _cores_of(folder: Path) -> float | None:
    text = _text(folder / "cpu.max").split()
    quota, period = (
        text if len(text) == 2 else (_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))
    )
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max", or not there
    return cores if cores > 0 else None  # version 1: -1 for none


def _statistics(file: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""

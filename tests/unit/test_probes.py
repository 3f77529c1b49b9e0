"""Where a host's numbers come from: containers, GPUs, network interfaces, by files and libraries that are made up."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest

from services.rms import network, probes
from services.rms.cgroup import Container
from services.rms.gpu import RETRY_S, GpuProbe, Gpus
from services.rms.probes import SystemProbe
from services.rms.resources import Minima

MIB = 1 << 20


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def container(root: Path, own: str) -> Container:
    (root / "own").write_text(own)
    return Container(root, root / "own")


def test_the_tightest_group_above_counts_in_version_2(tmp_path: Path) -> None:
    write(tmp_path / "a", memory__max=str(100 * MIB), memory__current=str(90 * MIB), cpu__max="150000 100000")
    (tmp_path / "a" / "memory.stat").write_text(f"anon 5\ninactive_file {30 * MIB}\n")
    write(tmp_path / "a" / "b", memory__max="max", memory__current="7", cpu__max="max 100000")
    found = container(tmp_path, "0::/a/b\n")
    assert found.memory() == (40 * MIB, 100 * MIB)  # what the kernel may drop at once is free
    assert found.cores() == 1.5


def test_limits_of_version_1_are_read_and_its_unlimited_is_none(tmp_path: Path) -> None:
    write(tmp_path / "memory" / "x", memory__limit_in_bytes=str(64 * MIB), memory__usage_in_bytes=str(65 * MIB))
    write(tmp_path / "memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="1")
    write(tmp_path / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    found = container(tmp_path, "4:memory:/x\n1:cpu,cpuacct:/\n9:name=systemd:/\n")
    assert found.memory() == (0, 64 * MIB)  # never below nothing
    assert found.cores() is None


@pytest.mark.parametrize("own", ["", "nonsense", "0::/gone", "0::/../..", "x:y:z\n"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, own: str) -> None:
    found = container(tmp_path, own)
    assert found.memory() is None and found.cores() is None
    assert Container(tmp_path, tmp_path / "missing").memory() is None


def test_the_processors_are_smoothed_so_that_a_burst_is_little_and_a_load_is_soon_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    times = SimpleNamespace(user=100.0, idle=900.0)

    class Times(NamedTuple):
        user: float
        idle: float

    monkeypatch.setattr(psutil, "cpu_times", lambda: Times(times.user, times.idle))
    probe = SystemProbe(tmp_path, 40.0, container(tmp_path, ""))

    def after(seconds: int, busy: float) -> float:
        for _ in range(seconds):
            times.user += 2 * busy
            times.idle += 2 * (1 - busy)
            free = probe.read().cpu_free
        return free

    assert after(1, busy=0.5) == pytest.approx(0.5)  # the first reading counts fully
    assert after(60, busy=0.2) == pytest.approx(0.8, abs=1e-3)
    assert 0.6 < after(1, busy=1.0) < 0.7  # a reading of a second alone would say 0
    assert after(60, busy=0.2) == pytest.approx(0.8, abs=1e-3)
    assert after(5, busy=1.0) == pytest.approx(0.8 / math.e, abs=1e-3)
    times.idle -= 1.0  # as some systems have it
    assert 0.0 <= probe.read().cpu_free <= 1.0


def test_a_container_bounds_what_the_machine_has(tmp_path: Path) -> None:
    write(tmp_path, memory__max=str(32 * MIB), memory__current=str(8 * MIB), cpu__max="50000 100000")
    read = SystemProbe(tmp_path, 40.0, container(tmp_path, "0::/")).read()
    assert (read.memory_total, read.memory_free) == (32 * MIB, 24 * MIB)
    assert read.cores == 1 and read.cpu_free <= 0.5


class Nvml:
    """NVML with two GPUs, `broken` from a call on."""

    class NVMLError(Exception):
        pass

    def __init__(self, use: tuple[int | None, ...] = (40, 80), broken: str = "") -> None:
        self.use, self.broken, self.started = use, broken, 0

    def nvmlInit(self) -> None:
        self._try("init")
        self.started += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.use)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        self._try("memory")
        return SimpleNamespace(free=(handle + 1) * MIB, total=8 * MIB)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if self.use[handle] is None:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=self.use[handle])

    def _try(self, what: str) -> None:
        if self.broken == what:
            raise self.NVMLError("Driver/library version mismatch")


def gpus(tmp_path: Path, load: Any, now: list[float] | None = None) -> GpuProbe:
    for index in range(3):
        (tmp_path / f"nvidia{index}").touch()
    (tmp_path / "nvidiactl").touch()
    return GpuProbe(load, tmp_path, (lambda: now[0]) if now else lambda: 0.0)


def test_what_gpus_have_free_is_measured(tmp_path: Path) -> None:
    assert gpus(tmp_path, Nvml).read() == Gpus(2, pytest.approx(0.4), 2 * MIB, 8 * MIB)  # type: ignore[arg-type]
    # One in partitions does not tell; nor does any: then nothing is promised.
    assert gpus(tmp_path, lambda: Nvml((None, 80))).read().free == pytest.approx(0.2)
    assert gpus(tmp_path, lambda: Nvml((None, None))).read() == Gpus(2, 0.0, 2 * MIB, 8 * MIB)


@pytest.mark.parametrize("error", [ImportError("no pynvml"), OSError("libnvidia-ml.so.1"), AttributeError("old")])
def test_gpus_without_nvml_are_counted(tmp_path: Path, error: Exception) -> None:
    def load() -> Any:
        raise error

    assert gpus(tmp_path, load).read() == Gpus(3)


@pytest.mark.parametrize("broken", ["init", "memory"])
def test_a_driver_that_fails_is_tried_again_later(tmp_path: Path, broken: str) -> None:
    nvml, now = Nvml(broken=broken), [0.0]
    probe = gpus(tmp_path, lambda: nvml, now)
    assert probe.read() == Gpus(3)
    nvml.broken = ""
    assert probe.read() == Gpus(3)  # not at once
    now[0] = RETRY_S + 1
    assert probe.read().count == 2
    nvml.broken = "memory"  # the driver was replaced
    assert probe.read() == Gpus(3)


def test_without_device_files_nvml_is_not_loaded(tmp_path: Path) -> None:
    assert GpuProbe(lambda: pytest.fail("loaded"), tmp_path).read() == Gpus()


def test_gpus_that_are_closed_to_agents_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "GpuProbe", lambda: gpus(tmp_path, Nvml))
    least, here = Minima(gpu_memory=2 * MIB), container(tmp_path, "")
    assert SystemProbe(tmp_path, 40.0, here, gpu=True).read().shortages(least) == ()
    more = Minima(gpu_memory=2 * MIB + 1)
    assert SystemProbe(tmp_path, 40.0, here, gpu=True).read().shortages(more)[0].startswith("GPU memory: ")
    closed = SystemProbe(tmp_path, 40.0, here).read()
    assert closed.gpus == 0 and closed.shortages(least)[0].startswith("GPU memory: ")
    assert "gpu" in probes.offers(gpu=True, dev=tmp_path)
    assert "gpu" not in probes.offers(dev=tmp_path)
    assert "gpu" not in probes.offers(gpu=True, dev=tmp_path / "nothing")


def interfaces(monkeypatch: pytest.MonkeyPatch, speeds: dict[str, int]) -> dict[str, int]:
    moved = dict.fromkeys(speeds, 0)
    nic = lambda speed, name: SimpleNamespace(isup=True, speed=speed, flags="up,loopback" if name == "lo" else "up")  # noqa: E731
    stats = {name: nic(speed, name) for name, speed in speeds.items()}
    count = lambda **_: {name: SimpleNamespace(bytes_recv=each, bytes_sent=each // 2) for name, each in moved.items()}  # noqa: E731
    monkeypatch.setattr(psutil, "net_if_stats", lambda: stats)
    monkeypatch.setattr(psutil, "net_io_counters", count)
    return moved


def test_free_bandwidth_is_the_speed_less_what_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    moved, now = interfaces(monkeypatch, {"lo": 0, "eth0": 1000, "wlan0": 300}), [0.0]
    probe = network.NetworkProbe(lambda: now[0])
    assert probe.free() == 1000.0
    now[0], moved["eth0"] = 2.0, 100_000_000  # 400 Mbit/s in two seconds
    assert probe.free() == pytest.approx(600.0)
    now[0], moved["eth0"] = 3.0, 1_000_000_000  # more than it can, as a counter that was late
    assert probe.free() == 300.0  # the other one
    now[0], moved["eth0"] = 4.0, 0  # the counter began anew
    assert probe.free() == 1000.0


def test_without_a_known_speed_one_is_assumed_and_something_is_always_left(monkeypatch: pytest.MonkeyPatch) -> None:
    moved, now = interfaces(monkeypatch, {"lo": 0, "eth0": 0}), [0.0]
    probe = network.NetworkProbe(lambda: now[0])
    assert probe.free() == network.ASSUMED_BANDWIDTH
    now[0], moved["eth0"], moved["lo"] = 1.0, 10**12, 10**12
    assert probe.free() == network.ASSUMED_BANDWIDTH * network.LEAST_PART

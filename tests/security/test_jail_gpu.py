"""GPUs in the jail, by device nodes that stand in for NVIDIA's: which of them a worker may open, and ask by ioctl."""

import errno
import fcntl
import io
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agentplatform.runners.process import footprint, gpu, jail
from agentplatform.runners.process.settings import WorkerSettings
from agentplatform.settings import Workers
from tests.helpers.two_runners import Station
from tests.security.test_jail import Burglar

NULL, ASK = (1, 3), 0x4601  # a device that takes all and gives nothing; an ioctl that it does not know
OPEN = (
    "nvidia0",
    "nvidia12",
    "nvidiactl",
    "nvidia-uvm",
    "nvidia-uvm-tools",
    "nvidia-modeset",
    "nvidia-caps/nvidia-cap1",
)
CLOSED = ("nvidia", "nvidia0x", "nvidia-vgpu", "nvidia-caps/other", "nvidia-caps-imex/nvidia-cap1", "kmsg", "mem0")


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dev"
    for name in (*OPEN, *CLOSED):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.mknod(folder / name, 0o666 | stat.S_IFCHR, os.makedev(*NULL))
            os.close(os.open(folder / name, os.O_RDWR))
        except PermissionError:
            pytest.skip("device nodes cannot be made, or opened, in this user's folder for temporary files")
    (folder / "secret").write_text("private")
    (folder / "nvidia77").symlink_to("secret")
    (folder / "nvidia78").write_text("a file")
    monkeypatch.setattr(gpu, "DEV", folder)
    return folder


def in_jail(scratch: Path, ask: Callable[[], dict[str, str]], *, open_gpus: bool) -> dict[str, str]:
    """What `ask` returns in a process that is closed in."""
    scratch.mkdir(exist_ok=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            strength = jail.close_in(scratch, (), open_gpus)
            os.write(writing, json.dumps(ask() | {"jail": strength}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told: dict[str, str] = json.loads(pipe.read())
    os.waitpid(child, 0)
    if "landlock" not in told["jail"]:
        pytest.skip("this kernel has no landlock")
    return told


def tried(path: Path) -> str:
    """The error of opening it and asking it something; the device in place answers ENOTTY itself."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError as error:
        return f"open: {errno.errorcode[error.errno or 0]}"
    try:
        fcntl.ioctl(file, ASK)
    except OSError as error:
        return f"ioctl: {errno.errorcode[error.errno or 0]}"
    finally:
        os.close(file)
    return "answered"


def test_only_what_the_driver_needs_is_open_and_asked(dev: Path, tmp_path: Path) -> None:
    names = (*OPEN, *CLOSED, "nvidia77", "nvidia78", "secret")
    outside = {name: tried(dev / name) for name in names}
    assert {outside[name] for name in (*OPEN, *CLOSED)} == {"ioctl: ENOTTY"}  # nothing but the jail is in the way
    told = in_jail(tmp_path / "scratch", lambda: {name: tried(dev / name) for name in names}, open_gpus=True)
    assert {name: told[name] for name in names} == dict.fromkeys(OPEN, "ioctl: ENOTTY") | dict.fromkeys(
        (*CLOSED, "nvidia77", "nvidia78", "secret"), "open: EACCES"
    )


def test_without_the_operators_word_no_gpu_is_open(dev: Path, tmp_path: Path) -> None:
    told = in_jail(tmp_path / "scratch", lambda: {name: tried(dev / name) for name in OPEN}, open_gpus=False)
    assert {told[name] for name in OPEN} == {"open: EACCES"}
    assert not WorkerSettings().gpu and not Workers().gpu


def test_the_machine_is_read_as_the_driver_must_and_written_nowhere(tmp_path: Path) -> None:
    def look() -> dict[str, str]:
        found = {}
        for name, path, how in (
            ("read", "/proc/version", os.O_RDONLY),
            ("devices", "/sys/devices", os.O_RDONLY | os.O_DIRECTORY),
            ("write", "/proc/sys/vm/overcommit_memory", os.O_WRONLY),
            ("parent", f"/proc/{os.getppid()}/environ", os.O_RDONLY),
            ("shm", "/dev/shm/agentplatform-test", os.O_RDWR | os.O_CREAT),
        ):
            try:
                os.close(os.open(path, how))
                found[name] = "open"
            except OSError as error:
                found[name] = errno.errorcode[error.errno or 0]
        return found

    told = in_jail(tmp_path / "scratch", look, open_gpus=True)
    del told["jail"]
    assert told == {"read": "open", "devices": "open", "write": "EACCES", "parent": "EACCES", "shm": "EACCES"}
    shut = in_jail(tmp_path / "scratch", look, open_gpus=False)
    assert shut["read"] == shut["devices"] == "EACCES"


def test_threads_are_given_names_as_cuda_does_at_its_start(tmp_path: Path) -> None:
    def name() -> dict[str, str]:
        end = threading.Event()
        thread = threading.Thread(target=end.wait)
        thread.start()
        found = {}
        for whose, task in (
            ("own", f"self/task/{thread.native_id}"),
            ("parents", f"{os.getppid()}/task/{os.getppid()}"),
        ):
            try:
                with open(f"/proc/{task}/comm", "w") as file:
                    file.write("cuda")
                found[whose] = Path(f"/proc/{task}/comm").read_text().strip()
            except OSError as error:
                found[whose] = errno.errorcode[error.errno or 0]
        end.set()
        return found

    told = in_jail(tmp_path / "scratch", name, open_gpus=True)
    assert (told["own"], told["parents"]) == ("cuda", "EACCES")
    assert in_jail(tmp_path / "scratch", name, open_gpus=False)["own"] == "EACCES"


def test_what_cuda_maps_is_nothing_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = (
        "200600000-243e00000 rw-s 00000000 00:06 518                   /dev/nvidiactl\n"
        "10000000000-10044000000 rw-s 10000000000 00:06 525            /dev/nvidia-uvm\n"
        "7f0000000000-7f0000300000 rw-s 00000000 fe:00 77              /tmp/file (deleted)\n"
    )
    monkeypatch.setattr(footprint, "open", lambda path, errors: io.StringIO(maps), raising=False)
    assert [(each.st_ino, each.st_size) for each in footprint._shared(1)] == [(77, 3 << 20)]


async def test_workers_hear_where_the_driver_is_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib/driver")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_SECRET", "password")
    names = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_SECRET")
    for opened, expected in ((True, ["/usr/lib/driver", "1", "None"]), (False, ["None"] * 3)):
        async with Station("here", WorkerSettings(warm=1, gpu=opened)) as station:
            burglar = (await station.create(Burglar))[0].agent
            assert [await station.call(burglar, "environment", name) for name in names] == expected

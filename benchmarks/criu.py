"""A process as the face service is inside a container (OpenCV, and a gallery in memory), taken up and put down again by
CRIU, which is named by its path; what it wrote is sent over a link in between.

    python -m benchmarks.criu BYTES FILE

is that process: it writes FILE when it has all in memory.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.container import bytes_of
from benchmarks.shaped import Link, send
from ledger.errors import Misuse, Unavailable

READY_DEADLINE, CRIU_DEADLINE = 60.0, 300.0  # seconds
LIFE = 1200.0  # of the process, should nobody be there to end it
LOOK_EVERY = 0.01


@dataclass(frozen=True)
class Taken:
    dump: float  # seconds, while the process stands still, as in all of the following
    size: int  # bytes that CRIU wrote
    send: float  # seconds
    restore: float  # seconds

    @property
    def seconds(self) -> float:
        return self.dump + self.send + self.restore


def named() -> Path | None:
    """The program that the environment names, CRIU=/usr/sbin/criu; None if it names none. Raises Misuse when that is
    no program, Unavailable with its words when it says that it cannot work here."""
    text = os.environ.get("CRIU")
    if not text:
        return None
    if not os.access(text, os.X_OK) or Path(text).is_dir():
        raise Misuse(f"CRIU={text} is no program that can be run: name the file, for example CRIU=/usr/sbin/criu")
    _run((text, "check"))
    return Path(text)


def move(criu: Path, link: Link, gallery: int) -> Taken:
    """Takes up such a process with `gallery` bytes, sends that from end 0 to end 1, and puts it down again, here.

    Raises Unavailable with CRIU's last words when it cannot; it needs root, and a kernel made for it.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, pid_file = Path(folder) / "images", Path(folder) / "pid"
        images.mkdir()
        with running(gallery) as process:
            dump = _run(dump_command(criu, process, images))
        size = bytes_of(images.rglob("*"))
        sent = send(link, size)
        with put_down(pid_file):
            restore = _run(restore_command(criu, images, pid_file))
        return Taken(dump, size, sent, restore)


def dump_command(criu: Path, process: int, images: Path) -> tuple[str, ...]:
    return (str(criu), "dump", "--tree", str(process), "--images-dir", str(images))


def restore_command(criu: Path, images: Path, pid_file: Path) -> tuple[str, ...]:
    return (str(criu), "restore", "--images-dir", str(images), "--restore-detached", "--pidfile", str(pid_file))


@contextmanager
def running(gallery: int, enter: tuple[str, ...] = ()) -> Iterator[int]:
    """Such a process, which has all in memory; it ends with the block, if CRIU has not ended it. `enter`: words before
    its command. CRIU itself must be in the same network namespace, or it would take that along."""
    with tempfile.TemporaryDirectory() as folder:
        process = _start(gallery, Path(folder) / "ready", enter)
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()


@contextmanager
def put_down(pid_file: Path) -> Iterator[None]:
    """The process that is restored in the block is ended with it. Raises Unavailable when there is none."""
    try:
        yield
        if not _pid(pid_file):
            raise Unavailable(f"CRIU restored nothing: it wrote no process into {pid_file.name}")
    finally:
        if process := _pid(pid_file):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def start_time(gallery: int) -> float:
    """Seconds that such a process takes until it has all in memory: what a container that is started anew pays."""
    begin = time.monotonic()
    with running(gallery):
        return time.monotonic() - begin


def _start(gallery: int, ready: Path, enter: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    """In a session of its own and without pipes, which CRIU would have to find again."""
    words = (*enter, sys.executable, "-m", "benchmarks.criu", str(gallery), str(ready))
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    deadline = time.monotonic() + READY_DEADLINE
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise Unavailable("the process that CRIU should take up did not start: is OpenCV installed ('.[vision]')?")
        time.sleep(LOOK_EVERY)
    return process


def _run(command: tuple[str, ...]) -> float:
    """Seconds."""
    begin = time.monotonic()
    what = " ".join(command[:2])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CRIU_DEADLINE)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what} did not end in {CRIU_DEADLINE:g} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise Unavailable(f"{what} failed: {said}; leave CRIU out, or take one that is made for this kernel")
    return time.monotonic() - begin


def _pid(pid_file: Path) -> int:
    """0 when there is none."""
    text = pid_file.read_text().strip() if pid_file.exists() else ""
    return int(text) if text.isdecimal() else 0


def _be(gallery: int, ready: Path) -> None:
    import cv2
    import numpy

    cv2.setNumThreads(1)
    held = numpy.random.default_rng(0).bytes(gallery)
    ready.touch()
    until = time.monotonic() + LIFE
    while held and time.monotonic() < until:
        time.sleep(1.0)


if __name__ == "__main__":
    _be(int(sys.argv[1]), Path(sys.argv[2]))

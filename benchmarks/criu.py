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
from dataclasses import dataclass
from pathlib import Path

from benchmarks.container import bytes_of
from benchmarks.shaped import Link, send
from ledger.errors import Misuse, Unavailable

READY_DEADLINE, CRIU_DEADLINE = 60.0, 300.0  # seconds
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
    no program."""
    text = os.environ.get("CRIU")
    if not text:
        return None
    if not os.access(text, os.X_OK) or Path(text).is_dir():
        raise Misuse(f"CRIU={text} is no program that can be run: name the file, for example CRIU=/usr/sbin/criu")
    return Path(text)


def move(criu: Path, link: Link, gallery: int) -> Taken:
    """Takes up such a process with `gallery` bytes, sends that from end 0 to end 1, and puts it down again, here.

    Raises Unavailable with CRIU's last words when it cannot; it needs root, and a kernel made for it.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, pid_file = Path(folder) / "images", Path(folder) / "pid"
        images.mkdir()
        process = _start(gallery, Path(folder) / "ready")
        try:
            dump = _run(criu, "dump", "--tree", str(process.pid), "--images-dir", str(images))
        finally:
            process.kill()  # CRIU has ended it already
            process.wait()
        size = bytes_of(images.rglob("*"))
        sent = send(link, size)
        where = ("--images-dir", str(images), "--restore-detached", "--pidfile", str(pid_file))
        try:
            restore = _run(criu, "restore", *where)
        finally:
            _end(pid_file)
        return Taken(dump, size, sent, restore)


def start_time(gallery: int) -> float:
    """Seconds that such a process takes until it has all in memory: what a container that is started anew pays."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        process = _start(gallery, Path(folder) / "ready")
        seconds = time.monotonic() - begin
        process.kill()
        process.wait()
    return seconds


def _start(gallery: int, ready: Path) -> "subprocess.Popen[bytes]":
    """In a session of its own and without pipes, which CRIU would have to find again."""
    words = (sys.executable, "-m", "benchmarks.criu", str(gallery), str(ready))
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


def _run(criu: Path, *words: str) -> float:
    """Seconds."""
    begin = time.monotonic()
    try:
        done = subprocess.run([criu, *words], capture_output=True, text=True, timeout=CRIU_DEADLINE)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{criu} {words[0]} did not end in {CRIU_DEADLINE:g} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise Unavailable(f"{criu} {words[0]} failed: {said}; try: {criu} check")
    return time.monotonic() - begin


def _end(pid_file: Path) -> None:
    """The process that was put down."""
    if pid_file.exists() and (text := pid_file.read_text().strip()).isdecimal():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(text), signal.SIGKILL)


def _be(gallery: int, ready: Path) -> None:
    import cv2
    import numpy

    cv2.setNumThreads(1)
    held = numpy.random.default_rng(0).bytes(gallery)
    ready.touch()
    while held:
        time.sleep(1.0)


if __name__ == "__main__":
    _be(int(sys.argv[1]), Path(sys.argv[2]))

"""What stands in for moving a container: one process reads an archive of files and sends it, another unpacks it.

    python -m benchmarks.payload send FILE HOST PORT         says "connected", and waits for a line
    python -m benchmarks.payload take FOLDER HOST PORT       says "listening", and "done" when the files are written

No compression, no checks, no registry, nothing is started afterwards: less than any container's move.
"""

import io
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its processes stay small
    from benchmarks.shaped import Link

FILE_BYTES = 4 << 20  # of each file in the archive
PIECE = 256 * 1024


@dataclass
class Pair:
    sender: "subprocess.Popen[bytes]"
    taker: "subprocess.Popen[bytes]"

    def go(self) -> tuple[float, float]:
        """When it began, and when all is written. CLOCK_MONOTONIC, seconds. Raises OSError when one of them failed."""
        assert self.sender.stdin is not None
        begin = time.monotonic()
        self.sender.stdin.write(b"go\n")
        self.sender.stdin.flush()
        _await(self.taker, b"done\n")
        return begin, time.monotonic()


@contextmanager
def ready(link: "Link", folder: Path, size: int) -> Iterator[Pair]:
    """Both processes stand at the ends of the link, the archive is written. They end with the block."""
    archive = folder / "payload.tar"
    _write(archive, size)
    listen, reached = link.place(1)
    (folder / "unpacked").mkdir()
    here = (sys.executable, "-m", "benchmarks.payload")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with ExitStack() as ends:
        words = ("take", str(folder / "unpacked"), *listen.rsplit(":", 1))
        taker = subprocess.Popen((*link.command(1), *here, *words), **pipes)
        ends.callback(_end, taker)
        _await(taker, b"listening\n")
        words = ("send", str(archive), *reached.rsplit(":", 1))
        sender = subprocess.Popen((*link.command(0), *here, *words), **pipes)
        ends.callback(_end, sender)
        _await(sender, b"connected\n")
        yield Pair(sender, taker)


def _await(process: "subprocess.Popen[bytes]", word: bytes) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != word:
        raise OSError(f"the payload's process ended before it was {word.decode().strip()}")


def _write(archive: Path, size: int) -> None:
    with tarfile.open(archive, "w") as tar:
        for number, at in enumerate(range(0, size, FILE_BYTES)):
            facts = tarfile.TarInfo(f"layer/{number:04}")
            facts.size = min(FILE_BYTES, size - at)
            tar.addfile(facts, io.BytesIO(os.urandom(facts.size)))


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def _send(archive: Path, address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection, archive.open("rb") as file:
        print("connected", flush=True)
        sys.stdin.readline()
        while piece := file.read(PIECE):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        sys.stdin.readline()  # it stays, idle, until it is ended


def _take(folder: Path, address: tuple[str, int]) -> None:
    with socket.create_server(address) as listening:
        print("listening", flush=True)
        connection, _ = listening.accept()
    with connection, connection.makefile("rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        tar.extractall(folder, filter="data")
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    {"send": _send, "take": _take}[sys.argv[1]](Path(sys.argv[2]), (sys.argv[3], int(sys.argv[4])))

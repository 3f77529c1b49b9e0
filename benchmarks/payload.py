"""What stands in for moving a container: one process reads the files of its layers and sends them, another writes them.

    python -m benchmarks.payload send FOLDER HOST PORT [COMMAND ..]    says "connected", and waits for a line
    python -m benchmarks.payload take FOLDER HOST PORT [COMMAND ..]    says "listening", and "done" in the end

A command is run by the sender before it sends, by the taker when all is written: CRIU's dump and restore. Without them
there is no checkpoint and no start; there is no compression and no registry: less than any container's move.
"""

import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # its processes stay small
    from benchmarks.shaped import Link

FILE_BYTES = 4 << 20  # of each file of a layer
Popen = subprocess.Popen[bytes]
PATIENCE = 60.0  # seconds until the other end is there


@dataclass
class Pair:
    sender: Popen
    taker: Popen

    def go(self) -> tuple[float, float]:
        """When it began, and when all is done. CLOCK_MONOTONIC, seconds. Raises OSError when one of them failed."""
        assert self.sender.stdin is not None
        begin = time.monotonic()
        self.sender.stdin.write(b"go\n")
        self.sender.stdin.flush()
        _await(self.taker, b"done\n")
        return begin, time.monotonic()


@contextmanager
def ready(
    link: "Link", folder: Path, size: int, before: Sequence[str] = (), after: Sequence[str] = ()
) -> Iterator[Pair]:
    """Both processes stand at the ends of the link; they end with the block. `size`: bytes of the layers. What is in
    folder/"sent" goes to folder/"unpacked"; `before` and `after` are the commands of sender and taker."""
    _write_layers(folder / "sent", size)
    listen, reached = link.place(1)
    with ExitStack() as ends:

        def begin(end: int, word: bytes, act: str, files: str, address: str, command: Sequence[str]) -> Popen:
            here = (sys.executable, "-m", "benchmarks.payload", act, str(folder / files), *address.rsplit(":", 1))
            words = (*link.command(end), *here, *command)
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            ends.enter_context(process)  # waits for its end
            ends.callback(process.kill)
            _await(process, word)
            return process

        taker = begin(1, b"listening\n", "take", "unpacked", listen, after)
        yield Pair(begin(0, b"connected\n", "send", "sent", reached, before), taker)


def _await(process: Popen, word: bytes) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != word:
        raise OSError(f"the payload's process ended before it was {word.decode().strip()}")


def _write_layers(folder: Path, size: int) -> None:
    (folder / "layers").mkdir(parents=True, exist_ok=True)
    for number, at in enumerate(range(0, size, FILE_BYTES)):
        (folder / "layers" / f"{number:04}").write_bytes(os.urandom(min(FILE_BYTES, size - at)))


def _send(folder: Path, address: tuple[str, int], command: list[str]) -> None:
    with socket.create_connection(address, PATIENCE) as connection:
        connection.settimeout(None)
        print("connected", flush=True)
        sys.stdin.readline()
        _run(command)
        with connection.makefile("wb") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
            tar.add(folder, arcname=".")
    sys.stdin.readline()  # it stays, idle, until it is ended


def _take(folder: Path, address: tuple[str, int], command: list[str]) -> None:
    with socket.create_server(address) as listening:
        listening.settimeout(PATIENCE)
        print("listening", flush=True)
        connection, _ = listening.accept()
        connection.settimeout(None)
    with connection, connection.makefile("rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.2 has none yet
        tar.extractall(folder)
    _run(command)
    print("done", flush=True)
    sys.stdin.readline()


def _run(command: list[str]) -> None:
    if command:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    {"send": _send, "take": _take}[sys.argv[1]](Path(sys.argv[2]), (sys.argv[3], int(sys.argv[4])), sys.argv[5:])

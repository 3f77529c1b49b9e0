"""Two ends with a link of so many Mbit/s and so many milliseconds between them, on one machine.

    with shaped(5.0, delay_ms=20.0) as link:
        print(link.name, measured(link), "Mbit/s")
        with hosts(link, root):                            # north and east, one at each end
            connect("north", root=root).create(..).dispatch("east")   # control sockets are files: reached from here

With root the ends are network namespaces (benchmarks.namespaces), and the rate is of whole packets: of 1,514 bytes
1,448 are a program's, so that a TCP connection gets 0.956 of it. Without root all is done by a relay in this process
(benchmarks.slow_link), which takes processor time of the same machine, and the rate is of a program's own bytes.
`link.name` says which, for tables and figures; what it really gives is measured.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, Self, TypeVar

from agentplatform.consortium import found, free_ports
from agentplatform.settings import Home
from benchmarks.hosts import listen_on, running, spawn
from benchmarks.namespaces import Namespaces, why_not
from benchmarks.slow_link import Line, SlowLink

T = TypeVar("T")

PAIR = ("north", "east")  # the hosts at the ends 0 and 1
CHUNK = 256 * 1024  # bytes
TRIAL_SECONDS, TRIAL_MOST = 1.0, 64 << 20  # how long a rate is measured; bytes where it is not known, or high
PATIENCE = 600.0  # seconds without a byte


class Link(Protocol):
    name: str

    def place(self, end: int) -> tuple[str, str]:
        """An address to listen on at that end, and the one by which the other end reaches it; each time another."""

    def namespace(self, end: int) -> str | None:
        """The network namespace of that end, as a path for `namespaces.enter`; None: that of this process."""

    def command(self, end: int) -> tuple[str, ...]:
        """Words before a command that has it run at that end."""

    def at(self, end: int, call: Callable[[], T]) -> T:
        """What `call` returns or raises there. Sockets that it makes stay there."""

    def shape(self, mbit: float | None) -> None:
        """From now on it carries so many Mbit/s each way; None: as fast as it goes. Connections stand."""


class Relayed:
    """A relay in front of each place; within a `with`."""

    name = "shaped in a relay"

    def __init__(self, mbit: float | None, delay: float) -> None:
        self._delay, self._ends = delay, ExitStack()
        self._lines = Line(None), Line(None)  # to the end 0, and to the end 1
        self.shape(mbit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def place(self, end: int) -> tuple[str, str]:
        (back,) = free_ports(1)
        relay = SlowLink(0, back, self._delay, (self._lines[end], self._lines[1 - end]))
        self._ends.callback(relay.close)
        return f"127.0.0.1:{back}", f"127.0.0.1:{relay.port}"

    def namespace(self, end: int) -> None:
        return None

    def command(self, end: int) -> tuple[str, ...]:
        return ()

    def at(self, end: int, call: Callable[[], T]) -> T:
        return call()

    def shape(self, mbit: float | None) -> None:
        for line in self._lines:
            line.shape(None if mbit is None else mbit * 1e6 / 8)


@contextmanager
def shaped(mbit: float | None, delay_ms: float = 0.0, relay: bool = False) -> Iterator[Link]:
    """`mbit`: Mbit/s each way; None: as fast as it goes. `delay_ms`: milliseconds each way. `relay`: even with root."""
    kind = Relayed if relay or why_not() is not None else Namespaces
    with kind(mbit, delay_ms / 1000) as link:
        yield link


@contextmanager
def hosts(link: Link, root: Path, names: tuple[str, str] = PAIR, history: Path | None = None) -> Iterator[list[Home]]:
    """A consortium of two daemons, one at each end; `history`: the folder for what happens to them. They end with the
    block."""
    places = [link.place(end) for end in range(len(names))]
    homes = found(root, names, addresses=[reached for _, reached in places])
    with ExitStack() as ends:
        for end, (home, (listen, _)) in enumerate(zip(homes, places, strict=True)):
            listen_on(home, listen)
            ends.callback(spawn(home, "agentplatform.mae", history=history, at=link.command(end)).wait)
        ends.enter_context(running(root, names))
        yield homes


def measured(link: Link, mbit: float | None = None) -> float:
    """Mbit/s that a plain TCP connection gets from end 0 to end 1. `mbit`: what is expected, to send enough of it."""
    size = TRIAL_MOST if mbit is None else min(TRIAL_MOST, int(mbit * 1e6 / 8 * TRIAL_SECONDS))
    return size * 8 / send(link, size) / 1e6


def send(link: Link, size: int, took: Callable[[memoryview], object] = len) -> float:
    """Seconds that so many bytes take by a plain TCP connection from end 0 to end 1, until the last has come.

    From the first `send` on: the connection is there by then. `took` is handed what comes, piece by piece.
    """
    listen, reached = link.place(1)
    listening = link.at(1, lambda: socket.create_server(host_and_port(listen)))
    ended: list[float] = []
    failed: list[BaseException] = []

    def receive() -> None:
        try:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(PATIENCE)
                room, left = memoryview(bytearray(CHUNK)), size
                while left:
                    got = connection.recv_into(room)
                    if not got:
                        raise OSError(f"the connection ended, and {left} bytes of {size} had not come")
                    took(room[:got])
                    left -= got
                ended.append(time.monotonic())
                connection.sendall(b"k")
        except BaseException as error:
            failed.append(error)

    receiver = threading.Thread(target=receive, daemon=True)
    receiver.start()
    with listening, link.at(0, lambda: socket.create_connection(host_and_port(reached), timeout=PATIENCE)) as sending:
        begun = time.monotonic()
        piece = memoryview(bytes(CHUNK))
        with contextlib.suppress(OSError):  # the receiver says why
            for at in range(0, size, CHUNK):
                sending.sendall(piece[: size - at])
            sending.recv(1)
        receiver.join(PATIENCE)
    if failed or not ended:
        raise failed[0] if failed else OSError(f"{size} bytes did not come")
    return ended[0] - begun


def host_and_port(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)

"""The primary's link: as it is, or narrow, 100 Mbit/s each way for example.

Where network namespaces may be made (root), the primary has one of its own, with a virtual cable to that of all others,
and tbf (token bucket filter) shapes both ends. Elsewhere a relay in userspace does: it takes processor time of the same
machine, and its figures say so.
"""

import asyncio
import ctypes
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Protocol

CHUNK_BYTES = 16 * 1024
QUEUE_BYTES = 1024 * 1024  # that wait in front of the cable
CLONE_NEWNET = 0x40000000


class Link(Protocol):
    """The primary is at place 0."""

    name: str

    def address_of(self, place: int, port: int) -> str:
        """Where the others reach it."""

    def listen_on(self, place: int, port: int) -> str: ...

    def namespace_of(self, place: int) -> str | None: ...


class Loopback:
    name = "loopback"

    def address_of(self, place: int, port: int) -> str:
        return f"127.0.0.1:{port}"

    listen_on = address_of

    def namespace_of(self, place: int) -> str | None:
        return None


LOOPBACK = Loopback()


class Namespaces:
    name = "tbf"
    primary = f"ledger-primary-{os.getpid()}"
    others = f"ledger-others-{os.getpid()}"

    def address_of(self, place: int, port: int) -> str:
        return f"10.77.0.{2 if place == 0 else 1}:{port}"

    listen_on = address_of

    def namespace_of(self, place: int) -> str | None:
        return self.primary if place == 0 else self.others

    def make(self, mbits: float) -> None:
        for name in (self.others, self.primary):
            _run("ip", "netns", "add", name)
        _run("ip", "-n", self.others, "link", "add", "near", "type", "veth", "peer", "far", "netns", self.primary)
        for name, cable, address in ((self.others, "near", "10.77.0.1/24"), (self.primary, "far", "10.77.0.2/24")):
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", cable, "up")
            _run("ip", "-n", name, "address", "add", address, "dev", cable)
            shape = ("rate", f"{mbits}mbit", "burst", str(4 * CHUNK_BYTES), "limit", str(QUEUE_BYTES))
            _run("tc", "-n", name, "qdisc", "add", "dev", cable, "root", "tbf", *shape)

    def remove(self) -> None:
        for name in (self.primary, self.others):
            subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)


class Relay:
    """Of each pair the host with the smaller name dials, and the primary's name is the largest: all dial it, here."""

    name = "relay"

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe  # takes a port to pass on to, and gives the one to dial
        self._fronts: dict[int, int] = {}

    def address_of(self, place: int, port: int) -> str:
        if place == 0 and port not in self._fronts:
            self._pipe.send(port)
            self._fronts[port] = self._pipe.recv()
        return f"127.0.0.1:{self._fronts.get(port, port)}"

    def listen_on(self, place: int, port: int) -> str:
        return f"127.0.0.1:{port}"

    def namespace_of(self, place: int) -> str | None:
        return None


@contextmanager
def shaped(mbits: float) -> Iterator[Link]:
    """By namespaces, or else by the relay."""
    link = Namespaces()
    if os.geteuid() == 0 and shutil.which("ip") and shutil.which("tc"):
        try:
            link.make(mbits)
            yield link
            return
        except subprocess.CalledProcessError:
            pass  # a container, perhaps
        finally:
            link.remove()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(mbits, theirs), daemon=True)
    process.start()
    try:
        yield Relay(ours)
    finally:
        process.kill()
        process.join()


def enter(namespace: str) -> None:
    """Moves this process there; before it has threads. (os.setns is in Python 3.12 and later.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class _Cable:
    """One direction: chunks leave one after the other, each as long as it takes."""

    def __init__(self, mbits: float) -> None:
        self._mbits = mbits
        self._free_at = 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                now = time.monotonic()
                self._free_at = max(now, self._free_at) + len(chunk) * 8 / (self._mbits * 1e6)
                await asyncio.sleep(self._free_at - now)
                writer.write(chunk)
                await writer.drain()
        finally:
            writer.close()


def _serve(mbits: float, pipe: Connection) -> None:
    async def relay(target: int) -> None:
        inward, outward = _Cable(mbits), _Cable(mbits)

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                their_reader, their_writer = await asyncio.open_connection("127.0.0.1", target)
            except OSError:  # it does not listen yet: whoever dialled tries again
                writer.close()
                return
            await asyncio.gather(
                inward.carry(reader, their_writer), outward.carry(their_reader, writer), return_exceptions=True
            )

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def main() -> None:
        relays = []
        while True:
            relays.append(asyncio.create_task(relay(await asyncio.to_thread(pipe.recv))))

    asyncio.run(main())

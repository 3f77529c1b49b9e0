"""A large agent moves between two daemons, while mail and the ledger go on over the same link.

Beside its floor: the same bytes written to a file and synced, sent over plain TLS, written and synced again.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from agentplatform import Agent, connect
from agentplatform.console import processes
from agentplatform.consortium import found
from agentplatform.environment import Environment
from agentplatform.frontdoor.client import AgentProxy
from agentplatform.settings import Home
from benchmarks.hosts import running
from benchmarks.percentiles import percentile
from ledger.contracts.records import RecordDecision
from ledger.identity import Identity
from ledger.links.certificates import Leaf, contexts

HOSTS = ("north", "east")
MEMBER = "west"
BLOCK = bytes(range(256)) * 4096
BEFORE = 3.0  # seconds, without the large agent
LOOK_EVERY = 0.005  # seconds, at a daemon's memory
PACE = 0.01  # seconds between two messages, and between two transactions


class Giant(Agent):
    """A large array. It is kept by its hops alone: a checkpoint would hash all of it."""

    checkpoint = "hop"

    def on_creation(self, init: Any) -> None:
        import numpy

        self.pages = numpy.arange(init // 8, dtype=numpy.uint64)

    def handle_message(self, message: Any) -> Any:
        return [self.pages.nbytes, int(self.pages[:: 1 << 16].sum())]


class Echo(Agent):
    checkpoint = "none"

    def handle_message(self, message: Any) -> Any:
        return message.body


class Member:
    """A third host, in this process: what it has the ledger record needs the two others, over their link."""

    def __init__(self, home: Home) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._environment = Environment(home)
        self._do(self._environment.start())

    def record(self) -> None:
        """Until it is final."""
        self._do(self._environment.client.call("records", RecordDecision(os.urandom(32), os.urandom(32))))

    def stop(self) -> None:
        self._do(self._environment.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60.0)


class Repeated:
    """Does something again and again in a thread, and remembers how long each took, and when."""

    def __init__(self, what: Callable[[], Any]) -> None:
        self.times: list[tuple[float, float]] = []  # when it began, milliseconds
        self._what, self._stop = what, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(PACE):
            begun = time.monotonic()
            self._what()
            self.times.append((begun, (time.monotonic() - begun) * 1000))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, begin: float, end: float) -> list[float]:
        """Milliseconds."""
        return [took for at, took in self.times if begin <= at < end]


class Memory:
    """The largest resident memory of a process, in bytes."""

    def __init__(self, process: psutil.Process) -> None:
        self.before = self.most = process.memory_info().rss
        self._process, self._stop = process, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            self.most = max(self.most, self._process.memory_info().rss)

    def growth(self) -> float:
        """In MiB, until now. Stops."""
        self._stop.set()
        self._thread.join()
        return round((self.most - self.before) / 2**20, 1)


def measure(root: Path, size: int) -> dict[str, Any]:
    found(root, (*HOSTS, MEMBER))
    with ExitStack() as ends:
        ends.enter_context(running(root, HOSTS))
        member = Member(Home(root / "hosts" / MEMBER))
        ends.callback(member.stop)
        north, east = (connect(host, root=root) for host in HOSTS)
        far = AgentProxy(north, east.create(Echo, "far").id)
        giant = north.create(Giant, init=size)
        while not any(row["agent"] == far.id for row in north.call("agents")):
            time.sleep(0.01)
        seen = giant.call("look")
        member.record()
        paces = {"mail": Repeated(lambda: far.call("echo", 1)), "finality": Repeated(member.record)}
        try:
            time.sleep(BEFORE)
            daemons = [processes.running(Home(root / "hosts" / host)) for host in HOSTS]
            memories = [Memory(daemon) for daemon in daemons if daemon is not None]
            begin = time.monotonic()
            hop = giant.dispatch("east", patience=600.0)
            end = time.monotonic()
            growths = [memory.growth() for memory in memories]
        finally:
            for pace in paces.values():
                pace.stop()
        if giant.call("look", patience=60.0) != seen or giant.host != "east":
            raise SystemExit("the agent did not arrive as it left")
    figures = {
        "bytes": hop["bytes"],
        "seconds": round(end - begin, 3),
        "mb_per_s": round(hop["bytes"] / (end - begin) / 1e6, 1),
        "source_growth_mib": growths[0],
        "destination_growth_mib": growths[1],
    }
    for name, pace in paces.items():
        before, during = pace.between(begin - BEFORE, begin), pace.between(begin, end)
        figures |= {
            f"{name}_ms_p50_before": round(statistics.median(before), 2),
            f"{name}_ms_p50_during": round(statistics.median(during), 2),
            f"{name}_ms_p95_during": round(percentile(during, 95), 2),
        }
    return figures


# The floor


def write(file: Path, size: int) -> float:
    """Seconds to write that many bytes and to sync them."""
    begin = time.perf_counter()
    with file.open("wb", buffering=0) as out:
        for _ in range(size // len(BLOCK)):
            out.write(BLOCK)
        os.fsync(out.fileno())
    took = time.perf_counter() - begin
    file.unlink()
    return took


def _drain(pipe: Connection) -> None:
    _, accept = contexts(Leaf.make("east", Identity(bytes(32))), [Identity(bytes(32)).public])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pipe.send(listening.getsockname())
        plain, _ = listening.accept()
    with accept.wrap_socket(plain, server_side=True) as secure:
        buffer = bytearray(1 << 18)
        left: int = pipe.recv()
        while left > 0:
            left -= secure.recv_into(buffer)
        pipe.send("done")


def send(size: int) -> float:
    """Seconds to send that many bytes to another process over TLS 1.3, as the links do."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_drain, args=(theirs,), daemon=True)
    process.start()
    dial, _ = contexts(Leaf.make("north", Identity(bytes(32))), [Identity(bytes(32)).public])
    with dial.wrap_socket(socket.create_connection(ours.recv())) as secure:
        ours.send(size // len(BLOCK) * len(BLOCK))
        begin = time.perf_counter()
        for _ in range(size // len(BLOCK)):
            secure.sendall(BLOCK)
        ours.recv()
        took = time.perf_counter() - begin
    process.join()
    return took


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks large-state", description=__doc__)
    parser.add_argument("--mib", type=int, default=2048, help="size of the agent's state")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    size = options.mib << 20
    with tempfile.TemporaryDirectory() as folder:
        disk, tls = write(Path(folder) / "floor", size), send(size)
        figures = measure(Path(folder) / "root", size)
    floor = 2 * disk + tls
    figures |= {
        "floor_disk_s": round(disk, 3),
        "floor_tls_s": round(tls, 3),
        "share_of_floor": round(floor / figures["seconds"], 2),
    }
    if not options.json:
        print(f"{options.mib} MiB moved in {figures['seconds']:.1f} s; the floor is {floor:.1f} s")
    print(json.dumps(figures))
    return 0

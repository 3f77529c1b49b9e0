"""Messages between agents, on one host and between two, beside raw Pyro5 calls (msgpack) of the same size.

Without checkpoints ("none"), as a Pyro5 object has none; and with each message durable, beside a call and a commit.
"""

import argparse
import asyncio
import json
import multiprocessing
import sqlite3
import statistics
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import Pyro5.api

from agentplatform import Agent, connect
from agentplatform.consortium import found
from agentplatform.frontdoor.client import AgentProxy
from benchmarks.hosts import running

BODY = b"x" * 100
WARM_UP = 0.2  # of the messages
ROUNDS = 5  # each figure is the median of so many, taken in turns with what it is compared with


class Echo(Agent):
    checkpoint = "none"

    def handle_message(self, message: Any) -> Any:
        return message.body


class Caller(Agent):
    """Message "measure" {"to", "kind", "count", "at_once"}: does that, and answers with the seconds that it took."""

    checkpoint = "none"

    async def handle_message(self, message: Any) -> Any:
        ask = message.body
        left = iter(range(ask["count"]))
        begin = time.perf_counter()
        if ask["kind"] == "send":
            for number in left:
                self.send(ask["to"], "echo", BODY)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            await self.call(ask["to"], "echo", BODY)  # it is handled after all of them
        else:
            await asyncio.gather(*(self._call_on(ask["to"], left) for _ in range(ask["at_once"])))
        return time.perf_counter() - begin

    async def _call_on(self, to: str, left: Any) -> None:
        for _ in left:
            await self.call(to, "echo", BODY)


class DurableEcho(Echo):
    checkpoint = "message"


class DurableCaller(Caller):
    checkpoint = "message"


class _Echo:
    @Pyro5.api.expose
    def echo(self, body: bytes) -> bytes:
        return body


def _serve(pipe: Connection) -> None:
    Pyro5.config.SERVERTYPE = "thread"
    daemon = Pyro5.api.Daemon(host="127.0.0.1")
    pipe.send(str(daemon.register(_Echo())))
    daemon.requestLoop()


class Bare:
    """A Pyro5 object in a process of its own."""

    def __enter__(self) -> "Bare":
        ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        self._uri = ours.recv()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()

    def rate(self, count: int, at_once: int) -> float:
        """Calls per second: each caller is a thread with a proxy of its own."""
        left = iter(range(count))
        ready = threading.Barrier(at_once + 1)

        def call() -> None:
            with Pyro5.api.Proxy(self._uri) as proxy:
                proxy._pyroSerializer = "msgpack"
                proxy.echo(BODY)
                ready.wait()
                for _ in left:
                    proxy.echo(BODY)

        threads = [threading.Thread(target=call) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        ready.wait()
        begin = time.perf_counter()
        for thread in threads:
            thread.join()
        return count / (time.perf_counter() - begin)


def commits(folder: Path, count: int) -> float:
    """Milliseconds of one, at the median."""
    database = sqlite3.connect(folder / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS log (body BLOB)")
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        database.execute("INSERT INTO log VALUES (?)", (BODY,))
        times.append((time.perf_counter() - begin) * 1000)
    database.close()
    return statistics.median(times)


def rate(caller: AgentProxy, to: AgentProxy, kind: str, count: int, at_once: int = 1) -> float:
    ask = {"to": to.id, "kind": kind, "count": count, "at_once": at_once}
    return count / float(caller.call("measure", ask, patience=120.0))


def measure(folder: Path, count: int) -> dict[str, float]:
    hosts = ("north", "east")
    found(folder / "root", hosts)
    figures: dict[str, list[float]] = {}
    with running(folder / "root", hosts):
        north, east = (connect(host, root=folder / "root") for host in hosts)
        caller, near, far = north.create(Caller), north.create(Echo, "near"), east.create(Echo, "far")
        durable, kept = north.create(DurableCaller), north.create(DurableEcho, "kept")
        while not any(row["agent"] == far.id for row in north.call("agents")):
            time.sleep(0.01)
        with Bare() as bare:
            trials = {
                "pyro5": lambda count: bare.rate(count, 1),
                "local": lambda count: rate(caller, near, "call", count),
                "remote": lambda count: rate(caller, far, "call", count),
                "pyro5_32": lambda count: bare.rate(count, 32),
                "local_32": lambda count: rate(caller, near, "call", count, 32),
                "remote_32": lambda count: rate(caller, far, "call", count, 32),
                "oneway": lambda count: rate(caller, near, "send", count),
                "durable": lambda count: rate(durable, kept, "call", count // 4),
                "durable_32": lambda count: rate(durable, kept, "call", count, 32),
                "commit": lambda count: 1000 / commits(folder, count // 4),
            }
            for trial in trials.values():
                trial(max(4, int(count * WARM_UP)))
            for _ in range(ROUNDS):
                for name, trial in trials.items():
                    figures.setdefault(name, []).append(trial(count))
    return {name: statistics.median(values) for name, values in figures.items()}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks messages", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="messages of each trial")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), options.count)
    durable_ms, floor_ms = 1000 / rates["durable"], 1000 / rates["pyro5"] + 1000 / rates["commit"]
    figures = {f"{name}_per_s": round(value) for name, value in rates.items()} | {
        "local_ratio": round(rates["local"] / rates["pyro5"], 2),
        "local_ratio_32": round(rates["local_32"] / rates["pyro5_32"], 2),
        "remote_ratio": round(rates["remote"] / rates["pyro5"], 2),
        "remote_ratio_32": round(rates["remote_32"] / rates["pyro5_32"], 2),
        "oneway_over_calls": round(rates["oneway"] / rates["local"], 2),
        "durable_ms": round(durable_ms, 3),
        "durable_ratio": round(durable_ms / floor_ms, 2),
    }
    if not options.json:
        print(f"{len(BODY)} bytes there and back; median of {ROUNDS} rounds of {options.count} messages each")
    print(json.dumps(figures))
    return 0

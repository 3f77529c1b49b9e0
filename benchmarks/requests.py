"""Requests over HTTP beside the calls of a proxy: while the agent stays, and in each mode while it moves without pause.

Two daemons on the loopback, one client that asks one request at a time. A small agent without checkpoints, so that the
way is measured and not the disk. It writes down what it handles: all of it, and nothing twice.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentplatform import connect
from agentplatform.consortium import found, free_ports
from agentplatform.frontdoor.client import AgentProxy
from agentplatform.requests import Client
from benchmarks.hosts import running
from benchmarks.percentiles import percentile
from benchmarks.requests_agent import Counting
from ledger.errors import PlatformError

NORTH, SOUTH = "north", "south"
EVERY = 0.1  # seconds between two moves
WARM_UP = 50  # requests
MODES = ("hold", "forward", "refuse")


def timed(ask: Callable[[int], Any], go_on: Callable[[int], bool]) -> tuple[list[float], int]:
    """Milliseconds of each request; and how many had no answer."""
    times, lost, number = [], 0, 0
    while go_on(number):
        begin = time.perf_counter()
        try:
            assert ask(number) == number
        except PlatformError:
            lost += 1
        times.append((time.perf_counter() - begin) * 1000)
        number += 1
    return times, lost


def figures(times: list[float]) -> dict[str, float]:
    ends = {"p50": statistics.median(times), "p99": percentile(times, 99), "max": max(times)}
    return {name: round(value, 3) for name, value in ends.items()}


class Moving:
    """Moves the agent to and fro, EVERY so many seconds, as long as the block runs."""

    def __init__(self, agents: dict[str, AgentProxy]) -> None:
        self.moves = 0
        self._agents, self._stop = agents, threading.Event()
        self._thread = threading.Thread(target=self._move)

    def __enter__(self) -> "Moving":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _move(self) -> None:
        at, to = NORTH, SOUTH
        while not self._stop.wait(EVERY):
            self._agents[at].dispatch(to)
            at, to = to, at
            self.moves += 1
        if at != NORTH:
            self._agents[at].dispatch(NORTH)


def measure(root: Path, count: int, seconds: float) -> dict[str, Any]:
    ports = dict(zip((NORTH, SOUTH), free_ports(2), strict=True))
    addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    homes = found(root, (NORTH, SOUTH))
    for home in homes:
        listen = f'\n[http]\nlisten = "127.0.0.1:{ports[home.folder.name]}"\n'
        home.settings_file.write_text(home.settings_file.read_text() + listen)
    with running(root, (NORTH, SOUTH)):
        agent = connect(NORTH, root=root).create(Counting, "counting")
        agents = {name: AgentProxy(connect(name, root=root), agent.id) for name in (NORTH, SOUTH)}
        tokens = {addresses[home.folder.name]: home.http_token.read_text() for home in homes}

        def client(moving: str) -> Client:
            return Client([addresses[NORTH], addresses[SOUTH]], token=tokens, moving=moving)

        def some(number: int) -> bool:
            return number < count

        result: dict[str, Any] = {"requests": count}
        holding = client("hold")
        ways: dict[str, Callable[[int], Any]] = {
            "proxy_ms": lambda number: agent.call("count", number),
            "endpoint_ms": lambda number: holding.ask_agent(agent.id, "count", number),
        }
        for ask in ways.values():
            timed(ask, lambda number: number < WARM_UP)
        for way, ask in ways.items():
            result[way] = figures(timed(ask, some)[0])
        agent.call("take")
        for mode in MODES:
            asks = client(mode)
            with Moving(agents) as moving:
                end = time.monotonic() + seconds
                times, lost = timed(
                    lambda number, asks=asks: asks.ask_agent(agent.id, "count", number),  # type: ignore[misc]
                    lambda number, end=end: time.monotonic() < end,  # type: ignore[misc]
                )
            handled = agent.call("take")
            result[mode] = figures(times) | {
                "requests": len(times),
                "moves": moving.moves,
                "lost": lost + len(set(range(len(times))) - set(handled)),
                "twice": len(handled) - len(set(handled)),
            }
        with Moving(agents):
            end = time.monotonic() + seconds
            result["proxy_moving_ms"] = figures(timed(ways["proxy_ms"], lambda number: time.monotonic() < end)[0])
        return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks requests", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000, help="while the agent stays (default: 1000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each mode, while it moves (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder) / "root", options.requests, options.seconds)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")
    return int(any(result[mode]["lost"] or result[mode]["twice"] for mode in MODES))

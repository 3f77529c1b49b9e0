"""A small agent goes to and fro between two daemons: from `self.dispatch` in the agent to `on_arrival` there.

Everything is on: mutual TLS, signatures, the durable journal, the gateway, the ledger's records of the hops.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from agentplatform import Agent, connect
from agentplatform.console import processes
from agentplatform.consortium import found
from benchmarks import floor

WARM_UP = 50


class Shuttle(Agent):
    light = True  # it finds a worker of its owner on both sides

    def on_creation(self, init: Any) -> None:
        self.hosts, self.left = init["hosts"], init["hops"]
        self.times: list[float] = []
        self.asked = 0.0
        self.failure = ""

    def handle_message(self, message: Any) -> Any:
        if message.kind == "go":
            self._go()
        return {"left": self.left, "times": self.times, "failure": self.failure}

    def on_arrival(self, arrival: Any) -> None:
        self.times.append((time.monotonic() - self.asked) * 1000)
        self.left -= 1
        if self.left > 0:
            self._go()

    def on_move_failed(self, reason: str) -> None:
        self.failure = reason

    def _go(self) -> None:
        self.asked = time.monotonic()
        self.dispatch(self.hosts[1] if self.host == self.hosts[0] else self.hosts[0])


def measure(root: Path, hops: int) -> list[float]:
    """Milliseconds of each hop, warm-up left out."""
    hosts = ("north", "east")
    found(root, hosts)
    processes.start(root, hosts)
    try:
        shuttle = connect("north", root=root).create(Shuttle, init={"hosts": hosts, "hops": hops + WARM_UP})
        seen = shuttle.call("go")
        while seen["left"] > 0 and not seen["failure"]:
            time.sleep(0.25)
            seen = shuttle.call("look")
        if seen["failure"]:
            raise SystemExit(f"the agent could not move: {seen['failure']}")
        times: list[float] = seen["times"][WARM_UP:]
        return times
    finally:
        processes.stop(root, hosts)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks migration", description=__doc__)
    parser.add_argument("--hops", type=int, default=400)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        hops = measure(Path(folder) / "root", options.hops)
        state = {"hosts": ["north", "east"], "left": 1, "times": hops[:200], "asked": 0.0, "failure": ""}
        bare = floor.measure(state, Path(folder), options.hops, WARM_UP)
    p50, bottom = statistics.median(hops), statistics.median(bare)
    figures = {
        "hop_ms_p50": round(p50, 3),
        "hop_ms_p95": round(statistics.quantiles(hops, n=20)[-1], 3),
        "floor_ms_p50": round(bottom, 3),
        "ratio_to_floor": round(p50 / bottom, 2),
    }
    if not options.json:
        print(f"{len(hops)} hops between two daemons, each {p50:.2f} ms at the median; the floor is {bottom:.2f} ms")
    print(json.dumps(figures))
    return 0

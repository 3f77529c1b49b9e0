"""Agents go to and fro between daemons: from `self.dispatch` in the agent to `on_arrival` there.

Everything is on: mutual TLS, signatures, the durable journal, the gateway, the ledger's records of the hops. Beside it
the floor (benchmarks.floor), in turns, and two other systems where they are installed.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentplatform import connect
from agentplatform.consortium import COMPASS
from agentplatform.frontdoor.client import AgentProxy
from benchmarks import floor, parts
from benchmarks.migration_hosts import hosts
from benchmarks.percentiles import percentile
from benchmarks.shuttles import HeldShuttle, Shuttle, Stranger

PAIR = ("north", "east")
WARM_UP = 50
ROUNDS = 4  # of hops and of the floor, in turns
CROWD = 8  # agents at once
REST = 0.2  # seconds in which a host forks and warms the next worker, and what was written last is durable
HELD_REST = 0.1  # seconds in which the source hears, too, what the ledger has decided, and can take the agent back
SYNC_MS, ROUND_TRIP_MS = 10.0, 20.0
SIZES = {"64kib": 64 << 10, "1mib": 1 << 20}
LOOK_EVERY = 0.25  # seconds; a look is a message to an agent on its way, so it is rare
PATIENCE = 300.0  # seconds for all hops that an agent was told to make
PEERS = Path(__file__).parent / "peers"


class Moving:
    """Agents on their way between two hosts that run."""

    def __init__(
        self, root: Path, kind: type[Shuttle], size: int = 0, rest: float | None = None, count: int = 1
    ) -> None:
        self._size, self._rest = size, rest or 0.0
        self._init = {"hosts": PAIR, "bytes": size, "rest": rest}
        host = connect(PAIR[0], root=root)
        self.agents = [host.create(kind, init=self._init, patience=60.0) for _ in range(count)]

    def go(self, hops: int) -> list[dict[str, Any]]:
        """What each agent says in the end: `times` are the milliseconds of its hops."""
        for agent in self.agents:
            agent.call("go", hops, patience=60.0)
        time.sleep(hops * self._rest)  # so long they need by all means
        deadline = time.monotonic() + PATIENCE
        return [self._await(agent, deadline) for agent in self.agents]

    def state(self, times: list[float]) -> dict[str, Any]:
        """As the agent's own is, for the floor."""
        ballast = os.urandom(self._size)
        return self._init | {"ballast": ballast, "left": 1, "asked": 0.0, "failure": "", "times": times, "ended": 0.0}

    def dispose(self) -> None:
        for agent in self.agents:
            agent.dispose()

    def _await(self, agent: AgentProxy, deadline: float) -> dict[str, Any]:
        while True:
            seen: dict[str, Any] = agent.call("look", patience=60.0)
            if seen["failure"]:
                raise SystemExit(f"the agent could not move: {seen['failure']}")
            if seen["left"] <= 0:
                return seen
            if time.monotonic() > deadline:
                raise SystemExit(f"{seen['left']} hops of the agent are not done after {PATIENCE:g} s")
            time.sleep(LOOK_EVERY)


@contextmanager
def moving(root: Path, kind: type[Shuttle], **how: Any) -> Iterator[Moving]:
    shuttle = Moving(root, kind, **how)
    yield shuttle
    shuttle.dispose()


# What is measured


def beside_floor(root: Path, kind: type[Shuttle], hops: int, **how: Any) -> tuple[list[float], list[float]]:
    """Milliseconds of hops and of the floor with the same bytes, in turns."""
    ours: list[float] = []
    bare: list[float] = []
    each = hops // ROUNDS
    with moving(root, kind, **how) as shuttle, tempfile.TemporaryDirectory() as folder:
        shuttle.go(min(WARM_UP, each))
        for turn in range(ROUNDS):
            (seen,) = shuttle.go(each)
            ours += seen["times"]
            place = Path(folder) / str(turn)
            place.mkdir()
            bare += floor.measure(shuttle.state(seen["times"][::2]), place, each, min(WARM_UP, each))
    return ours, bare


def at_once(root: Path, hops: int) -> float:
    """Hops a second of all agents together."""
    with moving(root, Shuttle, count=CROWD) as crowd:
        crowd.go(hops // 5)
        begin = time.monotonic()
        seen = crowd.go(hops)
    return hops * CROWD / (max(each["ended"] for each in seen) - begin)


def only(root: Path, kind: type[Shuttle], hops: int, rest: float | None = None) -> list[float]:
    with moving(root, kind, rest=rest) as shuttle:
        shuttle.go(max(4, hops // 5))
        (seen,) = shuttle.go(hops)
    times: list[float] = seen["times"]
    return times


def noted(root: Path, history: Path, hops: int) -> dict[str, float]:
    """Milliseconds of each part, at the median."""
    with moving(root, Shuttle) as shuttle:
        shuttle.go(WARM_UP)
        (seen,) = shuttle.go(hops)
        agent = shuttle.agents[0].id
    lines = [json.loads(line) for file in sorted(history.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return parts.medians(parts.of_hops(lines, agent, seen["times"]))


def peer(script: str, python: Path | None, hops: int) -> float | None:
    """Milliseconds of a hop there, at the median; None if no interpreter that has it was named."""
    if python is None:
        return None
    done = subprocess.run(
        [str(python), str(PEERS / script), "--hops", str(hops)], capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        raise SystemExit(f"{script} failed with {python}: {done.stderr.strip().splitlines()[-1:]}; is it installed?")
    return statistics.median(json.loads(done.stdout.splitlines()[-1])["ms"])


# Figures


def spread(name: str, times: list[float]) -> dict[str, float]:
    return {f"{name}_ms_p50": round(statistics.median(times), 3), f"{name}_ms_p95": round(percentile(times, 95), 3)}


def ratios(name: str, times: list[float], bare: list[float]) -> dict[str, float]:
    """Over the floor: median over median, 95th percentile over 95th percentile."""
    middle = statistics.median(times) / statistics.median(bare)
    return {name: round(middle, 2), f"{name}_p95": round(percentile(times, 95) / percentile(bare, 95), 2)}


def versus(name: str, theirs: float | None, ours: float) -> dict[str, float | None]:
    if theirs is None:
        return {f"{name}_ms_p50": None, f"ratio_vs_{name}": None}
    return {f"{name}_ms_p50": round(theirs, 1), f"ratio_vs_{name}": round(theirs / ours, 1)}


def measure(folder: Path, scale: int, load: int) -> dict[str, Any]:
    """`scale`: how many times as many hops as in a short run."""
    figures: dict[str, Any] = {}
    with hosts(folder / "pair", PAIR, load=load) as loaded:
        root = folder / "pair"
        hops, bare = beside_floor(root, Shuttle, 400 * scale)
        figures |= spread("hop", hops) | spread("floor", bare) | ratios("ratio_to_floor", hops, bare)
        fresh, bare = beside_floor(root, Stranger, 40 * scale, rest=REST)
        figures |= spread("fresh", fresh) | ratios("ratio_fresh", fresh, bare)
        for name, size in SIZES.items():
            some, bare = beside_floor(root, Shuttle, 60 * scale, size=size)
            figures |= spread(f"hop_{name}", some) | ratios(f"ratio_{name}", some, bare)
        figures["hops_per_second_8"] = round(at_once(root, 50 * scale), 1)
        figures["ledger_tps"] = None if loaded is None else round(loaded.rate(), 1)
    with hosts(folder / "slow", PAIR, sync_ms=SYNC_MS, round_trip_ms=ROUND_TRIP_MS, load=load):
        figures |= spread("slow", only(folder / "slow", Shuttle, 30 * scale, REST))
    with hosts(folder / "four", COMPASS, load=load):
        held, local = (only(folder / "four", kind, 50 * scale, HELD_REST) for kind in (HeldShuttle, Shuttle))
        figures |= spread("held", held) | spread("held_local", local)
        figures["held_over_local"] = round(statistics.median(held) / statistics.median(local), 2)
    with hosts(folder / "noted", PAIR, history=folder / "history", load=load):
        figures["parts_ms"] = noted(folder / "noted", folder / "history", 100 * scale)
    return figures


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks migration", description=__doc__)
    parser.add_argument("--full", action="store_true", help="five times as many hops")
    parser.add_argument("--ledger-load", type=int, default=0, metavar="N", help="meanwhile, transactions a second")
    parser.add_argument("--paglets", type=Path, metavar="PYTHON", help="an interpreter that has paglets (PyPI)")
    parser.add_argument("--ray", type=Path, metavar="PYTHON", help="an interpreter that has ray (PyPI)")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    scale = 5 if options.full else 1
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), scale, options.ledger_load)
    figures |= versus("paglets", peer("paglets_hop.py", options.paglets, 10 * scale), figures["hop_ms_p50"])
    figures |= versus("ray_recreate", peer("ray_recreate.py", options.ray, 10 * scale), figures["hop_ms_p50"])
    figures["load_average"] = round(os.getloadavg()[0], 1)
    if not options.json:
        _explain(figures)
    print(json.dumps(figures))
    return 0


def _explain(figures: dict[str, Any]) -> None:
    print(f"a hop takes {figures['hop_ms_p50']:.2f} ms at the median; the floor is {figures['floor_ms_p50']:.2f} ms")
    print("of it, in ms: " + ", ".join(f"{part} {took:.2f}" for part, took in figures["parts_ms"].items()))
    for name in ("paglets", "ray_recreate"):
        if figures[f"ratio_vs_{name}"] is None:
            print(f"not beside {name}: name an interpreter that has it (--{name.split('_')[0]} PYTHON)")

"""What the ledger's benchmark measures, one function each; every one makes its own replicas and ends them."""

import asyncio
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import ledger_floor
from benchmarks.ledger_cluster import NOTHING, Cluster, Counts
from benchmarks.ledger_link import LOOPBACK, Link

KINDS = ("transfers", "creations")
ENGINES = ("ipbft", "pbft")
IMPROVED, BASELINE = ENGINES
SINGLES = 200  # transactions on the idle chain


@contextmanager
def cluster(
    engine: str, n: int, folder: Path, link: Link = LOOPBACK, block_transactions: int | None = None
) -> Iterator[Cluster]:
    running = Cluster(engine, n, folder, link, block_transactions)
    try:
        yield running
    finally:
        running.stop()


class Comparison(NamedTuple):
    """Both engines in turns, on one kind of link."""

    link: str
    tps: dict[tuple[str, str, int], float]  # (engine, kind, count) -> median
    counts: dict[str, Counts]
    runs: dict[tuple[str, str, int], list[float]]  # what `tps` are the medians of, round by round

    def ratio(self, kind: str, count: int) -> float:
        return self.tps[IMPROVED, kind, count] / self.tps[BASELINE, kind, count]

    def mean_ratio(self) -> float:
        return statistics.mean(self.ratio(kind, count) for engine, kind, count in self.tps if engine == IMPROVED)

    def best(self, engine: str) -> float:
        return max(value for (of, kind, _), value in self.tps.items() if of == engine and kind == "transfers")


def compare(n: int, steps: tuple[int, ...], rounds: int, folder: Path, link: Link) -> Comparison:
    """Each round has replicas of its own, and the engines take turns in being first: of two that are the same, the one
    that was started first was measured 1 to 6 % slower."""
    runs: dict[tuple[str, str, int], list[float]] = {}
    counts = dict.fromkeys(ENGINES, NOTHING)
    for number in range(rounds):
        order = ENGINES if number % 2 == 0 else ENGINES[::-1]
        with ExitStack() as stack:
            running = {engine: stack.enter_context(cluster(engine, n, folder, link)) for engine in order}
            for count in steps:
                for kind in KINDS:
                    for engine in order:
                        runs.setdefault((engine, kind, count), []).append(running[engine].throughput(kind, count))
                        counts[engine] = counts[engine].plus(running[engine].counts())
    return Comparison(link.name, {key: statistics.median(values) for key, values in runs.items()}, counts, runs)


def sweep(n: int, sizes: tuple[int, ...], count: int, rounds: int, folder: Path) -> dict[int, float]:
    """Transfers a second of the improved engine, by the largest block that is allowed."""
    found = {}
    for size in sizes:
        with cluster(IMPROVED, n, folder, block_transactions=size) as running:
            found[size] = statistics.median(running.throughput("transfers", count) for _ in range(rounds))
    return found


class Finality(NamedTuple):
    """Seconds."""

    improved: float
    baseline: float
    from_a_backup: float  # the improved engine's, when a backup's client submits
    floor: float
    failover: float


def finality(n: int, folder: Path) -> Finality:
    """Of one transaction at a time, on an idle chain; the engines in turns, the floor in the same minute."""
    with ExitStack() as stack:
        running = {engine: stack.enter_context(cluster(engine, n, folder)) for engine in ENGINES}
        times: dict[str, list[float]] = {engine: [] for engine in (*ENGINES, "backup")}
        floors = []
        for _ in range(4):
            floors.append(asyncio.run(ledger_floor.finality(folder)))
            for _ in range(SINGLES // 4):
                for engine in ENGINES:
                    times[engine].append(running[engine].ask(0, "one"))
                times["backup"].append(running[IMPROVED].ask(1, "one"))
        failover = running[IMPROVED].failover()
    medians = {name: statistics.median(values) for name, values in times.items()}
    return Finality(medians[IMPROVED], medians[BASELINE], medians["backup"], statistics.median(floors), failover)


class Size(NamedTuple):
    n: int
    tps: float
    finality: float  # seconds
    bytes_per_transaction: float
    messages_per_block: float


def sizes(numbers: tuple[int, ...], count: int, folder: Path) -> list[Size]:
    found = []
    for n in numbers:
        with cluster(IMPROVED, n, folder) as running:
            tps = statistics.median(running.throughput("transfers", count) for _ in range(3))
            counts = running.counts()
            seconds = statistics.median(running.ask(0, "one") for _ in range(50))
        per_block = counts.per_block()
        found.append(Size(n, tps, seconds, counts.bytes_per_transaction(), per_block["messages of consensus"]))
    return found

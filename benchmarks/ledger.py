"""Transactions a second and time to finality of the consortium's ledger, improved beside the unimproved baseline.

Every replica is a process with real sockets (mutual TLS) and a durable disk (synchronous=FULL), and verifies every
client's signature. Both engines run on the same machine in the same run, in turns; figures are medians. The clients
live in the replicas' processes, and sign before the time runs.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import statistics
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import ledger_floor
from benchmarks.ledger_node import genesis, serve
from ledger.consensus.settings import Settings

N = 4
DEFAULT_STEPS = (2000, 4000)
FULL_STEPS = tuple(range(1000, 10_001, 1000))
SINGLES = 200  # transactions on the idle chain
CONSENSUS = {"propose", "vote", "view-change", "new-view", "status", "fetch", "blocks"}


class Cluster:
    """Replicas of one engine, each a process."""

    def __init__(self, engine: str, n: int, folder: Path) -> None:
        founding = genesis([f"127.0.0.1:{port}" for port in _free_ports(n)])
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        for place in range(n):
            ours, theirs = context.Pipe()
            home = folder / f"{engine}-{place}"
            process = context.Process(target=serve, args=(place, engine, founding, home, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)
        for pipe in self.pipes:
            pipe.recv()
        self.ask_all("open_accounts")

    def ask_all(self, name: str, *arguments: Any) -> list[Any]:
        for pipe in self.pipes:
            pipe.send((name, arguments))
        return [pipe.recv() for pipe in self.pipes]

    def ask(self, place: int, name: str, *arguments: Any) -> Any:
        self.pipes[place].send((name, arguments))
        return self.pipes[place].recv()

    def throughput(self, kind: str, count: int) -> float:
        """Transactions a second: `count` by the clients of all replicas, to the finality of the last."""
        self.ask_all(f"prepare_{kind}", count // len(self.pipes))
        times = self.ask_all("run")
        return count / (max(end for _, end in times) - min(begin for begin, _ in times))

    def counts(self) -> tuple[int, int, Counter[str], Counter[str]]:
        """Blocks, transactions, messages and bytes of all replicas together, since the last time."""
        found = self.ask_all("counts")
        messages, size = sum((each[2] for each in found), Counter()), sum((each[3] for each in found), Counter())
        return found[0][0], found[0][1], messages, size

    def failover(self) -> float:
        """Seconds from the kill of the primary to the finality of a transaction."""
        killed = time.monotonic()
        os.kill(self.processes[0].pid or 0, signal.SIGKILL)
        return float(self.ask(1, "one_at")) - killed

    def stop(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            if process.is_alive():
                pipe.send(("stop", ()))
        for process in self.processes:
            process.join(10)
            process.kill()


def measure(steps: tuple[int, ...], rounds: int, folder: Path, say: Any) -> dict[str, Any]:
    verify = ledger_floor.verifications_per_core()
    bound = verify * (os.cpu_count() or 1) / N
    clusters = {engine: Cluster(engine, N, folder) for engine in ("ipbft", "pbft")}
    tps: dict[tuple[str, str, int], list[float]] = {}
    per_block: dict[str, dict[str, float]] = {}
    totals = {engine: (0, 0, Counter[str](), Counter[str]()) for engine in clusters}
    try:
        for cluster in clusters.values():
            cluster.throughput("transfers", 1000)  # warm
            cluster.counts()
        for number in range(rounds):
            for count in steps:
                for kind in ("transfers", "creations"):
                    order = list(clusters) if number % 2 == 0 else list(clusters)[::-1]
                    for engine in order:
                        tps.setdefault((engine, kind, count), []).append(clusters[engine].throughput(kind, count))
                        found = clusters[engine].counts()
                        totals[engine] = tuple(a + b for a, b in zip(totals[engine], found, strict=True))  # type: ignore[assignment]
        singles = {engine: [cluster.ask(0, "one") for _ in range(SINGLES)] for engine, cluster in clusters.items()}
        elsewhere = [clusters["ipbft"].ask(1, "one") for _ in range(SINGLES)]
        floor = asyncio.run(ledger_floor.finality(folder))
        failover = clusters["ipbft"].failover()
    finally:
        for cluster in clusters.values():
            cluster.stop()
    for engine, (blocks, transactions, messages, size) in totals.items():
        consensus = sum(count for kind, count in messages.items() if kind in CONSENSUS)
        per_block[engine] = {
            "transactions": transactions / blocks,
            "messages": consensus / blocks,
            "all_messages": messages.total() / blocks,
            "bytes": size.total() / blocks,
            "bytes_per_transaction": size.total() / transactions,
        }
    say(f"{'':10} {'count':>6} {'improved':>9} {'baseline':>9} ratio   (transactions a second, medians of {rounds})")
    best: dict[str, float] = {}
    ratios = []
    for kind in ("transfers", "creations"):
        for count in steps:
            improved, baseline = (statistics.median(tps[engine, kind, count]) for engine in ("ipbft", "pbft"))
            ratios.append(improved / baseline)
            say(f"{kind:10} {count:6} {improved:9.0f} {baseline:9.0f} {improved / baseline:5.2f}")
    for engine in clusters:
        best[engine] = max(statistics.median(tps[engine, "transfers", count]) for count in steps)
        say(f"{engine}: " + ", ".join(f"{value:.1f} {what}" for what, value in per_block[engine].items()) + " a block")
    p50 = {engine: statistics.median(values) * 1000 for engine, values in singles.items()}
    return {
        "n": N,
        "tps_improved": round(best["ipbft"]),
        "tps_baseline": round(best["pbft"]),
        "ratio_mean": None,  # needs a shaped link
        "ratio_loopback": round(statistics.mean(ratios), 3),
        "verify_per_s_core": round(verify),
        "tps_over_bound": round(best["ipbft"] / bound, 3),
        "finality_ms_p50": round(p50["ipbft"], 3),
        "finality_over_floor": round(p50["ipbft"] / (floor * 1000), 2),
        "failover_ms": round(failover * 1000),
        "messages_per_block_improved": round(per_block["ipbft"]["messages"], 1),
        "messages_per_block_baseline": round(per_block["pbft"]["messages"], 1),
        "tps_over_ganache": None,  # where it is not installed
        "finality_floor_ms": round(floor * 1000, 3),
        "finality_ms_p50_baseline": round(p50["pbft"], 3),
        "finality_ms_p50_from_a_backup": round(statistics.median(elsewhere) * 1000, 3),
        "view_timeout_ms": round(Settings().view_timeout * 1000),
        "transactions_per_block_improved": round(per_block["ipbft"]["transactions"], 1),
        "transactions_per_block_baseline": round(per_block["pbft"]["transactions"], 1),
        "bytes_per_transaction_improved": round(per_block["ipbft"]["bytes_per_transaction"]),
        "bytes_per_transaction_baseline": round(per_block["pbft"]["bytes_per_transaction"]),
    }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks ledger", description=__doc__)
    parser.add_argument("--full", action="store_true", help="1,000 to 10,000 transactions in steps of 1,000")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many (default 3)")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(
            FULL_STEPS if options.full else DEFAULT_STEPS,
            options.rounds,
            Path(folder),
            (lambda line: None) if options.json else print,
        )
    print(json.dumps(figures))
    return 0

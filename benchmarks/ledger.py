"""Transactions a second and time to finality of the consortium's ledger, improved beside the unimproved baseline.

Every replica is a process with real sockets (mutual TLS) and a durable disk (synchronous=FULL), and verifies every
client's signature. Both engines run on the same machine in the same run, in turns; figures are medians. The clients
live in the replicas' processes, and sign before the time runs.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import ganache, ledger_floor, ledger_model, ledger_runs
from benchmarks.ledger_link import LOOPBACK
from benchmarks.ledger_runs import BASELINE, ENGINES, IMPROVED, KINDS, Comparison
from benchmarks.shaped import shaped
from ledger.chain import MAX_BLOCK_TRANSACTIONS
from ledger.consensus.settings import Settings

N = 4
STEPS = (1000, 4000)
FULL_STEPS = tuple(range(1000, 10_001, 1000))
BLOCKS = (100, 500, MAX_BLOCK_TRANSACTIONS)  # transactions in a block; the ledger allows no more
SIZES = (4, 7, 10, 16)
SWEEP = 6000  # transactions
Say = Callable[[str], None]


def measure(
    steps: tuple[int, ...], rounds: int, mbits: float, full: bool, plot: Path | None, folder: Path, say: Say
) -> dict[str, Any]:
    rates = [ledger_floor.verifications_per_core()]
    loopback = ledger_runs.compare(N, steps, rounds, folder, LOOPBACK)
    show(loopback, rounds, say)
    with shaped(mbits) as link:
        narrow = ledger_runs.compare(N, steps, rounds, folder, link)
    show(narrow, rounds, say)
    rates.append(ledger_floor.verifications_per_core())
    by_block = ledger_runs.sweep(N, BLOCKS, SWEEP, rounds, folder)
    rates.append(ledger_floor.verifications_per_core())
    verify, cores = max(rates), os.cpu_count() or 1  # a machine that others use too is never faster than it is
    bound = verify * cores / N
    say(f"{cores} cores, {verify:.0f} verifications a second on each: at most {bound:.0f} transactions a second")
    for size, tps in by_block.items():
        say(f"blocks of {size:5}: {tps:6.0f} transfers a second, {tps / bound:.2f} of the bound")
    final = ledger_runs.finality(N, folder)
    by_n = ledger_runs.sizes(SIZES, SWEEP // 2, folder) if full else []
    if by_n:
        ledger_model.show(by_n, loopback, verify * cores, final.floor, say, plot)
    chain = ganache.measure(folder)
    if chain is None:
        say(f"{ganache.INSTALL}: then tps_over_ganache is measured too")
    creations = max(loopback.tps[IMPROVED, "creations", count] for count in steps)
    work = {engine: loopback.counts[engine].processor_per_transaction() for engine in ENGINES}
    messages = {engine: loopback.counts[engine].per_block()["messages of consensus"] for engine in ENGINES}
    return {
        "n": N,
        "tps_improved": round(loopback.best(IMPROVED)),
        "tps_baseline": round(loopback.best(BASELINE)),
        "ratio_mean": round(narrow.mean_ratio(), 3),
        "ratio_loopback": round(loopback.mean_ratio(), 3),
        "verify_per_s_core": round(verify),
        "verify_per_s_core_during_the_run": [round(rate) for rate in rates],
        "tps_over_bound": round(max(by_block.values()) / bound, 3),
        "finality_ms_p50": round(final.improved * 1000, 3),
        "finality_over_floor": round(final.improved / final.floor, 2),
        "failover_ms": round(final.failover * 1000),
        "messages_per_block_improved": round(messages[IMPROVED], 1),
        "messages_per_block_baseline": round(messages[BASELINE], 1),
        "tps_over_ganache": None if chain is None else round(max(by_block.values()) / chain.transfers, 2),
        "creations_over_ganache": None if chain is None else round(creations / chain.creations, 2),
        "link": f"{narrow.link}, {mbits} Mbit/s",
        "tps_over_bound_by_block": {str(size): round(tps / bound, 3) for size, tps in by_block.items()},
        "finality_floor_ms": round(final.floor * 1000, 3),
        "finality_ms_p50_baseline": round(final.baseline * 1000, 3),
        "finality_ms_p50_from_a_backup": round(final.from_a_backup * 1000, 3),
        "view_timeout_ms": round(Settings().view_timeout * 1000),
        "processor_us_per_transaction_improved": round(work[IMPROVED] * 1e6, 1),
        "processor_us_per_transaction_baseline": round(work[BASELINE] * 1e6, 1),
        "verifications_share_improved": round(N / verify / work[IMPROVED], 3),
        "per_block_improved": _rounded(loopback.counts[IMPROVED].per_block()),
        "per_block_baseline": _rounded(loopback.counts[BASELINE].per_block()),
        "ganache": None if chain is None else _rounded(chain._asdict()),
        "by_n": [_rounded(size._asdict(), 4) for size in by_n],
    }


def show(comparison: Comparison, rounds: int, say: Say) -> None:
    steps = sorted({count for _, _, count in comparison.tps})
    say(f"\n| {comparison.link} | transactions | improved | baseline | ratio |\n|---|---|---|---|---|")
    for kind in KINDS:
        for count in steps:
            improved, baseline = (comparison.tps[engine, kind, count] for engine in ENGINES)
            say(f"| {kind} | {count} | {improved:.0f} | {baseline:.0f} | {improved / baseline:.2f} |")
    say(f"\ntransactions a second, medians of {rounds}; mean ratio {comparison.mean_ratio():.3f}\n")
    for engine in ENGINES:
        per_block = comparison.counts[engine].per_block()
        say(f"{engine}, a block: " + ", ".join(f"{value:.1f} {what}" for what, value in per_block.items()))
    say("")


def _rounded(figures: dict[str, float], digits: int = 1) -> dict[str, float]:
    return {name: round(value, digits) for name, value in figures.items()}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks ledger", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all steps of 1,000 to 10,000, and n = 4, 7, 10, 16")
    parser.add_argument("--rounds", type=int, default=4, help="medians of so many (default 4)")
    parser.add_argument("--mbits", type=float, default=100, help="of the primary's link for ratio_mean (default 100)")
    parser.add_argument("--plot", type=Path, help="with --full: an SVG of the figures against n (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(
            FULL_STEPS if options.full else STEPS,
            options.rounds,
            options.mbits,
            options.full,
            options.plot,
            Path(folder),
            (lambda line: None) if options.json else print,
        )
    print(json.dumps(figures))
    return 0

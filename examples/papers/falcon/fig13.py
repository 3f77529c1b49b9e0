"""Figure 13: throughput and time of transfers (a) and creations of accounts (b), improved PBFT beside unimproved."""

from examples.papers.falcon import engines, throughput
from examples.papers.result import Result, Say, Scale

PAPER = "The improved consensus has 23 % more throughput in the mean than the unimproved."


def measure(scale: Scale, say: Say) -> Result:
    say("both engines in turns, transfers and creations of accounts")
    comparison = throughput.on_loopback(scale)
    return Result(
        title="Improved PBFT beside unimproved, on loopback: throughput and time",
        columns=engines.COLUMNS,
        rows=engines.rows(comparison),
        paper=PAPER,
        measured=engines.sentence(comparison),
        differs="The paper compares two programs on a test chain (TestRPC) that runs no consensus; here two engines "
        "have the same links, disk, contracts and clients. On one machine the processors limit both, since every "
        "replica verifies each client's signature, and the improved engine takes 5 to 9 us more for a transaction "
        "(docs/benchmarks.md). What it saves is bytes: see fig13_narrow.",
        draw=engines.draw,
        emulated=(f"{throughput.ONE_MACHINE}, on loopback",),
    )

"""What Figures 12 and 13 are drawn from: the two engines of the ledger in turns, measured once for all of them."""

import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks import ledger_link, ledger_runs
from benchmarks.ledger_runs import Comparison
from benchmarks.shaped import shaped
from examples.papers.result import Scale

N = 4  # members
ONE_MACHINE = f"{N} replicas are processes of this one machine"


class Plan(NamedTuple):
    steps: tuple[int, ...]  # transactions
    rounds: int  # each with new replicas; the engines take turns in being first


PLANS = {
    Scale.TINY: Plan((200, 400), 1),
    Scale.SMALL: Plan((1000, 4000, 8000), 3),
    Scale.FULL: Plan(tuple(range(1000, 10_001, 1000)), 4),
}


@cache
def on_loopback(scale: Scale) -> Comparison:
    """Improved and unimproved PBFT: transfers and creations of accounts."""
    return _compared(scale, ledger_link.LOOPBACK)


@cache
def on_narrow_link(scale: Scale, mbits: float) -> Comparison:
    """The same; the primary's link carries `mbits` Mbit/s each way."""
    with shaped(mbits) as link:
        return _compared(scale, link)


def _compared(scale: Scale, link: ledger_link.Link) -> Comparison:
    plan = PLANS[scale]
    with tempfile.TemporaryDirectory(prefix="agentplatform-ledger-") as folder:
        return ledger_runs.compare(N, plan.steps, plan.rounds, Path(folder), link)

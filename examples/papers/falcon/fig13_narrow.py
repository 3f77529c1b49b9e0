"""Figure 13 again where the improvement of ours shows: the primary's link is narrow. The paper has no such figure."""

from examples.papers.falcon import engines, throughput
from examples.papers.falcon.fig13 import PAPER
from examples.papers.result import Result, Say, Scale

MBITS = 20  # Mbit/s, each way


def measure(scale: Scale, say: Say) -> Result:
    say(f"both engines in turns, the primary's link has {MBITS} Mbit/s")
    comparison = throughput.on_narrow_link(scale, MBITS)
    return Result(
        title=f"Improved PBFT beside unimproved, the primary's link with {MBITS} Mbit/s",
        columns=engines.COLUMNS,
        rows=engines.rows(comparison),
        paper=PAPER,
        measured=engines.sentence(comparison),
        differs="The paper clears certificates by a local timestamp, which is not safe, and gains by that. Here "
        "proposals carry ids alone, since every replica has the transactions from their clients already: half of the "
        "bytes on the primary's link, and so more where that is what limits.",
        draw=engines.draw,
        emulated=(throughput.ONE_MACHINE, f"the link of {MBITS} Mbit/s: {comparison.link}"),
    )

"""Figure 12: transactions a second of the improved ledger, for 1,000 to 10,000 of them."""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.ledger_runs import IMPROVED
from examples.papers.falcon import throughput
from examples.papers.plots import BLUE, dots, lines, plain
from examples.papers.result import Column, Result, Row, Say, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(scale: Scale, say: Say) -> Result:
    say("both engines in turns, transfers and creations of accounts")
    runs = throughput.on_loopback(scale).runs
    rows = tuple(
        (count, number, round(tps, 1))
        for (engine, kind, count), found in sorted(runs.items())
        if (engine, kind) == (IMPROVED, "transfers")
        for number, tps in enumerate(found, 1)
    )
    return Result(
        title="Transfers a second on the improved ledger (small dots: single runs)",
        columns=(Column("transactions"), Column("run"), Column("transfers", "1/s")),
        rows=rows,
        paper="Throughput rises with the number of transactions, and falls at 7,000 to 8,000.",
        measured=_sentence(rows),
        differs="The paper lets one block carry more and more; here a block has at most 1,000 transactions and at most "
        "3,800 are under way, so more of them do not make anything larger: there is nothing that should fall.",
        draw=_draw,
        emulated=(f"{throughput.ONE_MACHINE}, on loopback",),
    )


def _means(rows: Sequence[Row]) -> dict[int, float]:
    counts = sorted({count for count, _, _ in rows})
    return {each: statistics.mean(tps for count, _, tps in rows if count == each) for each in counts}


def _sentence(rows: Sequence[Row]) -> str:
    means = _means(rows)
    first, last, best = min(means), max(means), max(means, key=lambda count: means[count])
    runs = [[tps for count, _, tps in rows if count == each] for each in means]
    apart = max(max(each) / min(each) for each in runs)
    fall = 1 - means[last] / means[best]
    if fall <= 0:
        end = "most with the most transactions, no fall"
    elif means[best] / means[last] <= apart:
        end = f"most with {best:,}; {fall:.0%} less with {last:,} is no more than single runs differ"
    else:
        end = f"most with {best:,}, and {fall:.0%} less with {last:,}"
    return (
        f"{means[first]:,.0f} transfers a second with {first:,} transactions, {means[last]:,.0f} with {last:,}; {end} "
        f"(runs of the same number differ by up to {apart - 1:.0%})."
    )


def _draw(figure: "Figure", rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    means = _means(rows)
    axes.set_ylim(0, 1.15 * max(tps for _, _, tps in rows))
    axes.set_xlim(0, 1.12 * max(means))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    dots(axes, [(count, tps) for count, _, tps in rows], BLUE)
    lines(axes, {"mean": list(means.items())})
    plain(axes, "transactions, of the clients of four replicas", "transfers a second")

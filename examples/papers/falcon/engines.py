"""Two engines beside each other: the rows, the sentence and the picture of a comparison."""

import math
import random
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.ledger_runs import BASELINE, IMPROVED, KINDS, Comparison
from examples.papers.plots import lines, plain
from examples.papers.result import Column, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    Column("kind"),
    Column("transactions"),
    Column("improved", "1/s"),
    Column("unimproved", "1/s"),
    Column("improved", "s"),
    Column("unimproved", "s"),
    Column("least ratio of a round"),
    Column("largest ratio of a round"),
)
PANELS = {"transfers": "(a) transfers", "creations": "(b) account creations"}
CERTAIN = 0.05  # how often fair coins may show it too
_DRAWS = 5000


def rows(comparison: Comparison) -> tuple[Row, ...]:
    """Medians of the rounds, by kind and number of transactions."""
    return tuple(_row(comparison, kind, count) for kind in KINDS for count in _counts(comparison))


def sentence(comparison: Comparison) -> str:
    return "; ".join(f"{kind}: {verdict(_all_ratios(comparison, kind))}" for kind in KINDS) + "."


def verdict(ratios: Sequence[float]) -> str:
    faster = sum(ratio > 1 for ratio in ratios)
    if chance(ratios) > CERTAIN:
        word = "no difference that can be told from chance"
    else:
        word = "the improved engine is faster" if math.prod(ratios) > 1 else "the improved engine is SLOWER"
    return (
        f"{statistics.mean(ratios):.2f} of the unimproved in the mean, more in {faster} of {len(ratios)} runs, "
        f"single ratios {min(ratios):.2f} to {max(ratios):.2f}: {word}"
    )


def chance(ratios: Sequence[float]) -> float:
    """How often ratios of these sizes would be as far from 1 together if coins decided which engine is the faster one
    (Fisher's test of paired values, by sampling)."""
    coins = random.Random(1)  # noqa: S311  no secret
    sizes = [math.log(ratio) for ratio in ratios]
    far = abs(sum(sizes)) - 1e-9
    return sum(abs(sum(coins.choice((-size, size)) for size in sizes)) >= far for _ in range(_DRAWS)) / _DRAWS


def draw(figure: "Figure", table: Sequence[Row]) -> None:
    grid = figure.subplots(2, len(KINDS), sharex=True, sharey="row")
    counts = sorted({row[1] for row in table})
    for column, kind in enumerate(KINDS):
        mine = [row for row in table if row[0] == kind]
        for axes, at, name in zip(grid[:, column], (2, 4), ("transactions a second", "seconds for all"), strict=True):
            axes.set_xlim(0, 1.5 * counts[-1])  # room for the names
            axes.set_ylim(0, 1.15 * max(max(row[at], row[at + 1]) for row in table))
            axes.set_xticks([0, counts[-1] / 2, counts[-1]])
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.yaxis.set_major_formatter("{x:,.0f}" if at == 2 else "{x:g}")
            pairs = {"improved": at, "unimproved": at + 1}
            lines(axes, {each: [(row[1], row[place]) for row in mine] for each, place in pairs.items()})
            plain(axes, "transactions" if at == 4 else "", name if column == 0 else "")
        grid[0, column].set_title(PANELS[kind], fontsize=9.5, loc="left")


def _counts(comparison: Comparison) -> list[int]:
    return sorted({count for _, _, count in comparison.tps})


def _row(comparison: Comparison, kind: str, count: int) -> Row:
    rates = [comparison.tps[engine, kind, count] for engine in (IMPROVED, BASELINE)]
    ratios = _ratios(comparison, kind, count)
    seconds = [round(count / rate, 3) for rate in rates]
    return (kind, count, *(round(rate, 1) for rate in rates), *seconds, round(min(ratios), 3), round(max(ratios), 3))


def _ratios(comparison: Comparison, kind: str, count: int) -> list[float]:
    """One for each round."""
    pairs = zip(comparison.runs[IMPROVED, kind, count], comparison.runs[BASELINE, kind, count], strict=True)
    return [improved / baseline for improved, baseline in pairs]


def _all_ratios(comparison: Comparison, kind: str) -> list[float]:
    return [ratio for count in _counts(comparison) for ratio in _ratios(comparison, kind, count)]

"""What the number of members costs: what was measured, with a model's curve beside it, as a table and a plot.

The model, for n members on one machine, in blocks of B transactions of t bytes:

- transactions a second: cores * verifications a second / n, times the share of it that was reached with the first n;
- messages a block: n-1 proposals, and of each member a PREPARE and a COMMIT to n-1 others: (n-1) + 2n(n-1);
- bytes a transaction: (n-1) * (t + 32) for itself and its id in the proposal, and 2n(n-1) * v / B for votes of v bytes;
- time to finality: the floor (3 messages, 3 durable writes), and for every message of a block the time that one takes
  on this machine's cores, as it was with the first n.
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks.ledger_cluster import Counts
from benchmarks.ledger_runs import IMPROVED, Comparison, Size

NAME_BYTES = 32


def messages(n: int) -> int:
    return (n - 1) + 2 * n * (n - 1)


def curve(found: list[Size], counts: Counts, verifications: float, floor: float) -> list[Size]:
    """The model's figures for the same n. `verifications`: a second, of all cores together."""
    first = found[0]
    share = first.tps / (verifications / first.n)
    each_message = (first.finality - floor) / messages(first.n)
    transaction = counts.bytes["transaction"] / counts.transactions / (first.n - 1)
    vote = counts.bytes["vote"] / counts.messages["vote"]
    block = counts.transactions / counts.blocks
    return [
        Size(
            size.n,
            share * verifications / size.n,
            floor + each_message * messages(size.n),
            (size.n - 1) * (transaction + NAME_BYTES) + 2 * size.n * (size.n - 1) * vote / block,
            messages(size.n),
        )
        for size in found
    ]


def show(
    found: list[Size],
    comparison: Comparison,
    verifications: float,
    floor: float,
    say: Callable[[str], None],
    plot: Path | None,
) -> None:
    model = curve(found, comparison.counts[IMPROVED], verifications, floor)
    say("\n| n | tps | model | finality ms | model | bytes a transaction | model | messages a block | model |")
    say("|---|---|---|---|---|---|---|---|---|")
    for real, ideal in zip(found, model, strict=True):
        pairs = [
            (f"{real.tps:.0f}", f"{ideal.tps:.0f}"),
            (f"{real.finality * 1000:.1f}", f"{ideal.finality * 1000:.1f}"),
            (f"{real.bytes_per_transaction:.0f}", f"{ideal.bytes_per_transaction:.0f}"),
            (f"{real.messages_per_block:.0f}", f"{ideal.messages_per_block:.0f}"),
        ]
        say(f"| {real.n} | " + " | ".join(f"{measured} | {modelled}" for measured, modelled in pairs) + " |")
    say("")
    if plot is not None:
        _plot(found, model, plot, say)


def _plot(found: list[Size], model: list[Size], path: Path, say: Callable[[str], None]) -> None:
    try:
        from matplotlib import pyplot
    except ImportError:
        say("no plot without matplotlib: pip install agentplatform[benchmarks]")
        return
    pyplot.rcParams["svg.fonttype"] = "none"  # text stays text: a small file
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    panels = (
        ("transfers a second", lambda size: size.tps),
        ("time to finality, ms", lambda size: size.finality * 1000),
        ("bytes a transaction", lambda size: size.bytes_per_transaction),
    )
    for axis, (title, value) in zip(axes, panels, strict=True):
        numbers = [size.n for size in found]
        axis.plot(numbers, [value(size) for size in model], "--", color="grey", label="model")
        axis.plot(numbers, [value(size) for size in found], "o-", label="measured")
        axis.set(title=title, xlabel="members", xticks=numbers, ylim=(0, None))
    axes[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    say(f"plot: {path}")

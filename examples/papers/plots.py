"""How the pictures are drawn: colours that colour-blind people tell apart, names beside the lines, nothing else."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# M. Okabe and K. Ito, "Color universal design", 2008.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
INK, GREY, PAPER = "#222222", "#777777", "#FFFFFF"
MARKERS = "osD^vP"  # a shape for each colour: print has none
_BEHIND = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
_NAME = {"fontsize": 8.5, "fontweight": "bold", "bbox": _BEHIND}
_APART = 11.0  # points between the middles of two names

Points = Sequence[tuple[float, float]]


def lines(axes: "Axes", series: Mapping[str, Points], corner: str = "") -> None:
    """A line for each, with its name at its last point, or all in a corner, "upper left", that the lines leave free.
    Set scales and limits of the axes before."""
    ends = {}
    for (name, points), colour, marker in zip(series.items(), COLOURS, MARKERS, strict=False):
        across, up = zip(*points, strict=True)
        axes.plot(across, up, color=colour, marker=marker, markersize=5, linewidth=1.6, label=name)
        ends[name] = (across[-1], up[-1], colour)
    if corner:
        axes.legend(loc=corner, frameon=False, labelcolor="linecolor", prop={"size": 8.5, "weight": "bold"})
    else:
        _names(axes, ends)


def dots(axes: "Axes", points: Points, colour: str) -> None:
    """Single runs, behind their line."""
    across, up = zip(*points, strict=True)
    axes.plot(across, up, "o", color=colour, markersize=3.5, alpha=0.35, markeredgewidth=0)


def plain(axes: "Axes", across: str, up: str) -> None:
    """Names the axes, and takes away what says nothing."""
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def logarithmic(axes: "Axes", *, across: bool = True, up: bool = True) -> None:
    """Where figures span several powers of ten, with marks at 1, 2 and 5 of each. Before lines()."""
    from matplotlib.ticker import LogLocator, NullLocator  # only who draws has it

    for wanted, axis, scale in ((across, axes.xaxis, axes.set_xscale), (up, axes.yaxis, axes.set_yscale)):
        if wanted:
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")


def _names(axes: "Axes", ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Right of each line's end, moved up where the one below is in the way."""
    to_points = 72.0 / axes.figure.dpi
    axes.autoscale_view()
    at = {name: axes.transData.transform((x, y))[1] * to_points for name, (x, y, _) in ends.items()}
    below = float("-inf")
    for name in sorted(ends, key=lambda name: at[name]):
        x, y, colour = ends[name]
        below = max(at[name], below + _APART)
        place = (7, below - at[name])
        axes.annotate(name, (x, y), place, textcoords="offset points", color=colour, va="center", **_NAME)

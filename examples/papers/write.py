"""A result as files: table (CSV), picture (SVG, PNG), sentences (text). Equal results give equal bytes."""

import csv
import textwrap
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.papers.plots import GREY, INK
from examples.papers.result import Result

INCHES = (7.2, 4.4)
DPI = 150  # of the PNG
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.dpi": DPI,
    "svg.fonttype": "none",  # text stays text: a small file, which can be searched
    "svg.hashsalt": "agentplatform",
}
_TITLE_WIDTH, _FOOTER_WIDTH = 76, 118  # characters
_LINE = 0.038  # of the picture's height: a line of the footer


def write(name: str, result: Result, out: Path) -> list[Path]:
    """Writes NAME.csv, .svg, .png and .txt into the folder `out`, over older ones. Raises OSError."""
    paths = [out / f"{name}.{ending}" for ending in ("csv", "svg", "png", "txt")]
    table, drawing, pixels, words = paths
    _write_table(result, table)
    with rc_context(STYLE):
        figure = _drawn(result)
        figure.savefig(drawing, metadata={"Date": None})
        figure.savefig(pixels, dpi=DPI)
    words.write_text(f"{name}: {result.title}\n\n{sentences(result)}", encoding="utf-8")
    return paths


def sentences(result: Result) -> str:
    """What the paper shows, what was measured, and where they differ."""
    emulated = f"Emulated: {'; '.join(result.emulated)}.\n" if result.emulated else ""
    return f"Paper: {result.paper}\nHere: {result.measured}\nDiffers: {result.differs}\n{emulated}"


def _write_table(result: Result, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([str(column) for column in result.columns])
        writer.writerows(result.rows)


def _drawn(result: Result) -> Figure:
    figure = Figure(figsize=INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    result.draw(figure, result.rows)
    title = textwrap.fill(result.title, _TITLE_WIDTH)
    figure.suptitle(title, x=0.012, ha="left", fontsize=11, fontweight="bold")
    figure.get_layout_engine().set(h_pad=0.08)  # inches
    if result.emulated:
        footer = textwrap.wrap(f"Emulated: {'; '.join(result.emulated)}.", _FOOTER_WIDTH)
        figure.get_layout_engine().set(rect=(0, _LINE * len(footer) + 0.01, 1, 1 - _LINE * len(footer) - 0.01))
        figure.text(0.012, 0.012, "\n".join(footer), fontsize=8, color=GREY, va="bottom")
    return figure

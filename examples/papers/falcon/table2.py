"""Table 2: where eight agents under rules go, on three servers of type A, three of B and two of C.

The servers, the rules and the snapshot are those of examples/08_table2.py; policy and planner are those of every host.
"""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from examples.papers.plots import BLUE, GREEN, GREY, INK, PAPER, VERMILION
from examples.papers.result import Column, Result, Row, Say, Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STORY: Any = importlib.import_module("examples.08_table2")  # a digit begins no name that can be imported
PRINTED = {"A": ("A1", "A2", "A3"), "B": ("A4", "A5", "A6"), "C": ("A7", "A8")}  # in the paper
_COLOURS = {"A": BLUE, "B": VERMILION, "C": GREEN}
_WIDTH, _HEIGHT = 0.86, 0.8  # of a server's box, in columns and rows


def measure(scale: Scale, say: Say) -> Result:
    """The same at every scale: a plan takes milliseconds."""
    found = _STORY.decide(_STORY.picture(), "exact")
    hosts = {move.agent: move.destination for move in found.plan.moves}
    rows = tuple(
        (server, server[0].upper(), rtt, " ".join(agent for agent in sorted(hosts) if hosts[agent] == server))
        for server, rtt in _STORY.SERVERS.items()
    )
    used = [f"{server} ({agents.replace(' ', ', ')})" for server, _, _, agents in rows if agents]
    return Result(
        title="Eight agents leave one host, each for a server of its type",
        columns=(Column("server"), Column("type"), Column("round trip to the user", "ms"), Column("agents")),
        rows=rows,
        paper="A1, A2, A3 go to servers of type A, A4, A5, A6 to type B, A7, A8 to type C.",
        measured=f"{_agree(rows)}: {', '.join(used)}; benefit {found.plan.benefit:.2f}, "
        "the greatest that the rules allow.",
        differs="The paper names the type of server alone; here each agent needs its type, and the plan chooses the "
        "server. a2 is the nearest of its type, and has room for two of the three that must be together; A7 and A8 "
        "'are atomic' and 'run separately': read as two servers. A4 'depends on' A5 and A6: on both, where it runs.",
        draw=_draw,
        emulated=("the servers, what they have free, and the round trips are inputs; the planner is production's",),
    )


def _agree(rows: Sequence[Row]) -> str:
    types = {agent: kind for _, kind, _, agents in rows for agent in agents.split()}
    printed = {agent: kind for kind, agents in PRINTED.items() for agent in agents}
    return f"Every agent is on {'the paper' if types == printed else 'ANOTHER than the paper'}'s type of server"


def _draw(figure: "Figure", rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    axes.set(xlim=(-0.06, 3.0), ylim=(-3.0, 0.34), aspect="auto")
    axes.axis("off")
    for column, kind in enumerate(_COLOURS):
        axes.text(column + _WIDTH / 2, 0.1, f"type {kind}", ha="center", color=_COLOURS[kind], fontweight="bold")
        servers = [row for row in rows if row[1] == kind]
        for place, row in enumerate(servers):
            _server(axes, column, -place - _HEIGHT - 0.06, row)


def _server(axes: "Axes", left: float, bottom: float, row: Row) -> None:
    server, kind, rtt, agents = row
    full = bool(agents)
    colour = _COLOURS[kind] if full else GREY
    box = [(left, bottom), (left + _WIDTH, bottom), (left + _WIDTH, bottom + _HEIGHT), (left, bottom + _HEIGHT)]
    axes.fill(*zip(*box, strict=True), facecolor=PAPER, edgecolor=colour, linewidth=1.8 if full else 0.8)
    words = bottom + _HEIGHT - 0.17
    axes.text(left + 0.04, words, server, color=INK if full else GREY, fontweight="bold" if full else "normal")
    axes.text(left + _WIDTH - 0.04, words, f"{rtt} ms from the user", color=GREY, ha="right", fontsize=8)
    for number, agent in enumerate(agents.split()):
        middle = (left + 0.15 + 0.27 * number, bottom + 0.28)
        axes.plot(*middle, "o", color=colour, markersize=25)
        axes.text(*middle, agent, ha="center", va="center_baseline", color=PAPER, fontweight="bold")

"""Figure 9: processor and memory at both hosts while the face service moves, beside a container's payload."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentplatform.console import processes
from benchmarks import criu, payload
from benchmarks.container import MB
from benchmarks.sampler import EVERY, Sample, Seen, sampled
from benchmarks.shaped import Link, hosts, measured, shaped
from examples.papers.falcon.face_service import FaceService
from examples.papers.plots import BLUE, GREY, VERMILION, plain
from examples.papers.result import Column, Result, Row, Say, Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MBIT = 100.0  # of the paper's cluster: Table 1
AROUND = 1.0  # seconds before and after the move
AGENT, CONTAINER = "agent", "container's payload"
SOURCE, DESTINATION = "source", "destination"
COLOURS = {SOURCE: BLUE, DESTINATION: VERMILION}
WIDTH = {AGENT: 1.1, CONTAINER: 0.5}  # of lines: a long move has many looks


class Plan(NamedTuple):
    people: int
    image: int  # bytes


PLANS = {Scale.TINY: Plan(2, 2 * MB), Scale.SMALL: Plan(100, 264 * MB), Scale.FULL: Plan(100, 2170 * MB)}


class Point(NamedTuple):
    """A row: one look at one host."""

    moved: str
    host: str
    at: float  # seconds since the order
    processor: float  # per cent of a core, since the look before
    memory: float  # MB
    during: int  # 1: the move was under way


class Move(NamedTuple):
    """One move that was watched."""

    begin: float  # CLOCK_MONOTONIC, seconds
    end: float
    seen: Seen
    phases: dict[str, float]  # the end of each, in seconds since the order


COLUMNS = (
    Column("moved"),
    Column("host"),
    Column("time since the order", "s"),
    Column("processor", "% of a core"),
    Column("memory: RSS", "MB"),
    Column("during the move"),
)


def measure(scale: Scale, say: Say) -> Result:
    plan, program = PLANS[scale], criu.named()
    with tempfile.TemporaryDirectory() as name, shaped(MBIT) as link:
        folder = Path(name)
        rate = measured(link, MBIT)
        agent, size = _agent(link, folder, plan.people, say)
        container = _container(link, folder, size, plan.image, program, say)
        emulated = (
            f"bandwidth: {link.name}, {rate:.1f} Mbit/s measured; both hosts are on one machine",
            "the container: bare processes that send and unpack its image's files"
            + (", no checkpoint" if program is None else ", CRIU before and after"),
        )
    return result({AGENT: agent, CONTAINER: container}, size, plan.image, emulated)


def result(moves: Mapping[str, Move], size: int, image: int, emulated: tuple[str, ...]) -> Result:
    """`size`: bytes of the agent."""
    rows = tuple(point for moved, move in moves.items() for host in COLOURS for point in _points(moved, host, move))
    own = max(move.seen.own for move in moves.values())
    pss = {host: [bytes_ / MB for bytes_ in moves[AGENT].seen.pss[host]] for host in COLOURS}
    grown = ", ".join(f"{host} {before:.0f} to {after:.0f} MB" for host, (before, after) in pss.items())
    return Result(
        title="Processor and memory at both hosts while the face service moves",
        columns=COLUMNS,
        rows=rows,
        paper="Moving an agent takes less of processor and memory than moving a Docker container (it calls this "
        "energy; no numbers are printed).",
        measured=_sentence(rows, size, image, moves),
        differs="Energy is not measured, here or there. A host here is its daemon, fork server and workers, with "
        "their journal, signatures and TLS; the service is in them, so that its memory leaves the source and comes to "
        "the destination. The container's side is two bare processes without a service. Memory is RSS, "
        f"which counts shared pages once for each process (PSS of the agent's hosts before and after: {grown}); what "
        f"the kernel keeps of files is in neither. Looking every {EVERY * 1000:g} ms took {own * 100:.0f} % of a core.",
        draw=lambda figure, drawn: _draw(figure, drawn, moves[AGENT].phases),
        emulated=emulated,
    )


# What is measured


def _agent(link: Link, folder: Path, people: int, say: Say) -> tuple[Move, int]:
    """And the bytes that moved."""
    root, history = folder / "root", folder / "history"
    with hosts(link, root, history=history) as homes:
        say(f"{people} people are enrolled")
        service = FaceService(root, people)
        for _ in range(2):
            service.hop()
        daemons = {host: processes.running(home) for host, home in zip(COLOURS, homes, strict=True)}
        say("the agent moves")
        with sampled({host: daemon.pid for host, daemon in daemons.items() if daemon is not None}) as seen:
            time.sleep(AROUND)
            hop = service.hop()
            time.sleep(AROUND)
    lines = [json.loads(line) for file in history.glob("*.jsonl") for line in file.read_text().splitlines()]
    phases = _phases(lines, service.id, hop.begin) | {"arrival": hop.seconds}
    return Move(hop.begin, hop.begin + hop.seconds, seen, phases), hop.size


def _phases(lines: Sequence[Mapping[str, Any]], agent: str, begin: float) -> dict[str, float]:
    """Seconds from the order to the end of each."""
    ends = {"freeze": "offer", "transfer": "received"}

    def when(event: str) -> float:
        of_agent = (line for line in lines if line.get("agent") == agent and line["event"] == event)
        return min(float(line["t"]) for line in of_agent if line["t"] >= begin)

    return {phase: when(event) - begin for phase, event in ends.items()}


def _container(link: Link, folder: Path, state: int, image: int, program: Path | None, say: Say) -> Move:
    """By CRIU, when a program is given; else the state goes as it is, with the image's files."""
    say(f"{(state + image) / MB:.0f} MB are sent and unpacked")
    place = folder / "container"
    images = place / "sent" / "images"
    images.mkdir(parents=True)
    with ExitStack() as ends:
        before: tuple[str, ...] = ()
        after: tuple[str, ...] = ()
        if program is not None:
            process = ends.enter_context(criu.running(state, link.command(0)))
            before = criu.dump_command(program, process, images)
            after = criu.restore_command(program, place / "unpacked" / "images", place / "pid")
            ends.enter_context(criu.put_down(place / "pid"))
        size = image + (state if program is None else 0)
        pair = ends.enter_context(payload.ready(link, place, size, before, after))
        with sampled({SOURCE: pair.sender.pid, DESTINATION: pair.taker.pid}) as seen:
            time.sleep(AROUND)
            begin, end = pair.go()
            time.sleep(AROUND)
    return Move(begin, end, seen, {})


# What is made of it


def _points(moved: str, host: str, move: Move) -> list[Point]:
    samples = [sample for sample in move.seen.samples[host] if sample.at >= move.begin - AROUND]
    return [_point(moved, host, move, *pair) for pair in pairwise(samples)]


def _point(moved: str, host: str, move: Move, before: Sample, after: Sample) -> Point:
    per_cent = 100 * (after.processor - before.processor) / (after.at - before.at)
    during = after.at > move.begin and before.at < move.end
    return Point(
        moved, host, round(after.at - move.begin, 4), round(per_cent, 1), round(after.memory / MB, 2), int(during)
    )


def _sentence(rows: Sequence[Point], size: int, image: int, moves: Mapping[str, Move]) -> str:
    said = []
    for moved, move in moves.items():
        bytes_ = size if moved == AGENT else size + image
        each = ", ".join(f"{host} {_of(rows, moved, host)}" for host in COLOURS)
        said.append(f"{moved} ({bytes_ / MB:.1f} MB in {move.end - move.begin:.2f} s): {each}")
    return f"At {MBIT:g} Mbit/s, mean (peak) of processor and growth of memory during the move: {'; '.join(said)}."


def _of(rows: Sequence[Point], moved: str, host: str) -> str:
    of_host = [point for point in rows if (point.moved, point.host) == (moved, host)]
    during = [point for point in of_host if point.during]
    grown = [point.memory - of_host[0].memory for point in during]
    mean = sum(point.processor for point in during) / len(during)
    return (
        f"{mean:.0f} % ({max(point.processor for point in during):.0f} %) of a core, {_used(of_host):.2f} s of it in "
        f"all, {sum(grown) / len(grown):+.0f} MB ({max(grown):+.0f} MB)"
    )


def _used(of_host: Sequence[Point]) -> float:
    """Seconds of processor during the move."""
    pairs = pairwise(of_host)
    return sum(point.processor / 100 * (point.at - before.at) for before, point in pairs if point.during)


# What is drawn


def _draw(figure: "Figure", rows: Sequence[Row], phases: Mapping[str, float]) -> None:
    points = [Point(*row) for row in rows]
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, moved in enumerate((AGENT, CONTAINER)):
        upper, lower = panels[0][column], panels[1][column]
        used = []
        for host, colour in COLOURS.items():
            of_host = [point for point in points if (point.moved, point.host) == (moved, host)]
            at = [point.at for point in of_host]
            upper.plot(at, [point.processor for point in of_host], color=colour, linewidth=WIDTH[moved])
            lower.plot(
                at, [point.memory - of_host[0].memory for point in of_host], color=colour, linewidth=1.6, label=host
            )
            used.append(f"{host} {_used(of_host):.2f} s")
        upper.set_title(f"{moved}\nCPU used: {', '.join(used)}", loc="left", fontsize=9.5)
        plain(upper, "", "CPU (% of a core)" if column == 0 else "")
        plain(lower, "time since the order (s)", "memory, growth (MB)" if column == 0 else "")
        if moved == AGENT:
            _mark(upper, lower, phases)
    panels[1][1].legend(frameon=False, loc="lower right", labelcolor="linecolor")  # what grows is above


def _mark(upper: "Axes", lower: "Axes", phases: Mapping[str, float]) -> None:
    """With their names one below the other, since some are short."""
    begin, last = 0.0, max(phases.values())
    for number, (phase, end) in enumerate(phases.items()):
        for axes in (upper, lower):
            axes.axvspan(begin, end, color=GREY, alpha=0.10 if number % 2 else 0.22, linewidth=0)
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        words = {"ha": "right", "va": "top", "fontsize": 8.5, "color": GREY}
        upper.annotate(f"{phase} {(end - begin) * 1000:.0f} ms", (0.0, 1.0), (-4, -2 - 12 * number), **place, **words)
        begin = end
    upper.set_xlim(-last, 2 * last)
    upper.locator_params(axis="x", nbins=4)  # their numbers are wide

"""Figure 8: how long the face service takes to another host against bandwidth, beside what a container would carry."""

import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import agents.face_recognition
from benchmarks import container, criu
from benchmarks.container import Image
from benchmarks.namespaces import why_not
from benchmarks.shaped import Link, hosts, measured, send, shaped
from examples.papers.falcon.face_service import FaceService
from examples.papers.plots import BLUE, COLOURS, MARKERS, PAPER, lines, plain
from examples.papers.result import Column, Result, Row, Say, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUND_TRIP = 20.0  # ms, of the second curve
SERVICE = Path(agents.face_recognition.__file__).parent
AGENT, BY_CRIU = "agent", "container by CRIU"
MEASURED, COMPUTED = "measured", "computed from the measured rate"
UNSHAPED = "unshaped"


class Plan(NamedTuple):
    links: tuple[float | None, ...]  # Mbit/s
    delayed: tuple[float, ...]  # the same with ROUND_TRIP
    people: int
    hops: int  # on each link; at most two where one takes longer than PATIENT seconds
    longest: float  # seconds: a payload that would take longer is computed


PLANS = {
    Scale.TINY: Plan((40.0, None), (40.0,), 2, 2, 0.2),
    Scale.SMALL: Plan((5.0, 10.0, 40.0, 100.0, 500.0, None), (10.0, 100.0, 500.0), 100, 6, 20.0),
    Scale.FULL: Plan((5.0, 10.0, 40.0, 100.0, 500.0, None), (5.0, 10.0, 40.0, 100.0, 500.0), 100, 20, 600.0),
}
PATIENT = 2.0


class Point(NamedTuple):
    """A row. `mbit` is what a plain TCP connection got at that time."""

    link: str
    mbit: float
    round_trip: float  # ms
    moved: str
    size: int  # bytes
    seconds: float
    downtime: float | str  # seconds; empty where nothing ran that could be down
    how: str


COLUMNS = (
    Column("link", "Mbit/s"),
    Column("measured", "Mbit/s"),
    Column("round trip", "ms"),
    Column("moved"),
    Column("bytes"),
    Column("migration time", "s"),
    Column("downtime", "s"),
    Column("how"),
)


def measure(scale: Scale, say: Say) -> Result:
    plan, program = PLANS[scale], criu.named()
    images = (*container.published(), container.slim(), container.top_layer(SERVICE))
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as folder:
        with shaped(plan.links[0]) as link, hosts(link, root := Path(folder) / "near"):
            service = _enrolled(root, plan, link, say)
            for mbit in plan.links:
                rate = _trial(link, mbit)
                agent = _hops(service, plan, mbit, rate, 0.0, say)
                points.append(agent)
                points += [_payload(link, plan, agent, image, say) for image in images]
                if program is not None:
                    points.append(_by_criu(program, link, agent, say))
            bandwidth = f"bandwidth: {link.name}, on one machine" + ("" if why_not() is None else f" ({why_not()})")
        with shaped(plan.delayed[0], ROUND_TRIP / 2) as link, hosts(link, root := Path(folder) / "far"):
            service = _enrolled(root, plan, link, say)
            points += [_hops(service, plan, mbit, _trial(link, mbit), ROUND_TRIP, say) for mbit in plan.delayed]
            delay = f"the round trip of {ROUND_TRIP:g} ms: {link.name}"
    payloads = "container payloads: bytes over plain TCP; sizes of images are inputs"
    start = criu.start_time(points[0].size)
    return result(points, plan.people, start, (bandwidth, delay, payloads))


def result(points: Sequence[Point], people: int, start: float, emulated: tuple[str, ...]) -> Result:
    """`start`: seconds that a bare process with OpenCV and such a gallery takes until it could answer."""
    return Result(
        title="Moving the face service: the agent, and what a container would carry, against bandwidth",
        columns=COLUMNS,
        rows=tuple(points),
        paper="Moving the face service as an agent takes less time than as a Docker container at each bandwidth, and "
        "beyond some bandwidth the time hardly falls any more (no numbers are printed).",
        measured=_sentence(points, people),
        differs="The paper tells neither the state's nor the image's size. Here a container is shown at its best: its "
        "bytes are sent bare, without checkpoint, compression, unpacking and start; where all layers but the top one "
        "are there already they take no longer than the agent. To start a bare process with OpenCV and the gallery "
        f"took {start:.2f} s here, which would come on top. {_of_criu(points)}",
        draw=_draw,
        emulated=emulated,
    )


def _enrolled(root: Path, plan: Plan, link: Link, say: Say) -> FaceService:
    """On a link that slows nothing down; it has been on both hosts."""
    say(f"{plan.people} people are enrolled")
    link.shape(None)
    service = FaceService(root, plan.people)
    for _ in range(2):
        service.hop()
    return service


def _trial(link: Link, mbit: float | None) -> float:
    link.shape(mbit)
    return measured(link, mbit)


def _hops(service: FaceService, plan: Plan, mbit: float | None, rate: float, round_trip: float, say: Say) -> Point:
    name = UNSHAPED if mbit is None else f"{mbit:g}"
    say(f"the agent, {name} Mbit/s" if mbit is not None else "the agent, unshaped")
    hops = [service.hop() for _ in range(2)]
    while len(hops) < plan.hops and hops[0].seconds < PATIENT:
        hops.append(service.hop())
    seconds = round(statistics.median(hop.seconds for hop in hops), 4)
    downtime = round(statistics.median(hop.downtime for hop in hops), 4)
    how = f"{MEASURED}, median of {len(hops)}"
    return Point(name, round(rate, 2), round_trip, AGENT, hops[-1].size, seconds, downtime, how)


def _payload(link: Link, plan: Plan, agent: Point, image: Image, say: Say) -> Point:
    """State and layers; the state is the agent's own, without the memory that a checkpoint would take along."""
    size = agent.size + image.size
    seconds, how = size * 8 / (agent.mbit * 1e6), COMPUTED
    if seconds <= plan.longest:
        say(f"{image.name}, {agent.link} Mbit/s")
        seconds, how = send(link, size), MEASURED
    return Point(agent.link, agent.mbit, 0.0, f"container, {image.name}", size, round(seconds, 4), "", how)


def _by_criu(program: Path, link: Link, agent: Point, say: Say) -> Point:
    say(f"CRIU, {agent.link} Mbit/s")
    taken = criu.move(program, link, agent.size)
    how = f"{MEASURED}: dump {taken.dump:.2f} s, send {taken.send:.2f} s, restore {taken.restore:.2f} s"
    seconds = round(taken.seconds, 4)
    return Point(agent.link, agent.mbit, 0.0, BY_CRIU, taken.size, seconds, seconds, how)


# What is said


def _sentence(points: Sequence[Point], people: int) -> str:
    near = _of(points, AGENT)
    slow, fast = near[0], near[-1]
    more = [point.seconds - point.size * 8 / (point.mbit * 1e6) for point in near]
    far = [point for point in points if point.round_trip]
    said = (
        f"The agent with {people} people ({slow.size / 1e6:.1f} MB) answers at the other host {slow.seconds:.2f} s "
        f"after the order at {slow.link} Mbit/s and {fast.seconds:.2f} s {fast.link}, {min(more):.2f} to "
        f"{max(more):.2f} s more than its bytes alone take"
    )
    if far:
        said += f" (with a round trip of {far[-1].round_trip:g} ms {far[-1].seconds:.2f} s at {far[-1].link} Mbit/s)"
    for moved in dict.fromkeys(point.moved for point in points if point.moved != AGENT):
        times = [other.seconds / agent.seconds for other, agent in zip(_of(points, moved), near, strict=True)]
        said += f"; {moved}: {_few(min(times))} to {_few(max(times))} times as long"
    return said + "."


def _of_criu(points: Sequence[Point]) -> str:
    if _of(points, BY_CRIU):
        return "CRIU took up and put down a bare process with OpenCV and as many bytes as the gallery has."
    return "No container was checkpointed: no CRIU was named (CRIU=/usr/sbin/criu agentplatform reproduce falcon fig8)."


def _of(points: Iterable[Point], moved: str) -> list[Point]:
    return [point for point in points if point.moved == moved and not point.round_trip]


def _few(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:.0f}"


# What is drawn


def _draw(figure: "Figure", rows: Sequence[Row]) -> None:
    points = [Point(*row) for row in rows]
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log")
    moved = list(dict.fromkeys(point.moved for point in points))
    lines(
        axes,
        {
            name.removeprefix("container, "): [(point.mbit, point.seconds) for point in _of(points, name)]
            for name in moved
        },
    )
    for name, colour, marker in zip(moved, COLOURS, MARKERS, strict=False):
        for point in _of(points, name):
            if point.how == COMPUTED:
                axes.plot(point.mbit, point.seconds, marker, color=colour, markersize=5, markerfacecolor=PAPER)
    if far := [(point.mbit, point.seconds) for point in points if point.round_trip]:
        axes.plot(*zip(*far, strict=True), "--", color=BLUE, linewidth=1.2)
        name = f"round trip {ROUND_TRIP:g} ms"
        axes.annotate(name, far[-1], (4, 0), textcoords="offset points", va="bottom", color=BLUE, fontsize=8)
    near = _of(points, AGENT)
    axes.set_xticks([point.mbit for point in near], [point.link for point in near])
    axes.minorticks_off()
    plain(axes, "bandwidth of the link (Mbit/s), placed at what was measured", "migration time (s)")
    axes.text(
        0.0,
        1.01,
        "Beside the agent: payloads of containers. Hollow: computed from the measured rate.",
        transform=axes.transAxes,
        fontsize=8,
    )

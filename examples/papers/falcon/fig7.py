"""Figure 7: how long an agent takes to decode a video, against the size of its file, in three qualities."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agentplatform import consortium
from agentplatform.console import catalogue
from agentplatform.frontdoor.client import AgentProxy, Host, connect
from agents.video_decoding.limits import MAX_FRAMES
from benchmarks.hosts import running, set_workers
from examples.papers.falcon.clips import write_clip
from examples.papers.plots import lines, logarithmic, plain
from examples.papers.result import Column, Result, Row, Say, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEGABYTE = 1e6
HOST, CLIPS = "solo", "clips"


class Plan(NamedTuple):
    qualities: dict[str, tuple[int, int]]  # name -> width, height in pixels
    seconds: tuple[float, ...]  # how long the videos are
    runs: int  # the least of so many: what else runs can only add to it


_HD = {"high": (1280, 720), "medium": (640, 360), "low": (320, 180)}
PLANS = {
    Scale.TINY: Plan({"high": (256, 144), "medium": (128, 72), "low": (64, 36)}, (1, 2), 2),
    Scale.SMALL: Plan(_HD, (2, 4, 8), 5),
    Scale.FULL: Plan({"high": (1920, 1080), "medium": (1280, 720), "low": (640, 360)}, (5, 10, 20, 40), 5),
}


def measure(scale: Scale, say: Say) -> Result:
    plan, rows = PLANS[scale], []
    with tempfile.TemporaryDirectory(prefix="agentplatform-clips-") as folder, _host(Path(folder)) as host:
        agent = host.create(catalogue.find("video-decoding"), "video")
        for quality, (width, height) in plan.qualities.items():
            for seconds in plan.seconds:
                say(f"{quality}, {width} x {height}, {seconds:g} s")
                clip = Path(folder) / CLIPS / f"{quality}-{seconds:g}.mp4"
                frames = write_clip(clip, width, height, seconds)
                taken = min(_decoded(agent, clip, frames) for _ in range(plan.runs))
                size = clip.stat().st_size / MEGABYTE
                rows.append((quality, f"{width}x{height}", seconds, frames, round(size, 4), round(taken, 4)))
    return Result(
        title="Decoding time against file size, in three qualities",
        columns=(
            Column("quality"),
            Column("resolution"),
            Column("length", "s"),
            Column("frames"),
            Column("file size", "MB"),
            Column("decoding time", "s"),
        ),
        rows=tuple(rows),
        paper="Decoding takes more time for larger files, and more in high quality than in medium and in low.",
        measured=_sentence(rows),
        differs="The paper names no resolutions, codec or machine, so the shape is compared, not seconds. Here a "
        "quality is a resolution of H.264, and an agent decodes: its answers with every frame's time are counted in.",
        draw=_draw,
        emulated=("the videos are generated: shapes over a moving ground with grain",),
    )


@contextmanager
def _host(folder: Path) -> Iterator[Host]:
    """One daemon, whose agents may read the clips."""
    clips, root = folder / CLIPS, folder / "root"
    clips.mkdir()
    (home,) = consortium.found(root, [HOST])
    set_workers(home, readable=[str(clips)])
    with running(root, (HOST,)):
        yield connect(HOST, root=root)


def _decoded(agent: AgentProxy, clip: Path, frames: int) -> float:
    """Seconds from `open` until the agent has answered with every frame of the file."""
    begin = time.perf_counter()
    agent.call("open", str(clip))
    answer, found = {"end": False}, 0
    while not answer["end"]:
        answer = agent.call("next", {"frames": MAX_FRAMES, "hash": False})
        found += len(answer["frames"])
    taken = time.perf_counter() - begin
    if found != frames:
        raise ValueError(f"{clip.name} has {frames} frames, and {found} were decoded")
    return taken


def _by_quality(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """Quality -> (size, time), the shortest video first."""
    names = dict.fromkeys(row[0] for row in rows)
    return {name: [(size, taken) for quality, *_, size, taken in rows if quality == name] for name in names}


def _sentence(rows: Sequence[Row]) -> str:
    series = _by_quality(rows)
    grows = [name for name, points in series.items() if points == sorted(points, key=lambda point: point[1])]
    times = {name: points[-1][1] for name, points in series.items()}  # of the longest videos, equally long
    in_order = list(times) == sorted(times, key=lambda name: -times[name])
    each = ", ".join(
        f"{points[-1][1]:.2g} s in {name} ({points[-1][1] / points[-1][0]:.2f} s for each megabyte)"
        for name, points in series.items()
    )
    others = "".join(f", NOT in {name}" for name in series if name not in grows)
    return (
        f"The time grows with the file's size in {len(grows)} of {len(series)} qualities{others}; "
        f"{rows[-1][2]:g} s of video take {each} quality, in {'the same' if in_order else 'ANOTHER'} order as in "
        "the paper."
    )


def _draw(figure: "Figure", rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    logarithmic(axes)
    named = {row[0]: f"{row[0]}, {row[1].replace('x', ' x ')}" for row in rows}
    series = {named[name]: points for name, points in _by_quality(rows).items()}
    lines(axes, series, "upper left")  # large files are not decoded faster
    plain(axes, "file size (MB)", "decoding time of the whole file (s)")

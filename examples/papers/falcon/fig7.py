"""Figure 7: how long a video takes to decode, against the size of its file, in three qualities."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av

from examples.papers.falcon.clips import write_clip
from examples.papers.plots import lines, logarithmic, plain
from examples.papers.result import Column, Result, Row, Say, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEGABYTE = 1e6


class Plan(NamedTuple):
    qualities: dict[str, tuple[int, int]]  # name -> width, height in pixels
    seconds: tuple[float, ...]  # how long the videos are
    runs: int  # medians of so many


_HD = {"high": (1280, 720), "medium": (640, 360), "low": (320, 180)}
PLANS = {
    Scale.TINY: Plan({"high": (256, 144), "medium": (128, 72), "low": (64, 36)}, (1, 2), 2),
    Scale.SMALL: Plan(_HD, (2, 4, 8), 3),
    Scale.FULL: Plan({"high": (1920, 1080), "medium": (1280, 720), "low": (640, 360)}, (5, 10, 20, 40), 5),
}


def measure(scale: Scale, say: Say) -> Result:
    plan, rows = PLANS[scale], []
    with tempfile.TemporaryDirectory(prefix="agentplatform-clips-") as folder:
        for quality, (width, height) in plan.qualities.items():
            for seconds in plan.seconds:
                say(f"{quality}, {width} x {height}, {seconds:g} s")
                clip = Path(folder) / f"{quality}-{seconds:g}.mp4"
                frames = write_clip(clip, width, height, seconds)
                taken = statistics.median(_decoded(clip, frames) for _ in range(plan.runs))
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
        "quality is a resolution of H.264; a file of the same length is smaller in a lower one.",
        draw=_draw,
        emulated=("the videos are generated: shapes over a moving ground with grain",),
    )


def _decoded(clip: Path, frames: int) -> float:
    """Seconds for all frames of the file, in one thread."""
    begin = time.perf_counter()
    with av.open(str(clip)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        found = sum(1 for _ in container.decode(video=0))
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
    each = ", ".join(f"{seconds:.2g} s in {name}" for name, seconds in times.items())
    per_megabyte = ", ".join(f"{points[-1][1] / points[-1][0]:.2f}" for points in series.values())
    return (
        f"The time grows with the file's size in {len(grows)} of {len(series)} qualities; "
        f"{rows[-1][2]:g} s of video take {each} quality, in {'the same' if in_order else 'ANOTHER'} order as in "
        f"the paper ({per_megabyte} s for each megabyte)."
    )


def _draw(figure: "Figure", rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    logarithmic(axes)
    sizes = [row[4] for row in rows]
    axes.set_xlim(min(sizes) / 1.3, max(sizes) * 3)
    resolutions = {row[0]: row[1] for row in rows}
    lines(axes, {f"{name}, {resolutions[name]}": points for name, points in _by_quality(rows).items()})
    plain(axes, "file size (MB)", "decoding time of the whole file (s)")

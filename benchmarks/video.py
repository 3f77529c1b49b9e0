"""Video through an agent on a daemon, beside PyAV alone doing the same work, in turns; and what a hop costs.

Every frame is asked for ("next", 64 at a time), from the first to the last, with its hash, without, and with pixels.
Then the agent goes to and fro while a client reads on: frames lost or shown twice, by their hashes, and the time
without a frame.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from agentplatform import connect
from agentplatform.consortium import found
from agentplatform.frontdoor.client import AgentProxy
from agents.video_decoding.agent import VideoDecoding
from agents.video_decoding.limits import THREADS
from agents.video_decoding.pictures import digest, pixels_of
from benchmarks.hosts import running, set_workers
from benchmarks.percentiles import percentile

PAIR = ("north", "east")
SIZES = {"high": (1280, 720), "medium": (640, 360), "low": (320, 180)}
RATE = 25
PORTION = 64  # frames of one answer
TURNS = 5
HOPS = 20
READ_BETWEEN = 12  # frames, and one of them is asked for at once after the hop

Work = Callable[[Any], Any]
# What is asked, the same by PyAV alone, and of which rendition.
WORKS: dict[str, tuple[dict[str, Any], Work, str]] = {
    "decode": ({"hash": False}, lambda frame: None, "high"),
    "hash": ({"hash": True}, digest, "high"),
    "grey": ({"hash": False, "pixels": "grey"}, lambda frame: pixels_of(frame, "grey"), "medium"),
    "jpeg": ({"hash": False, "pixels": "jpeg"}, lambda frame: pixels_of(frame, "jpeg"), "medium"),
}


def film(path: Path, size: tuple[int, int], frames: int) -> None:
    """A camera pans over grain, so that there is something to decode; each frame is another one."""
    width, height = size
    dice = np.random.default_rng(1)
    tall, wide = height // 8 + 64, width // 8 + 64
    blocks = np.kron(dice.integers(0, 255, (tall, wide), np.uint8), np.ones((8, 8), np.uint8))
    grain = blocks // 2 + dice.integers(0, 32, blocks.shape, np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 2 * RATE, 2
        for number in range(frames):
            at = number * 2 % 500
            view = np.ascontiguousarray(grain[at // 2 : at // 2 + height, at : at + width])
            frame: Any = av.VideoFrame.from_ndarray(view, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def alone(path: Path, work: Work) -> tuple[float, list[Any]]:
    """Seconds, and what became of each frame: PyAV with as many threads as the agent's decoder has."""
    begin = time.monotonic()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        done = [work(frame) for frame in container.decode(stream)]
    return time.monotonic() - begin, done


def through(agent: AgentProxy, path: Path, asked: dict[str, Any]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds from the first question to the last answer."""
    agent.call("open", str(path), patience=60.0)
    frames: list[dict[str, Any]] = []
    begin = time.monotonic()
    while True:
        answer = agent.call("next", {"frames": PORTION, **asked}, patience=60.0)
        frames += answer["frames"]
        if answer["end"]:
            return time.monotonic() - begin, frames


def beside(agent: AgentProxy, paths: dict[str, Path], name: str) -> dict[str, float]:
    """Frames a second of both, in turns, and the median of the turns' ratios."""
    asked, work, rendition = WORKS[name]
    path = paths[rendition]
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(TURNS + 1):
        pair = [lambda: through(agent, path, asked), lambda: alone(path, work)]
        order = (0, 1) if turn % 2 else (1, 0)
        results: dict[int, Any] = {which: pair[which]() for which in order}
        if name == "hash" and [frame["hash"] for frame in results[0][1]] != results[1][1]:
            raise SystemExit("the agent's frames are not those of PyAV alone")
        if turn:  # the first one warms up
            ours.append(len(results[0][1]) / results[0][0])
            theirs.append(len(results[1][1]) / results[1][0])
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    fps, alone_fps = statistics.median(ours), statistics.median(theirs)
    return {f"{name}_fps": round(fps, 1), f"{name}_alone_fps": round(alone_fps, 1), f"ratio_{name}": round(ratio, 3)}


def hops(agent: AgentProxy, path: Path) -> dict[str, Any]:
    """To and fro, a frame after each arrival: what is missing or came twice, and how long none came."""
    _, whole = alone(path, digest)
    agent.call("open", str(path))
    shown: list[bytes] = []
    times: list[float] = []
    for hop in range(HOPS):
        shown += [frame["hash"] for frame in agent.call("next", {"frames": READ_BETWEEN - 1})["frames"]]
        begin = time.monotonic()
        agent.dispatch(PAIR[(hop + 1) % 2])
        shown += [frame["hash"] for frame in agent.call("next", {"frames": 1}, patience=60.0)["frames"]]
        times.append((time.monotonic() - begin) * 1000)
    expected = whole[: len(shown)]
    return {
        "hop_frames": len(shown),
        "hop_lost": len(set(expected) - set(shown)),
        "hop_doubled": len(shown) - len(set(shown)) - (len(expected) - len(set(expected))),
        "hop_in_order": shown == expected,
        "hop_ms_p50": round(statistics.median(times), 1),
        "hop_ms_p95": round(percentile(times, 95), 1),
    }


def by_quality(agent: AgentProxy, paths: dict[str, Path]) -> dict[str, float]:
    """Milliseconds of a frame by rendition, the agent's whole way; and of one medium that is scaled."""
    figures = {}
    for quality, path in paths.items():
        agent.call("quality", "high")
        seconds, frames = through(agent, path, {"hash": False})
        figures[f"{quality}_ms_per_frame"] = round(seconds * 1000 / len(frames), 3)
        agent.call("quality", quality)
        seconds, frames = through(agent, paths["high"], {"hash": False})
        figures[f"{quality}_scaled_ms_per_frame"] = round(seconds * 1000 / len(frames), 3)
    agent.call("quality", "high")
    return figures


@contextmanager
def hosts(folder: Path, videos: Path) -> Iterator[None]:
    """Two daemons that share the folder of the videos with agents."""
    for home in found(folder, PAIR):
        set_workers(home, readable=[str(videos)])
    with running(folder, PAIR):
        yield


def measure(folder: Path, frames: int) -> dict[str, Any]:
    videos = folder / "videos"
    videos.mkdir()
    paths = {quality: videos / f"{quality}.mp4" for quality in SIZES}
    for quality, path in paths.items():
        film(path, SIZES[quality], frames)
    figures: dict[str, Any] = {"frames": frames, "megabytes": round(paths["high"].stat().st_size / 1e6, 1)}
    with hosts(folder / "pair", videos):
        agent = connect(PAIR[0], root=folder / "pair").create(VideoDecoding, patience=120.0)
        for name in WORKS:
            figures |= beside(agent, paths, name)
        figures |= by_quality(agent, paths)
        figures |= hops(agent, paths["high"])
    return figures


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks video", description=__doc__)
    parser.add_argument("--frames", type=int, default=300, help="of the video, 1280 x 720, H.264 with B-frames")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    if options.frames < HOPS * READ_BETWEEN:
        parser.error(f"the hops need {HOPS * READ_BETWEEN} frames")
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.frames)
    figures["load_average"] = round(os.getloadavg()[0], 1)
    if not options.json:
        print(f"of PyAV alone: {figures['ratio_decode']:.2f} decoding, {figures['ratio_hash']:.2f} with hashes")
        print(f"a hop: {figures['hop_ms_p50']:.0f} ms to the next frame, {figures['hop_lost']} lost")
    print(json.dumps(figures))
    return 0

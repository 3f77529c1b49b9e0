"""Videos whose frames have their numbers drawn in, and what a bare decoder makes of them."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from agents.video_decoding.pictures import digest

BITS = 12
RATE = 25


def picture(number: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """The number as black and white blocks on top, and something that moves below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    step = width // BITS
    for bit in range(BITS):
        pixels[: height // 2, bit * step : (bit + 1) * step] = 255 * (number >> bit & 1)
    at = number * 3 % (width - 16)
    pixels[height // 2 :, at : at + 16] = (number * 5 % 256, 200, 40)
    return pixels


def film(
    path: Path,
    codec: str = "libx264",
    frames: int = 40,
    size: tuple[int, int] = (96, 64),
    key_every: int = 12,
    b_frames: int | None = None,
    times: Iterable[int] | None = None,
    pixels: str = "yuv420p",
    **options: str,
) -> Path:
    """`times`: the frames' timestamps, in 1/25 s."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else pixels
        stream.codec_context.gop_size, stream.codec_context.thread_count = key_every, 1
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        for number, time in enumerate(range(frames) if times is None else times):
            frame: Any = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def hashes(path: Path) -> list[bytes]:
    """Of all frames, as PyAV alone decodes them from the start."""
    with av.open(str(path)) as container:
        return [digest(frame) for frame in container.decode(video=0)]


def all_of(agent: Any, portion: int = 7, **asked: Any) -> list[dict[str, Any]]:
    """What 'next' gives until the end."""
    found: list[dict[str, Any]] = []
    while True:
        answer = agent.call("next", {"frames": portion, **asked})
        found += answer["frames"]
        if answer["end"]:
            return found

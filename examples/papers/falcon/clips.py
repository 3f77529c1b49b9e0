"""Videos for figures: made here from a seed, since none come with the sources."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

RATE = 25  # frames a second
KEY_EVERY = 50  # frames
_SEED = 7
_SHAPES = 6


def write_clip(path: Path, width: int, height: int, seconds: float) -> int:
    """A moving ground with shapes that fly over it, as H.264 in MP4. Returns how many frames there are."""
    frames = round(seconds * RATE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size, stream.time_base = KEY_EVERY, Fraction(1, RATE)
        scene = _Scene(width, height)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(scene.picture(number), format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return frames


class _Scene:
    def __init__(self, width: int, height: int) -> None:
        draw = np.random.default_rng(_SEED)
        coarse = draw.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        self._ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        self._grain = draw.normal(0, 6, (height, width, 3)).astype(np.int16)
        self._starts = draw.random((_SHAPES, 2))
        self._ways = draw.uniform(-0.4, 0.4, (_SHAPES, 2))  # of the picture, a second
        self._colours = draw.integers(0, 256, (_SHAPES, 3)).tolist()
        self._size = np.array([width, height])

    def picture(self, number: int) -> NDArray[np.uint8]:
        """Blue, green, red. The grain is another one in every frame, as a camera's is."""
        ground = np.roll(self._ground, (number, 2 * number), (0, 1)) + np.roll(self._grain, 37 * number, 1)
        picture = np.clip(ground, 0, 255).astype(np.uint8)
        for start, way, colour in zip(self._starts, self._ways, self._colours, strict=True):
            at = (start + way * number / RATE) % 1 * self._size
            cv2.circle(picture, (int(at[0]), int(at[1])), int(self._size[1] // 9), colour, cv2.FILLED, cv2.LINE_AA)
        return picture

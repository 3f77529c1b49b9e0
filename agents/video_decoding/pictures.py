"""Frames as plain data: digests that prove what was decoded, sizes by quality, pixels."""

import hashlib
from typing import Any, Literal

import cv2
import numpy as np

from agents.video_decoding.quality import Quality, size_of

Pixels = Literal["none", "grey", "rgb", "jpeg"]

DIGEST_BYTES = 16
_BYTES_A_PIXEL = {"none": 0.0, "grey": 1.0, "rgb": 3.0, "jpeg": 3.0}  # while it is made; a JPEG is smaller then
# What decoding on a GPU gives, and the format that holds the same numbers in the order of the processor's decoders.
_FROM_DEVICE = {"nv12": "yuv420p", "p010le": "yuv420p10le"}


def frame_bytes(frame: Any) -> int:
    """What a frame takes in memory."""
    return sum(plane.buffer_size for plane in frame.planes)


def on_processor(frame: Any) -> Any:
    """The same pixels, in the order in which the processor decodes them."""
    return frame.reformat(format=_FROM_DEVICE[frame.format.name]) if frame.format.name in _FROM_DEVICE else frame


def digest(frame: Any) -> bytes:
    """SHA-256, cut to 16 bytes, of a frame's size, format and pixels: the planes in order, without padding."""
    frame = on_processor(frame)
    named = frame.format.name.replace("yuvj", "yuv")
    total = hashlib.sha256(f"{named} {frame.width} {frame.height} ".encode())
    for number, plane in enumerate(frame.planes):
        total.update(_visible(plane, _row_bytes(frame, number)))
    return total.digest()[:DIGEST_BYTES]


def _row_bytes(frame: Any, number: int) -> int:
    """Of what is seen of a plane's row."""
    if len(frame.planes) == 1:
        return int(frame.width * frame.format.padded_bits_per_pixel + 7) // 8
    parts = [part for part in frame.format.components if part.plane == number]
    return sum(part.width * ((part.bits + 7) // 8) for part in parts)


def _visible(plane: Any, row: int) -> Any:
    if plane.line_size == row:
        return memoryview(plane)[: row * plane.height]
    lines = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
    return np.ascontiguousarray(lines[:, :row])


def in_quality(frame: Any, quality: Quality) -> Any:
    """One medium's frame in that quality; a high one is the frame itself."""
    width, height = size_of(quality, frame.width, frame.height)
    if (width, height) == (frame.width, frame.height):
        return frame
    return on_processor(frame).reformat(width=width, height=height, interpolation="AREA")


def pixels_of(frame: Any, pixels: Pixels) -> bytes:
    """Rows from the top: one byte a pixel, three (red, green, blue), or a JPEG file."""
    if pixels == "grey":
        return frame.to_ndarray(format="gray").tobytes()
    if pixels == "rgb":
        return frame.to_ndarray(format="rgb24").tobytes()
    return cv2.imencode(".jpg", frame.to_ndarray(format="bgr24"))[1].tobytes()


def pixel_bytes(frame: Any, pixels: Pixels, quality: Quality) -> int:
    """What the pixels take at most in an answer."""
    width, height = size_of(quality, frame.width, frame.height)
    return int(width * height * _BYTES_A_PIXEL[pixels])

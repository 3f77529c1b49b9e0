"""Decoded frames become what an answer has of them. Runs in a thread, beside handlers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agents.video_decoding.decoder import Decoded
from agents.video_decoding.limits import ANSWER_BYTES
from agents.video_decoding.pictures import Pixels, digest, in_quality, pixel_bytes, pixels_of
from agents.video_decoding.position import Position
from agents.video_decoding.quality import Quality, size_of
from ledger.errors import Misuse


@dataclass(frozen=True)
class Wanted:
    """What is wanted of each frame."""

    pixels: Pixels = "none"
    hash: bool = True


@dataclass(frozen=True)
class Made:
    """Frames as plain data, and the position after them."""

    frames: list[dict[str, Any]]
    position: Position
    took: list[float]  # seconds of decoding of each
    room: int  # bytes that are left of an answer
    last: Decoded | None = None  # the anchor, of which the digest is not in the position yet


def deliver(
    some: Sequence[Decoded], at: Position, rendition: str, quality: Quality, scaled: Quality, wanted: Wanted, room: int
) -> Made:
    """As many of `some` as fit into `room` bytes, from the first on; the first of an answer must. Raises Misuse."""
    frames: list[dict[str, Any]] = []
    shown: Decoded | None = None
    proof = b""
    for each in some:
        needed = pixel_bytes(each.frame, wanted.pixels, scaled)
        if needed > room and room < ANSWER_BYTES:
            break
        if needed > room:
            size = f"{each.frame.width} x {each.frame.height}"
            raise Misuse(f"a frame of {size} as {wanted.pixels} has {needed} bytes, over {room}: ask for less quality")
        width, height = size_of(scaled, each.frame.width, each.frame.height)
        told: dict[str, Any] = {
            "index": at.index,
            "pts": each.pts,
            "seconds": each.seconds,
            "quality": quality,
            "width": width,
            "height": height,
        }
        picture = in_quality(each.frame, scaled) if wanted.hash or wanted.pixels != "none" else None
        proof = b""
        if wanted.hash:
            told["hash"] = digest(picture)
            proof = told["hash"] if picture is each.frame else b""
        if wanted.pixels != "none":
            told["pixels"] = pixels_of(picture, wanted.pixels)
            room -= len(told["pixels"])
        frames.append(told)
        at, shown = at.after(rendition, each.pts, each.seconds), each
    if proof:
        at, shown = replace(at, digest=proof), None
    return Made(frames, at, [each.took for each in some[: len(frames)]], room, shown)


def proven(made: Made) -> Made:
    """With the digest of the anchor, where no frame's own was wanted."""
    if made.last is None:
        return made
    return replace(made, position=replace(made.position, digest=digest(made.last.frame)), last=None)

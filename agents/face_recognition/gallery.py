"""Who is known. Each face is one value of `self.data`: enrolling one writes that one, and a move sends what is there.

A value has the label, the vector (compressed: counts shrink to a fifth), which recogniser made it, and a small picture
of the face for the people who look after the gallery. All of that is personal data: what hosts write of it is sealed.
"""

import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agentplatform.data import LARGE_BYTES, Data
from agents.face_recognition.port import Box, Recogniser, Vector, crop, shrunk
from agents.pictures import Picture
from ledger.errors import Misuse

MAX_FACES = 1000  # some 7 MB of state with LBPH
MAX_VECTOR_BYTES = 1 << 16
THUMBNAIL_SIDE = 96  # pixels, the longer one
PREFIX = "face/"
_QUALITY = 80  # of its JPEG, of 100


class Row:
    """The vector of one known face, unpacked when it is wanted: an agent that has just arrived answers before."""

    def __init__(self, key: str, packed: bytes, kind: "np.dtype[Any]") -> None:
        self._key, self._packed, self._kind = key, packed, kind

    @cached_property
    def vector(self) -> Vector:
        try:
            raw = zlib.decompressobj().decompress(self._packed, MAX_VECTOR_BYTES)
            return np.frombuffer(raw, self._kind)
        except (zlib.error, ValueError) as error:
            raise Misuse(f"{self._key} has a vector that cannot be read: {error}") from None


@dataclass(frozen=True)
class Gallery:
    """What is known at one moment; never changed, so a thread may read it while another one is made."""

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    rows: tuple[Row, ...]

    @cached_property
    def vectors(self) -> NDArray[Any]:
        """Row i belongs to `labels[i]`. Raises Misuse."""
        try:
            return np.stack([row.vector for row in self.rows])
        except ValueError:
            raise Misuse("the gallery has vectors of different lengths: forget all, and enrol again") from None

    def people(self) -> dict[str, int]:
        """Label -> number of faces."""
        return dict(sorted(Counter(self.labels).items()))

    def nearest(self, recogniser: Recogniser, vector: Vector) -> tuple[str, float]:
        """The label and the distance of the known face that is most like this one; somebody must be known."""
        far = recogniser.distances(self.vectors, vector)
        best = int(far.argmin())
        return self.labels[best], float(far[best])


def open_gallery(data: Data, recogniser: Recogniser, before: Gallery | None = None) -> Gallery:
    """That which `data` has; of `before`, what is still so is not read again. Raises Misuse for faces that another
    recogniser has described."""
    keys = tuple(data.list(PREFIX))
    if before is not None and keys == before.keys:
        return before
    known = {} if before is None else dict(zip(before.keys, zip(before.labels, before.rows, strict=True), strict=True))
    found = [known[key] if key in known else _read(key, data.get(key), recogniser) for key in keys]
    return Gallery(keys, tuple(label for label, _ in found), tuple(row for _, row in found))


def enrol(data: Data, number: int, label: str, recogniser: Recogniser, vector: Vector, thumbnail: bytes) -> None:
    """Adds one face, under a `number` that no other one ever had."""
    if len(data.list(PREFIX)) >= MAX_FACES:
        raise Misuse(f"the gallery is full with {MAX_FACES} faces: forget some before you enrol {label!r}")
    packed = zlib.compress(vector.tobytes())
    value: dict[str, Any] = {"label": label, "by": recogniser.name, "vector": packed, "thumbnail": thumbnail}
    value["rest"] = bytes(max(0, LARGE_BYTES - len(packed) - len(thumbnail)))  # so that it is a piece by itself
    data.put(f"{PREFIX}{number:08}", value)


def forget(data: Data, label: str) -> tuple[int, int]:
    """Removes every face of one label, and all snapshots, which may show it. Returns how many of both there were."""
    keys = [key for key in data.list(PREFIX) if data.get(key)["label"] == label]
    if not keys:
        raise Misuse(f"nobody is called {label!r} here: 'people' lists those who are known")
    snapshots = data.snapshots()
    data.write({}, keys)
    for snapshot in snapshots:
        data.forget(snapshot.number)
    return len(keys), len(snapshots)


def thumbnails(data: Data) -> dict[str, list[bytes]]:
    """Label -> a JPEG of each of its faces."""
    found: dict[str, list[bytes]] = {}
    for key in data.list(PREFIX):
        value = data.get(key)
        found.setdefault(value["label"], []).append(value["thumbnail"])
    return dict(sorted(found.items()))


def thumbnail(picture: Picture, box: Box) -> bytes:
    """A small JPEG of a face."""
    small, _ = shrunk(crop(picture, box), THUMBNAIL_SIDE)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def _read(key: str, value: Any, recogniser: Recogniser) -> tuple[str, Row]:
    """The state may come from another host: what is wrong with it must not cost more than an error."""
    match value:
        case {"label": str(label), "by": str(by), "vector": bytes(packed)}:
            pass
        case _:
            raise Misuse(f"{key} is no face: the state of this agent is broken")
    if by != recogniser.name:
        raise Misuse(
            f"the gallery was made by the recogniser {by[:24]!r}, and this is {recogniser.name[:24]!r}, which cannot "
            "compare what that one described: create an agent with the same weights, or enrol all again in a new one"
        )
    return label, Row(key, packed, recogniser.kind)

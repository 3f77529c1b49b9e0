"""What finds faces and what tells them apart, whatever library or model does it. The engines are in engines.py."""

from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.face_recognition.choice import MAX_NUMBERS
from agents.pictures import Picture
from ledger.errors import Misuse

Box = tuple[int, int, int, int]  # x, y, width, height in pixels
Point = tuple[float, float]
Vector = NDArray[Any]  # what describes one face, in one dimension
LONGEST_SIDE = 1280  # pixels: larger pictures are shrunk for the search, which costs by the pixel


class Face(NamedTuple):
    """Where one is in a picture."""

    box: Box
    landmarks: tuple[Point, ...] = ()  # the eyes, the tip of the nose, the corners of the mouth, from left; or none


class Detector(Protocol):
    colour: bool  # whether it needs pictures in colour (blue, green, red); what does not takes both

    def find(self, picture: Picture) -> list[Face]:
        """The faces, the largest first."""


class Recogniser(Protocol):
    name: str  # vectors are compared with those of a recogniser of the same name alone
    colour: bool
    stranger: float  # the distance beyond which a face is nobody's
    kind: "np.dtype[Any]"  # of the numbers in its vectors

    def describe(self, picture: Picture, face: Face) -> Vector: ...

    def distances(self, known: NDArray[Any], vector: Vector) -> NDArray[np.float64]:
        """Of one vector to each row of `known`."""


class Attributes(Protocol):
    colour: bool

    def of(self, picture: Picture, face: Face) -> dict[str, Any]:
        """What can be seen of a person, such as {"age": 31.0, "expression": "glad"}: plain data."""


def crop(picture: Picture, box: Box) -> Picture:
    x, y, width, height = box
    return picture[max(y, 0) : y + height, max(x, 0) : x + width]


def grey(picture: Picture) -> Picture:
    return picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


def shrunk(picture: Picture, longest: int = LONGEST_SIDE) -> tuple[Picture, float]:
    """With at most `longest` pixels a side, and how much smaller that is. No side of it is without a pixel."""
    scale = min(1.0, longest / max(picture.shape[:2]))
    if scale == 1.0:
        return picture, scale
    size = [max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0])]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def largest_first(faces: list[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: (-face.box[2] * face.box[3], face.box))


def cosine_distances(known: NDArray[Any], vector: Vector) -> NDArray[np.float64]:
    """Of vectors of length 1: 0 for the same direction, 2 for the opposite one."""
    return np.asarray(1.0 - known @ vector, np.float64)


def check_length(numbers: int, file: str) -> None:
    if not 2 <= numbers <= MAX_NUMBERS:
        raise Misuse(f"{file} does not describe a face by 1 x D numbers, with D from 2 to {MAX_NUMBERS}")


def of_length_1(vector: Vector, file: str) -> Vector:
    """Raises Misuse for what has no direction."""
    length = float(np.linalg.norm(vector))
    if not (np.isfinite(length) and length > 0):
        raise Misuse(f"{file} describes this face by {'zeros' if length == 0 else 'what are no numbers'}: it is broken")
    return np.asarray(vector / length, np.float32)


def words(error: Exception) -> str:
    """What a library says, on one line."""
    said = getattr(error, "err", error)  # of OpenCV, without the line of its own source
    return " ".join(str(said).split())[:300]

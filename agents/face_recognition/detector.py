"""Where the faces are: OpenCV's Haar cascade (Viola and Jones, CVPR 2001)."""

from functools import cache

import cv2
import numpy as np
from cv2.data import haarcascades

from agents.pictures import Picture

Box = tuple[int, int, int, int]  # x, y, width, height in pixels

SMALLEST_FACE = 48  # pixels; smaller ones have too little texture to tell people apart
_CASCADE = "haarcascade_frontalface_alt2.xml"  # of OpenCV's own, the fastest at the same hits
_SHRINK = 1.1  # ratio between two sizes that are looked for
_NEIGHBOURS = 5  # hits that must overlap: fewer find more, and more that are no faces
_LONGEST_SIDE = 1280  # larger pictures are shrunk for the search: it costs by the pixel


@cache
def _cascade() -> cv2.CascadeClassifier:
    """Loaded once in a process; it cannot be pickled, so it is no part of an agent's state."""
    return cv2.CascadeClassifier(haarcascades + _CASCADE)


def find_faces(grey: Picture) -> list[Box]:
    """The faces that look at the camera, the largest first."""
    scale = min(1.0, _LONGEST_SIDE / max(grey.shape))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    found = _cascade().detectMultiScale(
        small, scaleFactor=_SHRINK, minNeighbors=_NEIGHBOURS, minSize=(SMALLEST_FACE, SMALLEST_FACE)
    )
    boxes = [tuple(round(edge / scale) for edge in box) for box in np.asarray(found).reshape(-1, 4)]
    return sorted(((x, y, w, h) for x, y, w, h in boxes), key=lambda box: (-box[2] * box[3], box))


def crop(grey: Picture, box: Box) -> Picture:
    x, y, width, height = box
    return grey[max(y, 0) : y + height, max(x, 0) : x + width]

"""Where the faces are: OpenCV's Haar cascade (Viola and Jones, CVPR 2001). It needs no weights of one's own."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np
from cv2.data import haarcascades

from agents.face_recognition.choice import CascadeOptions
from agents.face_recognition.port import Box, Face, grey, largest_first, shrunk
from agents.face_recognition.weights import Read
from agents.pictures import Picture

SMALLEST_FACE = 48  # pixels; smaller ones have too little texture to tell people apart
_CASCADE = "haarcascade_frontalface_alt2.xml"  # of OpenCV's own, the fastest at the same hits
_SHRINK = 1.1  # ratio between two sizes that are looked for
_NEIGHBOURS = 5  # hits that must overlap: fewer find more, and more that are no faces


class Cascade:
    """One that is used by one thread at a time."""

    colour = False

    def __init__(self, options: CascadeOptions | None = None, read: Read | None = None) -> None:
        loader = ThreadPoolExecutor(1)  # some 6 ms, which an agent that arrives has other things to do in
        self._classifier = loader.submit(cv2.CascadeClassifier, haarcascades + _CASCADE)
        loader.shutdown(wait=False)

    def find(self, picture: Picture) -> list[Face]:
        """The faces that look at the camera."""
        small, scale = shrunk(picture)
        if min(small.shape[:2]) < SMALLEST_FACE:
            return []
        found = self._classifier.result().detectMultiScale(
            grey(small), scaleFactor=_SHRINK, minNeighbors=_NEIGHBOURS, minSize=(SMALLEST_FACE, SMALLEST_FACE)
        )
        boxes = [[round(edge / scale) for edge in box] for box in np.asarray(found).reshape(-1, 4)]
        return largest_first([Face((x, y, width, height)) for x, y, width, height in boxes])


@cache
def _here() -> Cascade:
    return Cascade()


def find_faces(picture: Picture) -> list[Box]:
    """For programs of one thread that only look."""
    return [face.box for face in _here().find(picture)]

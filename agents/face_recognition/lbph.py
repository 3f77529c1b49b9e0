"""Whose face it is: local binary pattern histograms (Ahonen, Hadid and Pietikainen, PAMI 28(12), 2006).

The labels and distances are those of OpenCV's LBPHFaceRecognizer with its default settings. Its model is written
and read as text, which takes 100 times as long as to recognise a face; here a face is its histograms alone, as counts:
a cell has 15 x 15 pixels, so one byte holds each, exactly.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.face_recognition.choice import LbphOptions
from agents.face_recognition.port import Face, crop, grey
from agents.face_recognition.weights import Read
from agents.pictures import Picture

FACE_SIDE = 128  # pixels: every face is brought to this size before it is compared
CELLS = 8 * 8
BINS = CELLS * 256  # one histogram of 256 patterns in each cell
PIXELS = 15 * 15  # of a cell: the outermost pixels have no pattern, and 126 // 8 is 15
# Chi-square distance (0 to 256) beyond which a face is nobody's. Measured on the faces that scikit-image brings: the
# same picture filmed by a moving camera stays below 42; of 100 people, no two are nearer to each other than 69.
STRANGER = 60.0

Counts = NDArray[np.uint8]


class Lbph:
    name, colour, kind = "lbph", False, np.dtype(np.uint8)

    def __init__(self, options: LbphOptions | None = None, read: Read | None = None) -> None:
        self.stranger = STRANGER if options is None or options.stranger is None else options.stranger

    def describe(self, picture: Picture, face: Face) -> Counts:
        return histogram(grey(crop(picture, face.box)))

    def distances(self, known: Counts, vector: Counts) -> NDArray[np.float64]:
        return distances(known, vector)


def normalise(face: Picture) -> Picture:
    # A coarser way of enlarging leaves a pattern of its own in every face, and so makes all of them alike.
    way = cv2.INTER_AREA if min(face.shape) > FACE_SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=way), np.uint8)


def histogram(face: Picture) -> Counts:
    """BINS counts that describe a grey face; each cell's sum is PIXELS."""
    model = cv2.face.LBPHFaceRecognizer_create()  # type: ignore[attr-defined]
    model.train([normalise(face)], np.zeros(1, np.int32))
    shares = np.asarray(model.getHistograms()[0], np.float32).reshape(BINS)
    return np.rint(shares * PIXELS).astype(np.uint8)


def distances(known: Counts, face: Counts) -> NDArray[np.float64]:
    """Of one histogram to each row of `known`: 2 * sum((a - b)^2 / (a + b)) over the shares of the patterns, OpenCV's
    HISTCMP_CHISQR_ALT.

    Most patterns are not in the face. There a term is a, and their sum is what the row has elsewhere.
    """
    there = np.flatnonzero(face)
    theirs, ours = known[:, there].astype(np.float32), face[there].astype(np.float32)
    both = ((theirs - ours) ** 2 / (theirs + ours)).sum(axis=1, dtype=np.float64)
    elsewhere = CELLS * PIXELS - theirs.sum(axis=1, dtype=np.float64)
    return np.asarray(2 / PIXELS * (both + elsewhere), np.float64)

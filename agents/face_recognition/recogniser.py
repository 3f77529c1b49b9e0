"""Whose face it is: local binary pattern histograms (Ahonen, Hadid and Pietikainen, PAMI 28(12), 2006).

The labels and distances are those of OpenCV's LBPHFaceRecognizer with its default settings. Its model is written
and read as text, which takes 100 times as long as to recognise a face; so the gallery keeps the histograms alone,
as one array, which travels beside the pickle without a copy.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.pictures import Picture
from ledger.errors import Misuse

FACE_SIDE = 128  # pixels: every face is brought to this size before it is compared
BINS = 8 * 8 * 256  # a grid of 8 x 8 cells, one histogram of 256 patterns in each
MAX_FACES = 1000  # 65 MB of state
# Chi-square distance (0 to 256) beyond which a face is nobody's. Measured on the faces that scikit-image brings: the
# same picture filmed by a moving camera stays below 42; of 100 people, no two are nearer to each other than 69.
STRANGER = 60.0


def normalise(face: Picture) -> Picture:
    # A coarser way of enlarging leaves a pattern of its own in every face, and so makes all of them alike.
    way = cv2.INTER_AREA if min(face.shape) > FACE_SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=way), np.uint8)


def histogram(face: Picture) -> NDArray[np.float32]:
    """BINS numbers that describe a grey face; each cell's sum is 1."""
    model = cv2.face.LBPHFaceRecognizer_create()  # type: ignore[attr-defined]
    model.train([normalise(face)], np.zeros(1, np.int32))
    return np.asarray(model.getHistograms()[0], np.float32).reshape(BINS)


def distances(known: NDArray[np.float32], face: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of one histogram to each row of `known`: 2 * sum((a - b)^2 / (a + b)), OpenCV's HISTCMP_CHISQR_ALT."""
    total = known + face
    squares = (known - face) ** 2
    np.divide(squares, total, out=squares, where=total > 0)
    return 2 * squares.sum(axis=1, dtype=np.float64)


class Gallery:
    """The faces that were shown, and whose they are. Row i of `histograms` belongs to `labels[i]`."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.histograms: NDArray[np.float32] = np.empty((0, BINS), np.float32)

    def enrol(self, label: str, face: Picture) -> int:
        """Adds one face; returns how many of this label are known now."""
        if len(self.labels) >= MAX_FACES:
            raise Misuse(f"the gallery is full with {MAX_FACES} faces: forget some before you enrol {label!r}")
        self.histograms = np.vstack([self.histograms, histogram(face)])
        self.labels.append(label)
        return self.labels.count(label)

    def forget(self, label: str) -> int:
        """Removes every face of one label; returns how many there were."""
        keep = [other != label for other in self.labels]
        if all(keep):
            raise Misuse(f"nobody is called {label!r} here: 'people' lists those who are known")
        self.histograms = self.histograms[np.array(keep)]
        self.labels = [other for other in self.labels if other != label]
        return keep.count(False)

    def people(self) -> dict[str, int]:
        """Label -> number of faces."""
        return {label: self.labels.count(label) for label in sorted(set(self.labels))}

    def nearest(self, face: Picture) -> tuple[str, float]:
        """The label and the distance of the known face that is most like this one."""
        if not self.labels:
            raise Misuse("nobody is known yet: send 'enrol' with a label and a picture first")
        far = distances(self.histograms, histogram(face))
        best = int(far.argmin())
        return self.labels[best], float(far[best])

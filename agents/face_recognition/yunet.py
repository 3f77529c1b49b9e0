"""Where the faces are: YuNet by OpenCV (W. Wu and others, Machine Intelligence Research 20, 2023), with landmarks.

The weights are OpenCV's face_detection_yunet_2023mar.onnx, or any model with the same outputs.
"""

import cv2
import numpy as np

from agents.face_recognition.choice import YuNetOptions
from agents.face_recognition.port import Face, largest_first, shrunk, words
from agents.face_recognition.weights import Read
from agents.pictures import Picture
from ledger.errors import Misuse

_OVERLAP = 0.3  # share of two boxes in each other from which on they are one face: OpenCV's own
_MOST = 5000  # hits before such are joined: OpenCV's own
_NOTHING = np.empty(0, np.uint8)  # in place of a second file
_BLANK = (160, 160, 3)  # shape of a picture that a model is tried with


class YuNet:
    """One that is used by one thread at a time."""

    colour = True

    def __init__(self, options: YuNetOptions, read: Read) -> None:
        weights = read(options.weights)
        self._file = weights.name
        raw = np.frombuffer(weights.raw, np.uint8)
        try:
            self._net = cv2.FaceDetectorYN.create("onnx", raw, _NOTHING, (160, 160), options.score, _OVERLAP, _MOST)
            self._detect(np.zeros(_BLANK, np.uint8))
        except cv2.error as error:
            raise Misuse(f"{self._file} is no YuNet model that OpenCV can run: {words(error)}") from None

    def find(self, picture: Picture) -> list[Face]:
        small, scale = shrunk(picture)
        try:
            found = self._detect(small)
        except cv2.error as error:
            raise Misuse(f"{self._file} failed with a picture of {picture.shape[:2]}: {words(error)}") from None
        if not np.isfinite(found).all():
            raise Misuse(f"{self._file} gives boxes that are no numbers: the model is broken")
        rows, columns = picture.shape[:2]
        faces = []
        for hit in found:
            left, right = (round(min(max(edge / scale, 0), columns)) for edge in (hit[0], hit[0] + hit[2]))
            top, bottom = (round(min(max(edge / scale, 0), rows)) for edge in (hit[1], hit[1] + hit[3]))
            if right > left and bottom > top:
                points = tuple((float(x / scale), float(y / scale)) for x, y in hit[4:14].reshape(5, 2))
                faces.append(Face((left, top, right - left, bottom - top), points))
        return largest_first(faces)

    def _detect(self, picture: Picture) -> np.ndarray:
        """One row a face: box, five points, score."""
        self._net.setInputSize((picture.shape[1], picture.shape[0]))
        found = self._net.detect(picture)[1]
        return np.empty((0, 15), np.float32) if found is None else np.asarray(found, np.float32).reshape(-1, 15)

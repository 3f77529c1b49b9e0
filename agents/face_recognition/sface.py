"""Whose face it is: SFace by OpenCV (Y. Zhong and others, IEEE TIP 30, 2021).

The weights are OpenCV's face_recognition_sface_2021dec.onnx, or any model with the same input and output.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.face_recognition.aligned import SIDE, aligned
from agents.face_recognition.choice import SFaceOptions
from agents.face_recognition.port import Face, Vector, check_length, cosine_distances, of_length_1, words
from agents.face_recognition.weights import Read
from agents.pictures import Picture
from ledger.errors import Misuse

STRANGER = 1 - 0.363  # OpenCV's own threshold for the cosine, found on Labeled Faces in the Wild
_NOTHING = np.empty(0, np.uint8)  # in place of a second file


class SFace:
    """One that is used by one thread at a time."""

    colour, kind = True, np.dtype(np.float32)

    def __init__(self, options: SFaceOptions, read: Read) -> None:
        weights = read(options.weights)
        self.name = f"sface {weights.digest}"
        self.stranger = STRANGER if options.stranger is None else options.stranger
        self._file = weights.name
        try:
            self._net = cv2.FaceRecognizerSF.create("onnx", np.frombuffer(weights.raw, np.uint8), _NOTHING)
            shape = self._net.feature(np.full((SIDE, SIDE, 3), 128, np.uint8)).shape
        except cv2.error as error:
            raise Misuse(f"{self._file} is no SFace model that OpenCV can run: {words(error)}") from None
        check_length(shape[1] if len(shape) == 2 and shape[0] == 1 else 0, self._file)

    def describe(self, picture: Picture, face: Face) -> Vector:
        try:
            vector = np.asarray(self._net.feature(aligned(picture, face)), np.float32).ravel()
        except cv2.error as error:
            raise Misuse(f"{self._file} failed with a face: {words(error)}") from None
        return of_length_1(vector, self._file)

    def distances(self, known: NDArray[np.float32], vector: Vector) -> NDArray[np.float64]:
        return cosine_distances(known, vector)

"""A face as models want it: turned upright and brought to one size by its landmarks."""

import cv2
import numpy as np

from agents.face_recognition.port import Face, crop
from agents.pictures import Picture

SIDE = 112  # pixels
# Where models such as ArcFace and SFace have eyes, nose and mouth in a picture of 112 x 112.
_PLACES = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


def aligned(picture: Picture, face: Face, width: int = SIDE, height: int = SIDE) -> Picture:
    """In colour. A face without landmarks, or with some that say nothing, is its box."""
    turn = None
    if len(face.landmarks) == len(_PLACES):
        places = np.array(_PLACES) * (width / SIDE, height / SIDE)
        turn, _ = cv2.estimateAffinePartial2D(np.array(face.landmarks), places, method=cv2.LMEDS)
    if turn is None or not np.isfinite(turn).all():
        return np.asarray(cv2.resize(crop(picture, face.box), (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_LINEAR), np.uint8)

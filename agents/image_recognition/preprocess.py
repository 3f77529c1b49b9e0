"""From a picture to what the models take: 224 x 224 x 3, as it is usual for models trained on ImageNet.

The shorter side is brought to 256 pixels, the middle of 224 x 224 is cut out, and each colour (red, green, blue, 0 to
1) is counted in standard deviations from the mean of ImageNet.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.pictures import Picture, open_picture
from ledger.errors import Misuse

SIDE = 224  # pixels, of what the models see
SHORTER = 256  # pixels: the shorter side of the picture before the middle is cut out
LONGEST = 64  # times as long as the other: a side beyond that leaves nothing to see
MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet: red, green, blue
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
PIXEL_BYTES = SIDE * SIDE * 3


def pixels_of(raw: bytes) -> NDArray[np.uint8]:
    """A PNG or JPEG file as SIDE x SIDE x 3, red, green, blue. Raises Misuse for what is none, or too large."""
    return middle(open_picture(raw, colour=True))


def middle(picture: Picture) -> NDArray[np.uint8]:
    """Of a picture in blue, green, red: what the models see, in red, green, blue. Raises Misuse for a mere strip."""
    height, width = picture.shape[:2]
    if max(height, width) > LONGEST * min(height, width):
        raise Misuse(f"a picture of {width} x {height} pixels is too narrow to see anything in: cut it first")
    scale = SHORTER / min(height, width)
    size = max(SHORTER, round(width * scale)), max(SHORTER, round(height * scale))
    # Pixels are averaged where there are more than are needed; a coarser way leaves patterns of its own.
    whole = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return np.ascontiguousarray(whole[top : top + SIDE, left : left + SIDE, ::-1], np.uint8)


def given(raw: bytes) -> NDArray[np.uint8]:
    """Pixels that are ready: SIDE x SIDE x 3 bytes, by rows; red, green, blue. Raises Misuse."""
    if len(raw) != PIXEL_BYTES:
        raise Misuse(f"pixels are {SIDE} x {SIDE} x 3 bytes, {PIXEL_BYTES}, and {len(raw)} came: or send a 'picture'")
    return np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE, 3)


def normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of pictures (batch x SIDE x SIDE x 3): batch x 3 x SIDE x SIDE, in standard deviations from the mean."""
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
    planes *= (1 / (255 * DEVIATION))[:, np.newaxis, np.newaxis]
    planes -= (MEAN / DEVIATION)[:, np.newaxis, np.newaxis]
    return planes

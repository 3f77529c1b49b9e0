"""What the image-recognition agent is asked."""

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.image_recognition.preprocess import given, pixels_of

MAX_PICTURES = 8  # of one request
Several = Annotated[list[bytes], msgspec.Meta(min_length=1, max_length=MAX_PICTURES)]


class Classify(msgspec.Struct, forbid_unknown_fields=True):
    """One picture or several (PNG or JPEG files), or the pixels of several that are ready (preprocess.given)."""

    picture: bytes | None = None
    pictures: Several | None = None
    pixels: Several | None = None
    top: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5  # so many of the likeliest classes

    def __post_init__(self) -> None:
        if [self.picture, self.pictures, self.pixels].count(None) != 2:
            raise ValueError("give a picture, pictures, or pixels, one of the three")

    @property
    def files(self) -> list[bytes]:
        return self.pictures or self.pixels or [self.picture or b""]

    @property
    def size(self) -> int:
        return len(self.files)

    @property
    def space(self) -> int:
        return sum(map(len, self.files))

    def opened(self) -> NDArray[np.uint8]:
        """Pictures x 224 x 224 x 3. Raises Misuse for the first that cannot be opened."""
        return np.stack([(pixels_of if self.pixels is None else given)(raw) for raw in self.files])

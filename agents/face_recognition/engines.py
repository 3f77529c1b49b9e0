"""The engines that there are, and those that one agent has chosen, as one."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import cv2

from agents.face_recognition.cascade import Cascade
from agents.face_recognition.choice import (
    AttributesOptions,
    CascadeOptions,
    Choice,
    EmbeddingOptions,
    LbphOptions,
    SFaceOptions,
    YuNetOptions,
)
from agents.face_recognition.lbph import Lbph
from agents.face_recognition.port import Attributes, Detector, Face, Recogniser, Vector, words
from agents.face_recognition.weights import Read
from agents.pictures import Picture, open_picture
from ledger.errors import Misuse

Engine = TypeVar("Engine")
Table = Mapping[type[Any], Callable[[Any, Read], Engine]]


# Each is imported where it is chosen: an agent that moves has its code opened, while nobody answers.


def _yunet(options: YuNetOptions, read: Read) -> Detector:
    from agents.face_recognition.yunet import YuNet

    return YuNet(options, read)


def _sface(options: SFaceOptions, read: Read) -> Recogniser:
    from agents.face_recognition.sface import SFace

    return SFace(options, read)


def _embedding(options: EmbeddingOptions, read: Read) -> Recogniser:
    from agents.face_recognition.onnx_model import Embedding

    return Embedding(options, read)


def _attributes(options: AttributesOptions, read: Read) -> Attributes:
    from agents.face_recognition.onnx_model import OnnxAttributes

    return OnnxAttributes(options, read)


# What is asked for, by the class of its options, and what does it.
DETECTORS: Table[Detector] = {CascadeOptions: Cascade, YuNetOptions: _yunet}
RECOGNISERS: Table[Recogniser] = {LbphOptions: Lbph, SFaceOptions: _sface, EmbeddingOptions: _embedding}
ATTRIBUTES: Table[Attributes] = {AttributesOptions: _attributes}

MAX_FACES = 100  # of one picture that are described: the largest ones


class Seen(NamedTuple):
    """One face of a picture."""

    face: Face
    vector: Vector
    attributes: dict[str, Any] | None


class Engines:
    """Safe to use from several threads, which take turns. Raises Misuse for what cannot be opened."""

    def __init__(self, choice: Choice, read: Read) -> None:
        self._detector = DETECTORS[type(choice.detector)](choice.detector, read)
        self.recogniser = RECOGNISERS[type(choice.recogniser)](choice.recogniser, read)
        wanted = choice.attributes
        self._attributes = None if wanted is None else ATTRIBUTES[type(wanted)](wanted, read)
        parts = (self._detector, self.recogniser, self._attributes)
        self.colour = any(part.colour for part in parts if part is not None)
        self._turn = threading.Lock()

    def open(self, raw: bytes) -> Picture:
        """A picture file, as these engines need it. Raises Misuse."""
        return open_picture(raw, colour=self.colour)

    def look(self, picture: Picture) -> tuple[list[Seen], int]:
        """The largest faces of a picture, and how many more there are. Raises Misuse."""
        try:
            with self._turn:
                faces = self._detector.find(picture)
                return [self._seen(picture, face) for face in faces[:MAX_FACES]], max(0, len(faces) - MAX_FACES)
        except cv2.error as error:
            raise Misuse(f"OpenCV could not look at a picture of {picture.shape}: {words(error)}") from None

    def _seen(self, picture: Picture, face: Face) -> Seen:
        attributes = None if self._attributes is None else self._attributes.of(picture, face)
        return Seen(face, self.recogniser.describe(picture, face), attributes)

"""What the face-recognition agent is asked: one type for each kind of message, checked before anything is done."""

from typing import Annotated, Any

import msgspec

from agents.face_recognition.choice import Choice
from ledger.errors import Misuse

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Init(Choice, frozen=True, forbid_unknown_fields=True):
    """What an agent is created with: its engines, and whom it tells (see Tell)."""

    tell: Label | None = None


class Enrol(msgspec.Struct, forbid_unknown_fields=True):
    """Learn a face: the largest in a picture, or the largest in the latest frame of the stream."""

    label: Label
    picture: bytes | None = None  # a PNG or JPEG file
    frame: int | None = None  # the number of the latest frame

    def __post_init__(self) -> None:
        if (self.picture is None) == (self.frame is None):
            raise ValueError("give a picture or the number of a frame, one of the two")


class Forget(msgspec.Struct, forbid_unknown_fields=True):
    label: Label


class Metrics(msgspec.Struct, forbid_unknown_fields=True):
    """How many requests wait, and how long requests took."""


class People(msgspec.Struct, forbid_unknown_fields=True):
    """Who is known, and by how many faces."""

    thumbnails: bool = False  # in place of the number, a small JPEG of each face


class Packet(msgspec.Struct, forbid_unknown_fields=True):
    """Recognise in a live stream: the next packet of it."""

    data: bytes  # H.264, Annex B, one picture
    pts: int = 0  # in the stream's own unit; comes back in the answer


class Recognise(msgspec.Struct, forbid_unknown_fields=True):
    picture: bytes  # a PNG or JPEG file


class Tell(msgspec.Struct, forbid_unknown_fields=True):
    """From now on, send a "saw" message to this agent for each known face in the stream; None: to nobody."""

    to: Label | None


class Status(msgspec.Struct, forbid_unknown_fields=True):
    """How much was seen and where the agent is."""


REQUESTS: dict[str, type[msgspec.Struct]] = {
    "enrol": Enrol,
    "forget": Forget,
    "metrics": Metrics,
    "packet": Packet,
    "people": People,
    "recognise": Recognise,
    "status": Status,
    "tell": Tell,
}


def begin(init: Any) -> Init:
    """What `init` says. Raises Misuse that names what is wrong with it."""
    try:
        return msgspec.convert({} if init is None else init, Init)
    except msgspec.ValidationError as error:
        raise Misuse(
            f"face recognition starts with nothing, or with any of 'tell', 'detector', 'recogniser' and 'attributes', "
            f"and not with {init!r:.200}: {error}"
        ) from None


def parse(kind: str, body: Any) -> msgspec.Struct:
    """The request in a message. Raises Misuse that names what is wrong with it."""
    if kind not in REQUESTS:
        raise Misuse(f"face recognition knows no message {kind!r}: send one of {', '.join(REQUESTS)}")
    try:
        # bytes as they are: text is no picture, also not as base64, which msgspec would take.
        return msgspec.convert({} if body is None else body, REQUESTS[kind], builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        fields = ", ".join(REQUESTS[kind].__struct_fields__) or "nothing"
        raise Misuse(f"a message {kind!r} has the wrong body: {error}; it takes {fields}") from None

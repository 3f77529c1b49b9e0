"""Which engines an agent uses, as its user says it. The engines themselves are in files of their own (engines.py)."""

from typing import Annotated, Literal

import msgspec

MAX_NUMBERS = 4096  # of one output of a model
Meanings = Annotated[list[str], msgspec.Meta(min_length=2, max_length=MAX_NUMBERS)]


class _Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class CascadeOptions(_Options, frozen=True, tag="cascade"):
    """There are none."""


class YuNetOptions(_Options, frozen=True, tag="yunet"):
    weights: str
    score: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.9  # hits that the model is less sure of are no faces


class LbphOptions(_Options, frozen=True, tag="lbph"):
    stranger: float | None = None  # distance beyond which a face is nobody's; None: the engine's own, here and below


class SFaceOptions(_Options, frozen=True, tag="sface"):
    weights: str
    stranger: float | None = None


class Inputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an ONNX model's input is made by; ArcFace's, unless something else is said."""

    mean: float = 127.5
    scale: float = 1 / 127.5
    order: Literal["rgb", "bgr"] = "rgb"


class EmbeddingOptions(_Options, frozen=True, tag="onnx"):
    weights: str
    stranger: float | None = None
    inputs: Inputs = Inputs()


class AttributesOptions(_Options, frozen=True, tag="onnx"):
    weights: str
    outputs: dict[str, Meanings | None]
    """Name of an output -> what its numbers stand for, of which the largest is told; None: the number is told."""
    inputs: Inputs = Inputs()


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For all of an agent's life."""

    detector: CascadeOptions | YuNetOptions = CascadeOptions()
    recogniser: LbphOptions | SFaceOptions | EmbeddingOptions = LbphOptions()
    attributes: AttributesOptions | None = None

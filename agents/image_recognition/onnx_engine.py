"""Models in ONNX files, by ONNX Runtime: those that take one batch of pictures and give a score for each class."""

import numpy as np
from numpy.typing import NDArray

from agents.image_recognition.preprocess import SIDE, normalised
from ledger.errors import Misuse

try:
    import onnxruntime as ort
except ImportError as error:
    raise Misuse(
        f"an .onnx file needs ONNX Runtime, and {error.name or error} is missing: "
        "in the folder of these sources, say: pip install '.[models]'"
    ) from error

SHAPE = (3, SIDE, SIDE)  # of one picture


class Network:
    """The model of a file's bytes, ready to judge. Raises Misuse for one that does not take pictures as these are."""

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # as all of a worker
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it raises classes of its own, which have no common base
            raise Misuse(f"ONNX Runtime cannot open the model: {_line(error)}; export it again") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise Misuse(
                f"the model takes {len(inputs)} inputs and gives {len(outputs)} outputs: one that takes a batch of "
                "pictures and gives their scores has one of each"
            )
        shape = inputs[0].shape  # whole numbers; a text or None where any size is taken
        fits = len(shape) == 4 and all(not isinstance(a, int) or a == b for a, b in zip(shape[1:], SHAPE, strict=True))
        if inputs[0].type != "tensor(float)" or not fits:
            raise Misuse(
                f"the model takes {inputs[0].type} of {shape}: it must take tensor(float) of [batch, 3, 224, 224]"
            )
        self._name = inputs[0].name
        self._at_once = shape[0] if isinstance(shape[0], int) else None
        if self._at_once not in (None, 1):
            raise Misuse(f"the model takes {self._at_once} pictures at once: export it for one, or for any number")
        self.classes = self(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of pictures (batch x 224 x 224 x 3) x classes: the probability of each."""
        batch = normalised(pixels)
        parts = [batch] if self._at_once is None else np.split(batch, len(batch))
        return np.concatenate([self._probabilities(part) for part in parts])

    def _probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (found,) = self._session.run(None, {self._name: batch})
            scores = np.asarray(found, np.float64)
        except Exception as error:  # as above
            raise Misuse(f"the model cannot be run: {_line(error)}; export it again") from None
        if scores.ndim != 2 or len(scores) != len(batch) or not scores.shape[1] or not np.isfinite(scores).all():
            raise Misuse(
                f"the model gives {list(scores.shape)} for {len(batch)} pictures, and must give finite scores: "
                "[batch, classes]"
            )
        if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3):
            return scores.astype(np.float32)  # its last layer is a softmax already
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0][:200]

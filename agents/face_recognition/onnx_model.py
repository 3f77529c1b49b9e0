"""ONNX models of faces, run by ONNX Runtime: embeddings that tell people apart, and attributes such as an age.

A model has one input, float32 of 1 x 3 x height x width (or N x ..), and gets one face, upright, in that size. Its
values are (pixel - mean) * scale, its colours in the order that `order` says. An embedding's first output is
1 x D numbers; of attributes each output that is named is 1 x K numbers, where K is 1 for a number itself.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.face_recognition.aligned import aligned
from agents.face_recognition.choice import MAX_NUMBERS, AttributesOptions, EmbeddingOptions, Inputs
from agents.face_recognition.port import Face, Vector, check_length, cosine_distances, of_length_1, words
from agents.face_recognition.weights import Read
from agents.pictures import Picture
from ledger.errors import Misuse

MAX_SIDE = 1024  # pixels of the input
STRANGER = 0.6  # cosine distance; each model has its own best one


class Embedding:
    colour, kind = True, np.dtype(np.float32)

    def __init__(self, options: EmbeddingOptions, read: Read) -> None:
        self._model = _Model(options.weights, options.inputs, read)
        check_length(next(iter(self._model.outputs.values()), 0), self._model.file)
        self.name = f"onnx {self._model.digest}"
        self.stranger = STRANGER if options.stranger is None else options.stranger

    def describe(self, picture: Picture, face: Face) -> Vector:
        numbers = next(iter(self._model.run(picture, face).values()))  # the first output
        return of_length_1(numbers, self._model.file)

    def distances(self, known: NDArray[np.float32], vector: Vector) -> NDArray[np.float64]:
        return cosine_distances(known, vector)


class OnnxAttributes:
    colour = True

    def __init__(self, options: AttributesOptions, read: Read) -> None:
        self._model = _Model(options.weights, options.inputs, read)
        self._outputs = options.outputs
        for output, meanings in options.outputs.items():
            there, wanted = self._model.outputs.get(output), 1 if meanings is None else len(meanings)
            if there != wanted:
                has = ", ".join(f"{name} ({count})" for name, count in self._model.outputs.items())
                raise Misuse(f"{options.weights} has no output {output!r} of {wanted} numbers; it has {has}")

    def of(self, picture: Picture, face: Face) -> dict[str, Any]:
        found = self._model.run(picture, face)
        for output in self._outputs:
            if not np.isfinite(found[output]).all():
                raise Misuse(f"{self._model.file} gives no numbers as {output!r}: the model is broken")
        return {
            output: float(found[output][0]) if meanings is None else meanings[int(found[output].argmax())]
            for output, meanings in self._outputs.items()
        }


class _Model:
    """Raises Misuse for a file that is no such model."""

    def __init__(self, name: str, inputs: Inputs, read: Read) -> None:
        try:
            import onnxruntime  # only who names a model needs it
        except ImportError:
            raise Misuse(
                "models from ONNX files need ONNX Runtime: in the folder of these sources, say: pip install '.[models]'"
            ) from None
        weights = read(name)
        self.file, self.digest, self._inputs = weights.name, weights.digest, inputs
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4  # what is wrong is raised too
        try:
            self._session = onnxruntime.InferenceSession(weights.raw, settings, providers=["CPUExecutionProvider"])
            self._input, self._width, self._height = self._check_input()
            self._names = [output.name for output in self._session.get_outputs()]
            self.outputs = {output: len(row) for output, row in self._run(self._blank()).items()}
        except Misuse:
            raise
        except Exception as error:  # ONNX Runtime's kinds have no common ancestor but this
            raise Misuse(f"{self.file} is no ONNX model that can be run here: {words(error)}") from None

    def run(self, picture: Picture, face: Face) -> Mapping[str, NDArray[np.float32]]:
        """The numbers of each output. Raises Misuse."""
        upright = aligned(picture, face, self._width, self._height)
        colours = upright[..., ::-1] if self._inputs.order == "rgb" else upright
        values = (colours.astype(np.float32) - self._inputs.mean) * self._inputs.scale
        try:
            return self._run(values.transpose(2, 0, 1)[None].astype(np.float32))
        except Misuse:
            raise
        except Exception as error:
            raise Misuse(f"{self.file} failed with a face: {words(error)}") from None

    def _check_input(self) -> tuple[str, int, int]:
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else None
        match shape:
            case [batch, 3, int(height), int(width)] if (
                inputs[0].type == "tensor(float)"
                and (batch == 1 or not isinstance(batch, int))
                and min(height, width) >= 1
                and max(height, width) <= MAX_SIDE
            ):
                return inputs[0].name, width, height
        has = ", ".join(f"{each.name}: {each.type} of {each.shape}" for each in inputs)[:200]
        raise Misuse(
            f"{self.file} does not take a face: one input, float32 of 1 x 3 x height x width with sides of at most "
            f"{MAX_SIDE}, is needed, and it has {has or 'none'}"
        )

    def _blank(self) -> NDArray[np.float32]:
        return np.full((1, 3, self._height, self._width), 0.5, np.float32)

    def _run(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        found = {}
        for name, numbers in zip(self._names, self._session.run(self._names, {self._input: values}), strict=True):
            row = np.asarray(numbers)
            if row.ndim < 1 or row.shape[0] != 1 or not 1 <= row.size <= MAX_NUMBERS or row.dtype.kind not in "fiu":
                raise Misuse(
                    f"{self.file} gives {name!r} as {row.dtype} of {row.shape}; 1 x D numbers are needed, "
                    f"with D at most {MAX_NUMBERS}"
                )
            found[name] = row.astype(np.float32).ravel()
        return found

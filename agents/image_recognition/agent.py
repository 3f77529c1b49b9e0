"""The image-recognition service of BloSM (section 3.2): what a picture shows, by MobileNetV2 or a model of one's own.

    "classify" {"picture": a PNG or JPEG file}  ->  {"objects": [{"id": 7, "name": "cock", "probability": 0.9}, ..]}
    "classify" {"pictures": several}            ->  {"pictures": [{"objects": [..]}, ..]}
    "classify" {"pixels": [224 x 224 x 3 bytes, ..]}  ->  as for pictures

The likeliest first, "top" of them (5). Names are None without a file of labels. Each answer has `execution_ms`, of the
batch that it was computed in, `end_to_end_ms`, from its coming to the agent to its leaving, the queue included (None
when the agent moved meanwhile; the way to the agent and back is the caller's to measure), and `weights`, the file that
they are from, or "random".
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentplatform.agent import Message
from agentplatform.handlers import handles
from agentplatform.messages import Later
from agents import weights
from agents.device import Device
from agents.image_recognition import labels
from agents.image_recognition.messages import Classify
from agents.serving.model_service import ModelService, Start
from ledger.errors import Misuse, PlatformError

MAX_ONNX_BYTES = 512 << 20  # of a file


class StartWithLabels(Start):
    labels: str | None = None  # a file (labels.read); None: classes have numbers and no names


class ImageRecognition(ModelService):
    service, version = "image-recognition", "1.0"
    default = "mobilenet_v2.pth"
    starts = StartWithLabels

    def begin(self, start: StartWithLabels) -> None:
        super().begin(start)
        self.names = [] if start.labels is None else labels.read(self._file(start.labels))

    def libraries(self) -> tuple[str, ...]:
        return "cv2", "onnxruntime" if isinstance(self.weights, bytes) else "torch"

    def draw(self, seed: int) -> weights.Weights:
        from agents.image_recognition import mobilenet

        return mobilenet.drawn(seed)

    def read(self, file: Path) -> weights.Weights | bytes:
        if file.suffix != ".onnx":
            return weights.load(file)
        if file.stat().st_size > MAX_ONNX_BYTES:
            raise Misuse(f"{file.name} has {file.stat().st_size} bytes, of at most {MAX_ONNX_BYTES}")
        return file.read_bytes()

    def make(self, device: Device) -> Any:
        network = self._engine(device)
        if self.names and len(self.names) != network.classes:
            raise Misuse(f"the model has {network.classes} classes, and {len(self.names)} labels were given")
        return network

    def _engine(self, device: Device) -> Any:
        """Each is imported where it is used: a host needs the library of one, and who creates the agent needs none."""
        if isinstance(self.weights, bytes):
            from agents.image_recognition import onnx_engine

            return onnx_engine.Network(self.weights)
        from agents.image_recognition import mobilenet

        return mobilenet.Network(self.weights, device)

    @handles("classify")
    def classify(self, body: Classify, message: Message) -> Later:
        return self.submit(message, body, size=body.size, space=body.space)

    def compute(self, works: list[Classify]) -> list[Any]:
        opened = [_opened(work) for work in works]
        good = [each for each in opened if isinstance(each, np.ndarray)]
        found = self.network(np.concatenate(good)) if good else np.empty((0, 0), np.float32)
        answers: list[Any] = []
        for work, each in zip(works, opened, strict=True):
            if isinstance(each, PlatformError):
                answers.append(each)
                continue
            objects = [{"objects": self._likeliest(row, work.top)} for row in found[: len(each)]]
            found = found[len(each) :]
            answers.append({"pictures": objects} if work.picture is None else objects[0])
        return answers

    def _likeliest(self, probabilities: NDArray[np.float32], top: int) -> list[dict[str, Any]]:
        return [
            {
                "id": best,
                "name": self.names[best] if self.names else None,
                "probability": float(probabilities[best]),
            }
            for best in np.argsort(-probabilities, kind="stable")[:top].tolist()
        ]


def _opened(work: Classify) -> NDArray[np.uint8] | PlatformError:
    """A picture that cannot be opened is its sender's, and keeps no other one of the batch from being answered."""
    try:
        return work.opened()
    except PlatformError as error:
        return error

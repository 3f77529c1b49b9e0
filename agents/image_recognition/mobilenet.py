"""MobileNetV2 (Sandler et al., CVPR 2018), width 1.0: 3,504,872 parameters with 1,000 classes.

Its parts are named as torchvision names them, so that the weights published for that fit.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.device import Device
from agents.image_recognition.preprocess import normalised
from agents.weights import Weights, fitted, sure
from ledger.errors import Misuse

try:
    import torch
    from torch import nn
except ImportError as error:
    raise Misuse(
        f"weights of MobileNetV2 need PyTorch, and {error.name or error} is missing: in the folder of these sources, "
        "say: pip install '.[torch]'; or name an .onnx file, for which '.[models]' is enough"
    ) from error

CLASSES = 1000  # of ImageNet
MAX_CLASSES = 100_000
FIRST, LAST = 32, 1280  # channels
# (expansion, channels, how many, stride of the first of them): table 2 of the paper
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _layer(before: int, after: int, side: int, stride: int = 1, groups: int = 1) -> Any:
    convolution = nn.Conv2d(before, after, side, stride, (side - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Narrow to wide, each channel by itself, narrow again without a limit; added to what came in where that fits."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        expand = [] if expansion == 1 else [_layer(before, wide, 1)]
        each = _layer(wide, wide, 3, stride, groups=wide)
        self.conv = nn.Sequential(*expand, each, nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after))
        self.adds = stride == 1 and before == after

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """From pictures (batch x 3 x 224 x 224, as preprocess.normalised has them) to a score for each class."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        layers, channels = [_layer(3, FIRST, 3, stride=2)], FIRST
        for expansion, after, count, stride in BLOCKS:
            for number in range(count):
                layers.append(InvertedResidual(channels, after, stride if number == 0 else 1, expansion))
                channels = after
        layers.append(_layer(channels, LAST, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(LAST, classes))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


class Network:
    """The model with its weights, ready to judge. Raises Misuse for weights that are not its own."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], device: Device) -> None:
        last = weights.get("classifier.1.bias")
        if last is None or last.ndim != 1 or not 0 < len(last) <= MAX_CLASSES:
            raise Misuse("these are no weights of MobileNetV2: 'classifier.1.bias' is missing, or no list of classes")
        with torch.device("meta"):  # no room, and no chance: the weights take their places below
            self._module = MobileNetV2(len(last))
        own = self._module.state_dict()
        shapes = {name: tuple(value.shape) for name, value in own.items()}
        fit = fitted(weights, shapes, f"MobileNetV2 for {len(last)} classes")
        tensors = {name: torch.tensor(value, dtype=own[name].dtype) for name, value in fit.items()}
        self._module.load_state_dict(tensors, assign=True)
        self._module.eval().to(memory_format=torch.channels_last)  # a quarter faster on a processor
        self._module = device.put(self._module)
        self._device, self.classes = device, len(last)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of pictures (batch x 224 x 224 x 3) x classes: the probability of each."""
        with torch.inference_mode():
            batch = self._device.put(normalised(pixels)).contiguous(memory_format=torch.channels_last)
            scores = self._module(batch)
            return sure(torch.softmax(scores, 1).cpu().numpy())


def drawn(seed: int, classes: int = CLASSES) -> Weights:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return {name: value.detach().numpy() for name, value in MobileNetV2(classes).state_dict().items()}

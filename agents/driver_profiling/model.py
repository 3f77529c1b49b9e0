"""DeepConvLSTM (Ordonez and Roggen, Sensors 16(1), 2016): four convolutions over time, two recurrent layers.

Each convolution looks at five samples of one signal at a time; the recurrent layers see all signals together, and what
they know at the last sample is the answer. Its sizes are those of the weights.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.device import Device
from agents.driver_profiling.can import SIGNALS, WINDOW
from agents.weights import Weights, fitted, sure
from ledger.errors import Misuse

try:
    import torch
    from torch import nn
except ImportError as error:
    raise Misuse(
        f"driver profiling needs PyTorch, and {error.name or error} is missing: "
        "in the folder of these sources, say: pip install '.[torch]'"
    ) from error

FILTERS, UNITS = 64, 128  # of the paper
# Arrays that tell the sizes: name -> dimensions, and the one that does.
_TELLING = {"convolutions.0.weight": (4, 0), "recurrent.weight_hh_l0": (2, 1), "classes.bias": (1, 0)}
DEPTH, SAMPLES = 4, 5  # convolutions, and how many samples each looks at
MAX_CLASSES = 10_000
CLIP = 10.0  # standard deviations; what is farther from the mean counts as that far


class DeepConvLSTM(nn.Module):
    """From windows (batch x samples x signals), as they were measured, to a score for each driver."""

    def __init__(self, classes: int, filters: int = FILTERS, units: int = UNITS) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(SIGNALS)))
        self.register_buffer("deviation", torch.ones(len(SIGNALS)))
        channels = (1, *(filters,) * DEPTH)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, (SAMPLES, 1)) for before, after in pairwise(channels)
        )
        self.forgetful = nn.Dropout(0.5)
        self.recurrent = nn.LSTM(filters * len(SIGNALS), units, num_layers=2, batch_first=True)
        self.classes = nn.Linear(units, classes)

    def forward(self, windows: Any) -> Any:
        x = ((windows - self.mean) / self.deviation).clamp(-CLIP, CLIP).unsqueeze(1)
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
        x = self.forgetful(x.transpose(1, 2).flatten(2))  # batch x samples x (filters * signals)
        return self.classes(self.recurrent(x)[0][:, -1])


class Network:
    """The model with its weights, ready to judge. Raises Misuse for weights that are not its own."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], device: Device) -> None:
        filters, units, classes = _sizes(weights)
        with torch.device("meta"):  # no room, and no chance: the weights take their places below
            self._module = DeepConvLSTM(classes, filters, units)
        own = self._module.state_dict()
        shapes = {name: tuple(value.shape) for name, value in own.items()}
        fit = fitted(weights, shapes, f"DeepConvLSTM for {classes} drivers")
        if not (fit["deviation"] > 0).all():
            raise Misuse("these are no weights of DeepConvLSTM: 'deviation' must be above zero")
        tensors = {name: torch.tensor(value, dtype=own[name].dtype) for name, value in fit.items()}
        self._module.load_state_dict(tensors, assign=True)
        self._module = device.put(self._module.eval())
        self._device, self.classes = device, classes

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows x classes: how sure it is of each, with a sum of 1."""
        with torch.inference_mode():
            scores = self._module(self._device.put(windows))
            return sure(torch.softmax(scores, 1).cpu().numpy())


def arrays_of(module: Any) -> Weights:
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def drawn(seed: int, classes: int) -> Weights:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return arrays_of(DeepConvLSTM(classes))


def _sizes(weights: Mapping[str, NDArray[Any]]) -> tuple[int, int, int]:
    """(filters, units, classes), as three of the arrays say; whether all agree is seen when they are fitted."""
    sizes = []
    for name, (dimensions, axis) in _TELLING.items():
        array = weights.get(name)
        if array is None or array.ndim != dimensions or not 0 < array.shape[axis] <= MAX_CLASSES:
            raise Misuse(
                f"these are no weights of DeepConvLSTM for windows of {WINDOW} x {len(SIGNALS)}: {name!r} is "
                f"{'missing' if array is None else list(array.shape)}; train some with "
                "python -m agents.driver_profiling.train --out FILE.npz"
            )
        sizes.append(array.shape[axis])
    return sizes[0], sizes[1], sizes[2]

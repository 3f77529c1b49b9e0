"""The driver-profiling service of BloSM (section 3.2): who drives, by 40 seconds of the car's bus.

    "profile" {"window": 40 x 15 numbers}  ->  {"driver": "A", "confidence": 0.998, ..}
    "profile" {"windows": several}         ->  {"profiles": [{"driver": .., "confidence": ..}, ..], ..}
    "drivers"                              ->  whom it knows

Each answer has `execution_ms`, of the batch that it was computed in, `end_to_end_ms`, from its coming to the agent to
its leaving, the queue included (None when the agent moved meanwhile: two hosts' clocks are never compared; the way
to the agent and back is the caller's to measure), and `weights`, the file that they are from, or "random".
"""

from pathlib import Path
from typing import Any

import numpy as np

from agentplatform.agent import Message
from agentplatform.handlers import handles
from agentplatform.messages import Later
from agents.device import Device
from agents.driver_profiling import trained
from agents.driver_profiling.generate import DRIVERS
from agents.driver_profiling.messages import Profile
from agents.serving.model_service import ModelService
from agents.weights import Weights
from ledger.errors import Misuse


class DriverProfiling(ModelService):
    service, version = "driver-profiling", "1.0"
    default = "driver_profiling.npz"

    def draw(self, seed: int) -> Weights:
        from agents.driver_profiling import model  # where it is used: who creates the agent needs no PyTorch

        self.drivers = list(DRIVERS)
        return model.drawn(seed, len(self.drivers))

    def read(self, file: Path) -> Weights:
        weights, self.drivers = trained.read(file)
        return weights

    def make(self, device: Device) -> Any:
        from agents.driver_profiling import model

        network = model.Network(self.weights, device)
        if network.classes != len(self.drivers):
            raise Misuse(f"{self.source} knows {network.classes} drivers and names {len(self.drivers)}: train it again")
        return network

    @handles("profile")
    def profile(self, body: Profile, message: Message) -> Later:
        windows = body.checked()
        return self.submit(message, (windows, body.window is not None), size=len(windows), space=windows.nbytes)

    @handles("drivers")
    def known(self) -> list[str]:
        return self.drivers

    def compute(self, works: list[Any]) -> list[Any]:
        sure = self.network(np.concatenate([windows for windows, _ in works]))
        profiles = [
            {"driver": self.drivers[best], "confidence": float(each[best])}
            for each, best in zip(sure, sure.argmax(1).tolist(), strict=True)
        ]
        answers: list[Any] = []
        for windows, single in works:
            own, profiles = profiles[: len(windows)], profiles[len(windows) :]
            answers.append(own[0] if single else {"profiles": own})
        return answers

"""A service that answers from a model. Its weights are state: they travel with it, and a destination needs no file.

    class Judge(ModelService):
        service, version = "judge", "1.0"
        default = "judge.npz"

        def draw(self, seed): ...            # weights by chance
        def read(self, file): ...            # or from a file
        def make(self, device): ...          # what computes, of self.weights

What computes is made once in each process, at the creation and where the agent arrives, on the device that it wishes
for or the best there is (agents.device), and is no state.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from agentplatform import Needs
from agents.device import Device, pick
from agents.serving.service import BatchService
from ledger.errors import Misuse

RANDOM = "random"


class Start(msgspec.Struct, forbid_unknown_fields=True):
    """What a service is created with."""

    weights: str | None = None  # a file (Agent.shared_file), or "random"; None: the service's own default
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0  # of random weights
    device: str | None = None  # agents.device.pick: "cpu", "cuda", "cuda:1"; None: the best there is, wherever it is


class ModelService(BatchService):
    steady = True
    passing = (*BatchService.passing, "network")

    default: ClassVar[str]
    """The file of weights that is looked for when none is named (Agent.shared_file)."""

    starts: ClassVar[type[Start]] = Start
    """What the service is created with."""

    def on_creation(self, init: Any) -> None:
        super().on_creation(init)
        try:
            start = msgspec.convert({} if init is None else init, self.starts)
        except msgspec.ValidationError as error:
            fields = ", ".join(self.starts.__struct_fields__)
            raise Misuse(f"{self.name} cannot be created with that: {error}; it takes {fields}") from None
        self.device = start.device
        self.begin(start)
        self.network  # noqa: B018 - weights that do not fit refuse the creation
        self.on_clone()

    def on_clone(self) -> None:
        """What it needs: a clone begins with what its class says."""
        gpu = ("gpu",) if (self.device or "cpu") != "cpu" else ()
        self.require(Needs(has=(*self.libraries(), *gpu)))

    def begin(self, start: Any) -> None:
        """Gets the weights."""
        name = start.weights or self.default
        self.source = Path(name).name
        self.weights: Any = self.draw(start.seed) if name == RANDOM else self.read(self._file(name))

    def draw(self, seed: int) -> Any:
        """Weights by chance, whose answers mean nothing; the same seed gives the same."""
        raise NotImplementedError

    def read(self, file: Path) -> Any:
        """Weights from a file. Raises Misuse."""
        raise NotImplementedError

    def libraries(self) -> tuple[str, ...]:
        """What every host must have that it runs on."""
        return ("torch",)

    def make(self, device: Device) -> Any:
        """What computes, of `self.weights`. Raises Misuse when they are no weights of it."""
        raise NotImplementedError

    @cached_property
    def network(self) -> Any:
        """When it cannot be made, as on a host whose GPU is taken, each request is told why, and the next one tries."""
        return self.make(pick(self.device))

    def prepare(self) -> None:
        self.network  # noqa: B018 - so that the first request need not wait for it

    def timed(self, answer: dict[str, Any], execution: float, end_to_end: float | None) -> dict[str, Any]:
        """With milliseconds, and with where the weights are from: who gets an answer by chance should know."""
        return answer | {
            "weights": self.source,
            "execution_ms": execution * 1000,
            "end_to_end_ms": None if end_to_end is None else end_to_end * 1000,
        }

    def _file(self, name: str) -> Path:
        try:
            return self.shared_file(name)
        except Misuse as error:
            raise Misuse(
                f'{error}; or create it with {{"weights": FILE}}, or with {{"weights": "random", "seed": 1}} for '
                "weights by chance, whose answers mean nothing"
            ) from None

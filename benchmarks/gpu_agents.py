"""The agents of `benchmarks.gpu`: one with much on a device, and one that knows faces by a model there."""

import pickle
from itertools import pairwise
from time import monotonic
from typing import Any

from agentplatform import Agent, handles
from agents.device import OnDevice, pick
from services.rms.resources import Needs

BLOCK_BYTES = 256 << 20
BARE_BYTES = 1 << 30
ROUNDS = 5
PEOPLE, SIDE = 100, 64


def _wait(device: str) -> None:
    import torch

    if device != "cpu":
        torch.cuda.synchronize(device)


class Mover(Agent):
    """Tells how long each part of its last hop took."""

    checkpoint = "hop"

    def settle(self, init: dict[str, Any]) -> None:
        self.wish: str = init["device"]
        self.left = 0.0
        self.times: dict[str, float] = {}
        self.failure: str | None = None

    def on_dispatching(self, destination: str) -> None:
        self.left = monotonic()  # one clock for all processes of a machine

    def on_arrival(self, arrival: Any) -> None:
        came = monotonic()
        try:
            device = pick(self.wish if arrival.host != "desk" else "cpu")
            device.put(_ones(1)).cpu()  # CUDA starts with the first use, in each worker anew
            started = monotonic()
            self.kept.to(device)
            _wait(device.name)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            raise
        self.times = {
            "hop_s": came - self.left,
            "start_s": started - came,
            "to_device_s": monotonic() - started,
            "downtime_s": monotonic() - self.left,
        }

    @handles("last")
    def last(self) -> dict[str, Any]:
        return {
            "device": self.kept.device.name if self.failure is None else None,
            "failure": self.failure,
            **self.times,
        }

    kept: OnDevice[Any]


class Weights(Mover):
    def on_creation(self, init: dict[str, Any]) -> None:
        self.settle(init)
        device = pick(self.wish)
        self.kept = OnDevice(_numbers(init["bytes"], device.name), device)
        _wait(device.name)

    @handles("sums")
    def sums(self) -> list[int]:
        """Of all numbers, each by its place: what is lost or exchanged changes one."""
        import torch

        return [int((each * torch.arange(len(each), device=each.device)).sum()) for each in self.kept.value]

    @handles("capture")
    def capture(self) -> dict[str, Any]:
        """Seconds of a first capture, which has to lock memory, and of one that finds it locked."""
        taken = []
        for _ in range(2):
            _wait(self.kept.device.name)
            begin = monotonic()
            pickle.dumps(self.kept, 5, buffer_callback=lambda buffer: None)
            taken.append(monotonic() - begin)
        self.kept.free()
        return {"first_s": taken[0], "again_s": taken[1], "locked": getattr(self.kept.device, "locked", None)}

    @handles("bare")
    def bare(self, size: int) -> dict[str, float]:
        """Bytes a second of one bare copy between page-locked memory and the device, the best of some: the bus."""
        import torch

        name = self.kept.device.name
        host = torch.empty(size, dtype=torch.uint8, pin_memory=name != "cpu").fill_(1)
        there = torch.ones(size, dtype=torch.uint8, device=name)
        rates = {}
        for key, target, source in (("out", host, there), ("in", there, host)):
            times = []
            for _ in range(ROUNDS):
                _wait(name)
                begin = monotonic()
                target.copy_(source, non_blocking=True)
                _wait(name)
                times.append(monotonic() - begin)
            rates[key] = size / min(times)
        return rates


class Faces(Mover):
    """A small model with made-up weights gives each picture a vector; whose vector is nearest is recognised."""

    def on_creation(self, init: dict[str, Any]) -> None:
        import torch

        self.settle(init)
        if self.wish != "cpu":
            self.require(Needs(has=("gpu",)))
        torch.manual_seed(2026)
        layers = [layer for a, b in ((1, 16), (16, 32), (32, 64)) for layer in _layers(a, b)]
        model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(64 * (SIDE // 8) ** 2, 128)).eval()
        device = pick(self.wish)
        model = device.put(model)
        with torch.no_grad():
            known = torch.nn.functional.normalize(model(device.put(_pictures(0.0))))
        self.kept = OnDevice({"model": model, "known": known}, device)

    @handles("recognise")
    def recognise(self, noise: float) -> list[Any]:
        """Who is seen in a picture of each, with noise, and how near."""
        import torch

        value, device = self.kept.value, self.kept.device
        with torch.no_grad():
            seen = torch.nn.functional.normalize(value["model"](device.put(_pictures(noise))))
        near, who = (seen @ value["known"].T).max(dim=1)
        return [who.tolist(), near.tolist()]

    @handles("content")
    def content(self) -> None:
        """With any host, from now on."""
        self.require(Needs())


def _ones(size: int) -> Any:
    import torch

    return torch.ones(size)


def _numbers(size: int, device: str) -> list[Any]:
    import torch

    edges = [*range(0, size, BLOCK_BYTES), size]
    return [
        torch.arange(begin // 8, end // 8, dtype=torch.int64, device=device).mul_(0x9E3779B97F4A7C15 >> 1)
        for begin, end in pairwise(edges)
    ]


def _layers(channels_in: int, channels_out: int) -> list[Any]:
    import torch

    return [torch.nn.Conv2d(channels_in, channels_out, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2)]


def _pictures(noise: float) -> Any:
    """One of each person, the same each time."""
    import torch

    draw = torch.Generator().manual_seed(7)
    coarse = torch.rand((PEOPLE, 1, 8, 8), generator=draw)
    pictures = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    pictures = pictures - pictures.mean(dim=(1, 2, 3), keepdim=True)
    return pictures + noise * torch.rand(pictures.shape, generator=draw)

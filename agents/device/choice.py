"""Which device an agent computes on."""

import re
from importlib.util import find_spec
from typing import Any

from agents.device.by_torch import TorchDevice
from agents.device.port import Device
from ledger.errors import Misuse, Unavailable

_CUDA = re.compile(r"cuda(?::(\d{1,3}))?")


def pick(wish: str | None) -> Device:
    """The device of that name, "cpu" or "cuda:N" ("cuda": the GPU that has the most memory free); None: such a GPU if
    there is one, else the processor.

    Raises Misuse for what is no device, and when PyTorch is missing; Unavailable for a GPU that this host, or this
    worker, does not have, with the reason.
    """
    if wish == "cpu":
        return TorchDevice("cpu")
    wanted = _CUDA.fullmatch("cuda" if wish is None else wish) if isinstance(wish, str | None) else None
    if wanted is None:
        raise Misuse(f'{wish!r:.40} is no device: say "cpu", "cuda:0", or None for the best that is there')
    if find_spec("torch") is None:
        if wish is None:
            return TorchDevice("cpu")
        raise Misuse(f"{wish} needs PyTorch: in the folder of these sources, say: pip install '.[torch]'")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        if wish is None:
            return TorchDevice("cpu")
        raise Unavailable(
            f"PyTorch finds no GPU here ({_reason(torch)}), so there is no {wish}. Where the host has one, its "
            "operator opens it to agents in host.toml: [workers] gpu = true"
        )
    if wanted[1] is None:
        return TorchDevice(f"cuda:{max(range(count), key=lambda index: _free(torch, index))}")
    if int(wanted[1]) >= count:
        raise Unavailable(f"there is no {wish} here: the GPUs are numbered from 0, and this host has {count}")
    return TorchDevice(f"cuda:{int(wanted[1])}")


def _reason(torch: Any) -> str:
    """Why CUDA does not start."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch is built without CUDA
        return f"{str(error).splitlines()[0]:.300}"
    return "CUDA has no device"


def _free(torch: Any, index: int) -> int:
    """Bytes."""
    try:
        return int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:  # it has no room to ask it
        return 0

"""Which device decodes: the processor, or the video decoder of a GPU (NVDEC), with fall-back."""

import re
from functools import cache
from typing import Any

import av

from ledger.errors import Misuse

_NAME = re.compile(r"cpu|cuda(:\d{1,3})?")


def checked_device(name: str) -> str:
    """Raises Misuse for what names no device."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Misuse(f"a device is 'cpu', 'cuda' or 'cuda:N', not {name!r:.40}")
    return name


@cache
def why_not(device: str) -> str:
    """Why the processor decodes in place of that device; "" where the device does. Asked of the device once in a
    process: for a GPU that takes some tenths of a second."""
    if device == "cpu":
        return ""
    try:
        av.CodecContext.create("h264", "r", _accelerator(device))
    except (ImportError, OSError, RuntimeError, ValueError, TypeError, av.FFmpegError) as error:
        return f"{device} cannot decode here ({error}), so the processor does"
    return ""


def accelerator_of(device: str) -> Any:
    """PyAV's HWAccel for that device; None where the processor decodes. A codec that the device does not know is
    decoded by the processor, too."""
    return None if device == "cpu" or why_not(device) else _accelerator(device)


def _accelerator(device: str) -> Any:
    from av.codec.hwaccel import HWAccel  # older ones have none

    return HWAccel("cuda", device=device.partition(":")[2] or "0", allow_software_fallback=True)

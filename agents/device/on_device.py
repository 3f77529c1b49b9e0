"""What an agent keeps on a device: it leaves into page-locked memory at a capture, and goes back where it arrives."""

import io
import pickle
from typing import Any, Generic, TypeVar

import cloudpickle
import numpy as np

from agents.device.port import Bytes, Device
from ledger.errors import Misuse

T = TypeVar("T")


class OnDevice(Generic[T]):
    """Anything with tensors in it: one, a dict of them, a module with its parameters and buffers, an optimiser.

    A capture copies each block of memory once. Of a GPU's it takes as much of the host's memory, page-locked, which is
    kept for the next capture: until the agent has left, or `free` is called. That travels out of band, and what arrives
    stays where it lies, in the host's memory, until `to` brings it to a device.
    """

    def __init__(self, value: T, device: Device) -> None:
        """`value` lies there already, as after `device.put`; or it is copied there, all of it, by way of the host's
        memory. Raises Misuse for what cannot travel, Unavailable when there is no room."""
        self._device: Device | None = device
        self._value: T | None = value
        self._arena: Bytes | None = None  # of the last capture
        self._came: tuple[bytes, list[Bytes]] | None = None  # what was captured, and not brought to a device yet
        if not _Packed(device, value).there:
            self._bring(device, *self._capture())

    @property
    def device(self) -> Device:
        """Raises Misuse before `to`."""
        if self._device is None:
            raise Misuse("it has arrived, and lies in the host's memory: bring it to a device by `to`: see docs/gpu.md")
        return self._device

    @property
    def value(self) -> T:
        """On its device. Raises Misuse before `to`."""
        assert self.device is not None
        return self._value  # type: ignore[return-value]

    def to(self, device: Device) -> str:
        """Brings it there, and returns the device's name, for the log. Raises Unavailable when there is no room; then
        it stays where it was."""
        if self._device is None or self._device.name != device.name:
            self._bring(device, *(self._came or self._capture()))
        return device.name

    def free(self) -> None:
        """Gives back the memory that the last capture took; after a move that failed, say."""
        self._arena = None

    def _capture(self) -> tuple[bytes, list[Bytes]]:
        packed = _Packed(self.device, self._value)
        pieces, self._arena = self.device.unload(packed.parts, packed.sizes, self._arena)
        return packed.skeleton, pieces

    def _bring(self, device: Device, skeleton: bytes, pieces: list[Bytes]) -> None:
        self._value = _Unpacker(skeleton, device, device.load(pieces)).load()
        self._device, self._arena, self._came = device, None, None

    def __reduce__(self) -> Any:
        skeleton, pieces = self._came or self._capture()
        return _arrived, (skeleton, [pickle.PickleBuffer(piece.data) for piece in pieces])


def _arrived(skeleton: bytes, buffers: list[Any]) -> OnDevice[Any]:
    came: OnDevice[Any] = OnDevice.__new__(OnDevice)
    came._device = came._value = came._arena = None
    came._came = skeleton, [np.asarray(memoryview(buffer), dtype=np.uint8) for buffer in buffers]
    return came


class _Packed(cloudpickle.Pickler):
    """A value without its blocks: `skeleton`, and of each block the first part that stands for it, and its size."""

    def __init__(self, device: Device, value: Any) -> None:
        out = io.BytesIO()
        super().__init__(out, pickle.HIGHEST_PROTOCOL)
        self._device = device
        self._numbers: dict[Any, int] = {}  # of blocks, by key
        self.parts: list[Any] = []
        self.sizes: list[int] = []
        self.there = True  # all of them are on the device
        self.dump(value)
        self.skeleton = out.getvalue()

    def persistent_id(self, part: Any) -> tuple[int, Any] | None:
        block = self._device.block(part)
        if block is None:
            return None
        number = self._numbers.setdefault(block.key, len(self.parts))
        if number == len(self.parts):
            self.parts.append(part)
            self.sizes.append(block.size)
            self.there = self.there and block.there
        return number, block.view


class _Unpacker(pickle.Unpickler):
    def __init__(self, skeleton: bytes, device: Device, blocks: list[Any]) -> None:
        super().__init__(io.BytesIO(skeleton))
        self._device, self._blocks = device, blocks

    def persistent_load(self, known: tuple[int, Any]) -> Any:
        number, view = known
        return self._device.part(self._blocks[number], view)

"""What a device can do: the port between what agents keep and where it lies."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]  # one row of bytes, in the host's memory


class Block(NamedTuple):
    """One block of memory, as the parts of an object have it: tensors that share memory have the same block."""

    key: Hashable
    size: int  # bytes
    there: bool  # on the device that was asked
    view: Any  # what, beside the bytes, the part needs that stands for the block: plain data


class Device(Protocol):
    @property
    def name(self) -> str:
        """The processor is "cpu", a GPU "cuda:N"."""

    def put(self, value: Any) -> Any:
        """The same there: of an array a tensor; a tensor; a module. Raises Misuse, Unavailable."""

    def block(self, part: Any) -> Block | None:
        """The block that this part of an object stands for, on whatever device; None for all other parts."""

    def unload(self, parts: Sequence[Any], sizes: Sequence[int], arena: Bytes | None) -> tuple[list[Bytes], Bytes]:
        """What their blocks hold, in the host's memory: where they lie, or copied, each once. Second: the page-locked
        memory that this took, none or as much as all; who gives it back as `arena` the next time spares making it."""

    def load(self, pieces: Sequence[Bytes]) -> list[Any]:
        """New blocks that hold this, and may lie where it does. It may be a mapped file. Raises Unavailable when there
        is no room."""

    def part(self, block: Any, view: Any) -> Any:
        """What stands for a block that `load` made, in an object that is there from now on."""

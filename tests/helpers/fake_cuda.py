"""A GPU that is made up, for agents.device: its memory is read in no other way than by copies, which are counted."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.device.port import Block, Bytes
from ledger.errors import Unavailable


class FakeBlock:
    """Memory of the device. It cannot be pickled."""

    def __init__(self, device: str, content: bytes) -> None:
        self.device, self.content = device, bytearray(content)

    def __reduce__(self) -> Any:
        raise TypeError(f"memory of {self.device} cannot be pickled")


class FakeTensor:
    """Numbers upon a block, which several may share."""

    def __init__(self, block: FakeBlock, shape: tuple[int, ...], offset: int = 0) -> None:
        self.block, self.shape, self.offset = block, shape, offset

    def numbers(self) -> list[int]:
        """What a computation on the device would see."""
        count = int(np.prod(self.shape))
        return list(np.frombuffer(bytes(self.block.content), np.int32, count, self.offset))

    def set(self, value: int) -> None:
        self.block.content[self.offset : self.offset + 4] = np.int32(value).tobytes()


class FakeDevice:
    """Implements agents.device.port.Device for FakeTensors."""

    def __init__(self, name: str, room: int = 1 << 30) -> None:
        self.name, self.room = name, room
        self.out: Counter[int] = Counter()  # copies from the device, by block
        self.in_ = 0  # blocks that were copied to it
        self.arenas = 0  # pieces of page-locked memory that were made

    def __reduce__(self) -> Any:
        raise TypeError(f"the device {self.name} cannot be pickled")

    def tensor(self, numbers: Sequence[int]) -> FakeTensor:
        return FakeTensor(FakeBlock(self.name, np.array(numbers, np.int32).tobytes()), (len(numbers),))

    def put(self, value: Any) -> Any:
        return self.tensor(list(value))

    def block(self, part: Any) -> Block | None:
        if not isinstance(part, FakeBlock):
            return None
        return Block(id(part), len(part.content), part.device == self.name, None)

    def unload(self, parts: Sequence[Any], sizes: Sequence[int], arena: Bytes | None) -> tuple[list[Bytes], Bytes]:
        if arena is None or len(arena) != sum(sizes):
            arena, self.arenas = np.empty(sum(sizes), np.uint8), self.arenas + 1
        at, pieces = 0, []
        for part, size in zip(parts, sizes, strict=True):
            arena[at : at + size] = part.content
            self.out[id(part)] += 1
            pieces.append(arena[at : at + size])
            at += size
        return pieces, arena

    def load(self, pieces: Sequence[Bytes]) -> list[Any]:
        if sum(map(len, pieces)) > self.room:
            raise Unavailable(f"{self.name} has not enough memory free")
        self.in_ += len(pieces)
        return [FakeBlock(self.name, piece.tobytes()) for piece in pieces]

    def part(self, block: Any, view: Any) -> Any:
        return block


class Forgetful(FakeDevice):
    """A broken twin: one block is never copied back."""

    def load(self, pieces: Sequence[Bytes]) -> list[Any]:
        first, *rest = super().load(pieces)
        return [FakeBlock(self.name, bytes(len(first.content))), *rest]


class Stays(FakeDevice):
    """A broken twin: what lies on it is taken for a part like any other."""

    def block(self, part: Any) -> Block | None:
        return None


class Splits(FakeDevice):
    """A broken twin: what was shared is copied twice, and is two blocks after."""

    def block(self, part: Any) -> Block | None:
        found = super().block(part)
        return None if found is None else found._replace(key=object())


class Lazy(FakeDevice):
    """A broken twin: it returns before the copies are over."""

    def unload(self, parts: Sequence[Any], sizes: Sequence[int], arena: Bytes | None) -> tuple[list[Bytes], Bytes]:
        pieces, arena = super().unload(parts, sizes, arena)
        arena[: len(arena) // 2] = 0
        return pieces, arena

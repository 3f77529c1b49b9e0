"""The processor and CUDA's devices, by PyTorch. What is pickled of a tensor is how it looks upon its block of memory
(torch.storage), as in PyTorch's own files: what is shared stays shared, and every type, shape and stride is kept."""

import contextlib
import queue
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from agents.device.port import Block, Bytes
from ledger.errors import Misuse, Unavailable

ALIGNED = 64  # bytes: where a block may begin, in page-locked memory
LANES = 8  # copies to a GPU at a time, by a thread each: reading a mapped file is slower than the bus
LANE_BYTES = 16 << 20  # of page-locked memory, for each
FULL = ("out of memory", "allocate memory", "enough memory")  # as PyTorch says it


class TorchDevice:
    """Implements agents.device.port.Device. PyTorch is imported when something is put there."""

    def __init__(self, name: str) -> None:
        """The processor, "cpu", or "cuda:N", which is there: see agents.device.pick."""
        self.name = name
        self.locked = True  # the memory of the last capture is page-locked; it is slower, and as good, when it is not

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        raise TypeError(f"the device {self.name} is this host's: leave it out in __getstate__, and pick one on arrival")

    def put(self, value: Any) -> Any:
        torch = _torch()
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value if value.flags.writeable else value.copy())
        if not isinstance(value, torch.Tensor | torch.nn.Module):
            raise Misuse(f"a {type(value).__name__} is put on no device, but an array, a tensor or a module")
        with self._room():
            return value.to(self.name)

    def block(self, part: Any) -> Block | None:
        torch = _torch()
        if isinstance(part, torch.storage.TypedStorage):
            storage, kind = part._untyped_storage, str(part.dtype).removeprefix("torch.")
        elif isinstance(part, torch.UntypedStorage):  # of the newer types: their tensors say which
            storage, kind = part, "uint8"
        else:
            return None
        return Block(storage._cdata, storage.nbytes(), storage.device == torch.device(self.name), kind)

    def unload(self, parts: Sequence[Any], sizes: Sequence[int], arena: Bytes | None) -> tuple[list[Bytes], Bytes]:
        torch = _torch()
        blocks = [_bytes(torch, getattr(part, "_untyped_storage", part)) for part in parts]
        if not any(map(_is_remote, blocks)):
            return [block.numpy() for block in blocks], np.empty(0, dtype=np.uint8)
        devices = {block.device for block in blocks if _is_remote(block)}
        for device in devices:
            torch.cuda.synchronize(device)  # what computes there still, in whatever stream
        edges = list(accumulate((size + -size % ALIGNED for size in sizes), initial=0))
        if arena is None or len(arena) != edges[-1]:
            arena = np.empty(edges[-1], dtype=np.uint8)
            self.locked = _lock(torch, arena)
        pieces = [arena[at : at + size] for at, size in zip(edges[:-1], sizes, strict=True)]
        for block, piece in zip(blocks, pieces, strict=True):
            torch.from_numpy(piece).copy_(block, non_blocking=True)
        for device in devices:
            torch.cuda.synchronize(device)
        return pieces, arena

    def load(self, pieces: Sequence[Bytes]) -> list[Any]:
        torch = _torch()
        if self.name == "cpu":
            return [torch.from_numpy(_usable(piece)).untyped_storage() for piece in pieces]
        with self._room():
            blocks = [torch.empty(len(piece), dtype=torch.uint8, device=self.name) for piece in pieces]
            lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
            for _ in range(LANES):
                lanes.put(_Lane(torch, self.name))
        torch.cuda.synchronize(self.name)  # what had this memory before may be at work on it still

        def copy(chunk: tuple[Any, Bytes]) -> None:
            lane = lanes.get()
            try:
                lane.copy(*chunk)
            finally:
                lanes.put(lane)

        with ThreadPoolExecutor(LANES) as threads:
            list(threads.map(copy, _chunks(blocks, pieces)))
        torch.cuda.synchronize(self.name)
        return [block.untyped_storage() for block in blocks]

    def part(self, block: Any, view: Any) -> Any:
        torch = _torch()
        return torch.storage.TypedStorage(wrap_storage=block, dtype=getattr(torch, view), _internal=True)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch.OutOfMemoryError is one; that of the processor has no class
            if not any(words in str(error) for words in FULL):
                raise
            _torch().cuda.empty_cache()  # what there was of it goes back to the others on the GPU
            raise Unavailable(f"{self.name} has not enough memory free: {str(error).splitlines()[0]:.200}") from error


class _Lane:
    """Page-locked memory, and a stream of copies from there. Of one thread at a time."""

    def __init__(self, torch: Any, device: str) -> None:
        self._torch = torch
        self._staging = torch.empty(LANE_BYTES, dtype=torch.uint8, pin_memory=True)
        self._stream = torch.cuda.Stream(device)

    def copy(self, there: Any, source: Bytes) -> None:
        self._stream.synchronize()  # the copy before this one has left the memory
        staged = self._staging[: len(source)]
        staged.copy_(self._torch.from_numpy(source))
        with self._torch.cuda.stream(self._stream):
            there.copy_(staged, non_blocking=True)


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise Misuse("this needs PyTorch: in the folder of these sources, say: pip install '.[torch]'") from None
    return torch


def _chunks(blocks: Sequence[Any], pieces: Sequence[Bytes]) -> Iterator[tuple[Any, Bytes]]:
    for block, piece in zip(blocks, pieces, strict=True):
        for begin, end in pairwise((*range(0, len(piece), LANE_BYTES), len(piece))):
            yield block[begin:end], piece[begin:end]


def _bytes(torch: Any, storage: Any) -> Any:
    """All of a block, as a tensor."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, 0, (storage.nbytes(),), (1,))


def _is_remote(block: Any) -> bool:
    return bool(block.device.type != "cpu")


def _usable(piece: Bytes) -> Bytes:
    """Where it lies, if tensors may lie there. What came in a file does (agentplatform.parcel.state)."""
    return piece if piece.flags.writeable and piece.ctypes.data % ALIGNED == 0 else piece.copy()


def _lock(torch: Any, memory: Bytes) -> bool:
    """Page-locks it for as long as the array lives. Not by PyTorch's own allocator, which takes powers of two."""
    cudart, at = torch.cuda.cudart(), memory.ctypes.data
    if not len(memory):
        return True
    if cudart.cudaHostRegister(at, len(memory), 0) != cudart.cudaError.success:
        with contextlib.suppress(RuntimeError):
            torch.ones(1, device="cuda")  # CUDA keeps the error for the next kernel: this one, and not the agent's
        return False
    weakref.finalize(memory, cudart.cudaHostUnregister, at).atexit = False  # CUDA ends before the process does
    return True

"""The processor and CUDA's devices by PyTorch itself: what modules and tensors are after a move."""

import copy
import pickle
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.device import OnDevice, by_torch, pick  # noqa: E402
from ledger.errors import Misuse, Unavailable  # noqa: E402

on_a_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch finds no GPU here (torch.cuda.is_available())"
)
DEVICES = ["cpu", pytest.param("cuda:0", marks=on_a_gpu)]


def travelled(kept: Any, device: Any) -> tuple[Any, int]:
    buffers: list[pickle.PickleBuffer] = []
    raw = pickle.dumps(kept, 5, buffer_callback=buffers.append)
    sent = [bytearray(buffer.raw()) for buffer in buffers]
    came = pickle.loads(raw, buffers=sent)  # noqa: S301
    came.to(device)
    return came.value, sum(map(len, sent))


class Net(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Tied weights, a frozen parameter, buffers of several types, one without numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)
        self.second.weight = self.first.weight
        self.norm = torch.nn.BatchNorm1d(32)
        self.norm.weight.requires_grad = False
        self.register_buffer("counts", torch.arange(2000, dtype=torch.int8))
        self.register_buffer("nothing", torch.zeros(0, 3))

    def forward(self, rows: Any) -> Any:
        return self.norm(self.second(self.first(rows)))


@pytest.mark.parametrize("name", DEVICES)
def test_a_module_is_the_same_after_a_move_and_learns_on(name: str) -> None:
    torch.manual_seed(7)
    device = pick(name)
    net = device.put(Net().eval())
    rows = device.put(np.random.default_rng(3).random((4, 32), dtype=np.float32))
    kept = OnDevice(net, device)
    assert kept.value is net  # it lay there
    moved, beside = travelled(kept, pick(name))
    assert torch.equal(moved(rows), net(rows))
    assert moved.second.weight is moved.first.weight
    assert beside == 4 * (32 * 32 + 2 * 32 + 4 * 32) + 8 + 2000  # the tied weights once
    assert not moved.norm.weight.requires_grad and moved.first.weight.requires_grad
    assert moved.counts.dtype == torch.int8 and moved.nothing.shape == (0, 3)
    assert {each.device for each in moved.state_dict().values()} == {torch.device(name)}
    before = copy.deepcopy(moved.first.weight.detach())
    learner = torch.optim.SGD(moved.parameters(), lr=0.1)
    moved(rows).square().sum().backward()
    learner.step()
    assert not torch.equal(moved.first.weight, before) and torch.equal(net.first.weight, before)


@pytest.mark.parametrize("name", DEVICES)
def test_each_type_shape_and_stride_is_kept_and_what_is_shared(name: str) -> None:
    base = torch.arange(3000, dtype=torch.float32).reshape(50, 60)
    types = (torch.bfloat16, torch.float16, torch.int8, torch.bool, torch.complex64, torch.float64, torch.uint8)
    types += (torch.uint16, torch.uint64)  # of these PyTorch pickles the bytes alone, and the type beside them
    tensors: dict[str, Any] = {
        "base": base,
        "turned": base.t(),
        "window": base[3:7, ::2],
        "scalar": torch.tensor(3.5),
        "wide": torch.zeros(1).expand(40),
        **{str(kind): torch.arange(3000).to(kind) for kind in types},
    }
    device = pick(name)
    moved, _ = travelled(OnDevice(tensors, device), device)
    for key, tensor in tensors.items():
        assert torch.equal(moved[key].cpu(), tensor) and moved[key].stride() == tensor.stride(), key
    moved["turned"][0, 0] = -1
    assert moved["base"][0, 0] == -1


def test_what_came_is_used_where_it_lies_when_it_stays_on_the_processor() -> None:
    memory = np.zeros(4096 + 64, np.uint8)
    at = -memory.ctypes.data % 64
    aligned, other = memory[at : at + 2048], memory[at + 2049 : at + 2053]
    first, second = pick("cpu").load([aligned, other])
    memory[:] = 5
    assert first.tolist()[:3] == [5, 5, 5] and second.tolist() == [0, 0, 0, 0]


def test_what_cannot_be_put_somewhere_is_named() -> None:
    with pytest.raises(Misuse, match="a list is put on no device"):
        pick("cpu").put([1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pick("cpu").put(np.frombuffer(b"abcd", np.uint8)).tolist() == [97, 98, 99, 100]


class PretendedCuda:
    """PyTorch with a GPU that is the processor in truth: so that each call to CUDA is made where there is none."""

    def __init__(self, lock: int = 0) -> None:
        self.synchronised: list[str] = []
        self.locked: dict[int, int] = {}
        self.copies: list[int] = []
        self._lock = lock
        self.cached = True  # memory of the GPU that nothing uses, and that is not given back
        self.pending = False  # an error that CUDA will raise at the next kernel
        self.cuda = SimpleNamespace(
            empty_cache=lambda: setattr(self, "cached", False),
            synchronize=lambda device: self.synchronised.append(str(device)),
            Stream=lambda device: SimpleNamespace(synchronize=lambda: None),
            stream=self._stream,
            cudart=lambda: SimpleNamespace(
                cudaError=SimpleNamespace(success=0), cudaHostRegister=self._register, cudaHostUnregister=self._forget
            ),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, size: int, *, dtype: Any, device: Any = None, pin_memory: bool = False) -> Any:
        return torch.empty(size, dtype=dtype)

    def _stream(self, stream: Any) -> Any:
        self.copies.append(1)
        return warnings.catch_warnings()  # any context

    def _register(self, at: int, size: int, flags: int) -> int:
        self.locked[at] = size
        self.pending = self._lock != 0
        return self._lock

    def ones(self, size: int, *, device: str) -> Any:
        if self.pending:
            self.pending = False
            raise RuntimeError("CUDA error: out of memory")
        return torch.ones(size)

    def _forget(self, at: int) -> None:
        del self.locked[at]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> PretendedCuda:
    cuda = PretendedCuda()
    monkeypatch.setattr(by_torch, "_torch", lambda: cuda)
    monkeypatch.setattr(by_torch, "_is_remote", lambda block: True)
    monkeypatch.setattr(by_torch, "LANE_BYTES", 1000)
    return cuda


def test_a_gpus_blocks_go_by_page_locked_memory_and_lanes(pretended: PretendedCuda) -> None:
    device = by_torch.TorchDevice("cuda:0")
    tensors = {"large": torch.arange(5000), "none": torch.zeros(0), "small": torch.arange(9)}
    kept: OnDevice[Any] = OnDevice(tensors, by_torch.TorchDevice("cpu"))
    moved, beside = travelled(kept, device)
    assert beside == 40_000 + 72
    assert all(torch.equal(moved[key], tensors[key]) for key in tensors)
    assert list(pretended.locked.values()) == [40_000 + 128]
    assert len(pretended.copies) == 41
    assert pretended.synchronised == ["cpu", "cpu", "cuda:0", "cuda:0"]  # around the copies out, and those in
    travelled(kept, device)
    assert len(pretended.locked) == 1  # the same memory again
    kept.free()
    assert not pretended.locked


def test_memory_that_cannot_be_locked_serves_all_the_same(pretended: PretendedCuda) -> None:
    pretended._lock = 1
    device = by_torch.TorchDevice("cpu")
    moved, _ = travelled(OnDevice({"large": torch.arange(5000)}, device), by_torch.TorchDevice("cuda:0"))
    assert moved["large"].tolist() == list(range(5000)) and not device.locked
    assert not pretended.pending  # what the agent computes next does not fail of it


def test_a_lane_that_forgets_a_piece_is_caught(pretended: PretendedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = by_torch._Lane.copy
    monkeypatch.setattr(by_torch._Lane, "copy", lambda lane, there, source: honest(lane, there[:-8], source[:-8]))
    with pytest.raises(AssertionError):
        test_a_gpus_blocks_go_by_page_locked_memory_and_lanes(pretended)


def test_a_gpu_that_is_full_says_so_and_other_faults_are_themselves(
    pretended: PretendedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*size: Any, **how: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 8 GiB\nmore")

    monkeypatch.setattr(PretendedCuda, "empty", full)
    device = by_torch.TorchDevice("cuda:0")
    with pytest.raises(Unavailable, match="cuda:0 has not enough memory free: CUDA out of memory"):
        device.load([np.zeros(9, np.uint8)])
    assert not pretended.cached

    for words in ("device-side assert triggered", "CUDA error: an illegal memory access was encountered"):

        def broken(*size: Any, words: str = words, **how: Any) -> Any:
            raise RuntimeError(words)

        monkeypatch.setattr(PretendedCuda, "empty", broken)
        with pytest.raises(RuntimeError, match=words):
            device.load([np.zeros(9, np.uint8)])


@on_a_gpu
def test_nothing_of_a_gpu_is_in_what_leaves_it_and_its_memory_is_given_back() -> None:
    device = pick("cuda:0")
    free = torch.cuda.mem_get_info(0)[0]
    kept: OnDevice[Any] = OnDevice({"w": torch.arange(1 << 24, device="cuda:0")}, device)
    raw = pickle.dumps(kept, 5)
    del kept
    torch.cuda.empty_cache()
    assert free - torch.cuda.mem_get_info(0)[0] < 1 << 26
    came = pickle.loads(raw)  # noqa: S301
    assert came.to(device) == "cuda:0" and int(came.value["w"].sum()) == (1 << 24) * ((1 << 24) - 1) // 2


@on_a_gpu
def test_page_locked_memory_is_that() -> None:
    device = by_torch.TorchDevice("cuda:0")
    tensor = torch.arange(1 << 20, device="cuda:0")
    _, arena = device.unload([tensor.untyped_storage()], [tensor.untyped_storage().nbytes()], None)
    assert device.locked and torch.from_numpy(arena).is_pinned()


@on_a_gpu
def test_what_goes_from_a_gpu_to_the_processor_computes_the_same_there() -> None:
    torch.manual_seed(1)
    net = Net().eval()
    rows = torch.rand(4, 32)
    expected = net(rows)
    device = pick("cuda:0")
    moved, _ = travelled(OnDevice(copy.deepcopy(net), device), pick("cpu"))
    assert torch.allclose(moved(rows), expected, atol=1e-5)

"""What agents keep on a device leaves it at a capture and is back after, by a GPU that is made up."""

import pickle
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform import Agent, Message
from agentplatform.runners.inline import Inline
from agents.device import OnDevice, choice, pick
from ledger.errors import Misuse, Unavailable
from tests.helpers.fake_cuda import FakeDevice, FakeTensor, Forgetful, Lazy, Splits, Stays

HERE, THERE = FakeDevice("cuda:0"), FakeDevice("cuda:1")


def model(device: FakeDevice) -> dict[str, Any]:
    """Two tensors that share memory, one that is alone, one without numbers, and what is no tensor."""
    shared, alone = device.tensor(range(2000)), device.tensor(range(7, 3000))
    window = FakeTensor(shared.block, (3,), offset=400)
    return {"shared": shared, "window": window, "layers": [alone, device.tensor([])], "rate": 0.5}


def travelled(kept: Any) -> tuple[Any, int]:
    """The same on another host, and how many bytes went beside the pickle."""
    buffers: list[pickle.PickleBuffer] = []
    raw = pickle.dumps(kept, 5, buffer_callback=buffers.append)
    sent = [bytearray(buffer.raw()) for buffer in buffers]
    return pickle.loads(raw, buffers=sent), sum(map(len, sent))  # noqa: S301


def journey(here: FakeDevice, there: FakeDevice) -> None:
    """Raises AssertionError or TypeError when a device loses something."""
    kept = OnDevice(model(here), here)
    assert not here.out and here.in_ == 0  # it lies there already
    came, beside = travelled(kept)
    assert beside == 2000 * 4 + 2993 * 4  # each block once, out of band
    assert set(here.out.values()) == {1}
    assert there.in_ == 0  # nothing goes to a device before it is asked for
    assert came.to(there) == there.name
    assert there.in_ == 3
    value = came.value
    assert value["shared"].block.device == value["layers"][0].block.device == there.name
    assert value["shared"].numbers() == list(range(2000)) and value["window"].numbers() == [100, 101, 102]
    assert value["layers"][0].numbers() == list(range(7, 3000)) and value["layers"][1].numbers() == []
    assert value["rate"] == 0.5
    value["window"].set(-1)
    assert value["shared"].numbers()[100] == -1  # what was shared still is
    assert kept.value["shared"].numbers()[100] == 100


def test_all_that_lies_on_a_device_is_on_the_other_one_after_a_move() -> None:
    journey(FakeDevice("cuda:0"), FakeDevice("cuda:1"))
    journey(FakeDevice("cuda:0"), FakeDevice("cpu"))


@pytest.mark.parametrize(
    ("here", "there"),
    [(FakeDevice, Forgetful), (Stays, FakeDevice), (Splits, FakeDevice), (Lazy, FakeDevice)],
)
def test_a_broken_device_is_caught(here: type[FakeDevice], there: type[FakeDevice]) -> None:
    with pytest.raises((AssertionError, TypeError)):
        journey(here("cuda:0"), there("cuda:1"))


def test_captures_lock_memory_once_and_free_gives_it_back() -> None:
    device = FakeDevice("cuda:0")
    kept = OnDevice(model(device), device)
    for _ in range(3):
        travelled(kept)
    assert device.arenas == 1 and set(device.out.values()) == {3}
    kept.free()
    travelled(kept)
    assert device.arenas == 2


def test_what_passes_through_a_host_is_not_copied_there() -> None:
    kept = OnDevice(model(HERE), HERE)
    came, _ = travelled(kept)
    HERE.out.clear()
    for ask in (lambda: came.value, lambda: came.device):
        with pytest.raises(Misuse, match="bring it to a device by `to`"):
            ask()
    further, beside = travelled(came)
    assert beside == 4993 * 4 and not HERE.out
    further.to(THERE)
    assert further.value["window"].numbers() == [100, 101, 102]


def test_without_room_it_stays_where_it_was_and_may_go_elsewhere() -> None:
    kept = OnDevice(model(HERE), HERE)
    small = FakeDevice("cuda:2", room=100)
    with pytest.raises(Unavailable, match="cuda:2 has not enough memory free"):
        kept.to(small)
    assert kept.device is HERE and kept.value["window"].numbers() == [100, 101, 102]
    came, _ = travelled(kept)
    with pytest.raises(Unavailable):
        came.to(small)
    assert came.to(FakeDevice("cpu")) == "cpu" and came.value["rate"] == 0.5


def test_what_lies_elsewhere_is_brought_when_it_is_first_kept() -> None:
    device = FakeDevice("cuda:1")
    kept = OnDevice(model(FakeDevice("cpu")), device)
    assert kept.value["window"].block.device == "cuda:1" and kept.value["window"].numbers() == [100, 101, 102]


HOSTS = {"here": FakeDevice("cuda:0"), "lab": FakeDevice("cuda:0"), "desk": FakeDevice("cpu")}


class Thinker(Agent):
    """Has weights on the device of its host."""

    def on_creation(self, init: Any) -> None:
        self.weights = OnDevice({"w": HOSTS[self.host].tensor(range(3000))}, HOSTS[self.host])

    def on_arrival(self, arrival: Any = None) -> None:
        print("computes on", self.weights.to(HOSTS[self.host]))

    on_activation = on_clone = on_arrival

    def handle_message(self, message: Message) -> Any:
        if message.kind == "add":
            self.weights.value["w"].set(self.weights.value["w"].numbers()[0] + message.body)
        return [self.weights.device.name, int(sum(self.weights.value["w"].numbers()))]


def test_an_agent_goes_on_with_its_weights_where_it_arrives_and_where_it_stays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    total = sum(range(3000))
    with Inline(refuse={"mars": "no air there"}) as inline:
        agent = inline.create(Thinker)
        assert agent.call("add", 5) == ["cuda:0", total + 5]
        with pytest.raises(Unavailable):
            agent.hop("mars")
        assert agent.call("add", 1) == ["cuda:0", total + 6]  # it did not leave the device for good
        agent.hop("lab")
        assert agent.call("add", 1) == ["cuda:0", total + 7]
        agent.hop("desk")
        assert agent.call("look") == ["cpu", total + 7]
        agent.deactivate()
        assert agent.call("add", 1) == ["cpu", total + 8]
        assert agent.clone().call("add", 1) == ["cpu", total + 9] and agent.call("look") == ["cpu", total + 8]
    assert capsys.readouterr().out == "computes on cuda:0\n" + "computes on cpu\n" * 3


class Careless(Agent):
    def on_creation(self, init: Any) -> None:
        self.tensor = HERE.tensor([1])

    def handle_message(self, message: Message) -> Any:
        return 0


def test_memory_of_a_device_cannot_leave_by_itself() -> None:
    with Inline() as inline, pytest.raises(Misuse, match=r"Careless.tensor: memory of cuda:0 cannot be pickled"):
        inline.create(Careless).hop("lab")


# Which device


@pytest.mark.parametrize("wish", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cuda:0000", 0, ["cpu"]])
def test_what_is_no_device_is_refused(wish: Any) -> None:
    with pytest.raises(Misuse, match="is no device: say"):
        pick(wish)


def test_without_pytorch_there_is_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert pick(None).name == pick("cpu").name == "cpu"
    with pytest.raises(Misuse, match=r"cuda:0 needs PyTorch: .* pip install '\.\[torch\]'"):
        pick("cuda:0")
    with pytest.raises(Misuse, match=r"pip install '\.\[torch\]'"):
        pick("cpu").put([1])


def with_gpus(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    def mem_get_info(index: int) -> tuple[int, int]:
        if not free[index]:
            raise RuntimeError("CUDA error: out of memory")
        return free[index], 99

    def init() -> None:
        raise RuntimeError("Error 304: OS call failed\nmore")

    cuda = SimpleNamespace(
        is_available=lambda: bool(free), device_count=lambda: len(free), mem_get_info=mem_get_info, init=init
    )
    monkeypatch.setattr(choice, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))


def test_the_gpu_with_the_most_free_memory_is_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 10, 30, 0)
    assert pick(None).name == pick("cuda").name == "cuda:1"
    assert pick("cuda:2").name == "cuda:2" and pick("cpu").name == "cpu"
    with pytest.raises(Unavailable, match=r"there is no cuda:3 here: .* this host has 3"):
        pick("cuda:3")


def test_without_a_gpu_the_wish_for_one_says_how_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch)
    assert pick(None).name == "cpu"
    for wish in ("cuda", "cuda:0"):
        with pytest.raises(Unavailable, match=r"no GPU here \(Error 304: OS call failed\).* \[workers\] gpu = true"):
            pick(wish)


def test_a_device_is_not_state() -> None:
    with pytest.raises(TypeError, match="the device cpu is this host's"):
        pickle.dumps(pick("cpu"))

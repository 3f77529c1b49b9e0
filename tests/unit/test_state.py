import threading
from pathlib import Path
from typing import Any

import numpy
import pytest

from agentplatform import Agent
from agentplatform.parcel import state as states
from agentplatform.parcel.state import capture, restore
from ledger.errors import Misuse
from tests.helpers.travellers import Bare


class Gallery(Agent):
    def __init__(self, size: int) -> None:
        self.faces = numpy.arange(size, dtype=numpy.float32)
        self.small = numpy.arange(3)
        self.me = self


class Careful(Agent):
    """Leaves at home what cannot travel."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value = 5

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        del state["lock"]
        return state

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.lock = threading.Lock()


class Trap(Agent):
    def __setstate__(self, state: Any) -> None:
        raise OSError("the trap shuts")


def test_arrays_travel_out_of_band_and_stay_writable() -> None:
    agent = restore(capture(Gallery(100_000)), Gallery)
    assert agent.faces.sum() == numpy.arange(100_000, dtype=numpy.float32).sum()  # type: ignore[attr-defined]
    agent.faces[0] = agent.small[0] = 7  # type: ignore[attr-defined]
    assert agent.me is agent  # type: ignore[attr-defined]


def test_a_large_array_is_not_copied_into_the_pickle() -> None:
    raw = capture(Gallery(100_000))
    assert 400_000 < len(raw) < 401_500
    _, pickled = numpy.frombuffer(raw[4:20], ">u8")
    assert pickled < 1_500


def test_getstate_and_setstate_are_honoured() -> None:
    agent = restore(capture(Careful()), Careful)
    assert agent.value == 5 and agent.lock.acquire()  # type: ignore[attr-defined]


def test_what_the_platform_keeps_does_not_travel() -> None:
    agent = Bare()
    agent._mae_place = threading.Lock()  # type: ignore[assignment]
    restored = restore(capture(agent), Bare)
    assert not hasattr(restored, "_mae_place")


@pytest.mark.parametrize(
    ("value", "words"),
    [(threading.Lock(), "cannot pickle '_thread.lock' object"), (lambda: 1, "Can't (pickle|get local)")],
)
def test_the_attribute_that_cannot_travel_is_named(value: Any, words: str) -> None:
    agent = Bare()
    agent.fine, agent.wrong = 1, {"deep": value}  # type: ignore[attr-defined]
    with pytest.raises(Misuse, match=rf"^Bare\.wrong: {words}"):
        capture(agent)


def test_of_a_file_each_array_is_used_where_it_is_mapped(tmp_path: Path) -> None:
    agent = Gallery(1 << 19)
    agent.more = [numpy.full(5001 + number, number, dtype=numpy.uint8) for number in range(3)]  # type: ignore[attr-defined]
    parts = states.for_file(states.parts(agent))
    with open(tmp_path / "state", "w+b") as file:
        freight = states.write(parts, file.fileno())
        frame = states.mapped(file.fileno(), freight.size)
    raw = (tmp_path / "state").read_bytes()
    assert len(raw) == freight.size == states.size(parts) and freight.count == 3
    assert all(freight.has(number, raw[number << 20 : (number + 1) << 20]) for number in range(3))
    assert not freight.has(1, raw[: 1 << 20])

    opened: Any = restore(frame, Gallery)
    assert numpy.array_equal(opened.faces, agent.faces) and [int(each[-1]) for each in opened.more] == [0, 1, 2]
    start = numpy.frombuffer(frame, numpy.uint8).ctypes.data
    for array in (opened.faces, *opened.more):
        assert array.ctypes.data % 64 == 0
        assert start <= array.ctypes.data < start + freight.size  # no copy
    opened.faces[0] = 7
    assert (tmp_path / "state").read_bytes() == raw  # what it changes stays its own


def test_a_frame_whose_parts_overlap_is_refused() -> None:
    raw = bytearray(capture(Gallery(100_000)))
    raw[20:28] = raw[4:12]  # the second part where the first is
    with pytest.raises(Misuse, match="the state is broken"):
        restore(bytes(raw), Gallery)


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: b"", lambda _: bytes(99)])
def test_a_broken_frame_is_refused(spoil: Any) -> None:
    with pytest.raises(Misuse, match="the state is broken"):
        restore(spoil(capture(Bare())), Bare)


def test_a_broken_pickle_says_what_it_met() -> None:
    raw = bytearray(capture(Bare()))
    raw[4 + 16 + 2] ^= 0xFF
    with pytest.raises(Misuse, match="the state cannot be opened here"):
        restore(bytes(raw), Bare)
    with pytest.raises(Misuse, match="OSError: the trap shuts"):
        restore(capture(Trap.__new__(Trap)), Trap)


def test_a_state_of_another_class_is_refused() -> None:
    with pytest.raises(Misuse, match="holds a Bare, not the Careful of the birth certificate"):
        restore(capture(Bare()), Careful)

"""The network that knows drivers, its training, and the agent around it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentplatform import Needs
from agentplatform.runners.inline import Inline
from agents import weights
from agents.driver_profiling import generate, trained
from agents.driver_profiling.can import cut
from ledger.errors import Misuse, PeerFault

torch = pytest.importorskip("torch")

from agents.device import pick  # noqa: E402
from agents.driver_profiling import model, train  # noqa: E402
from agents.driver_profiling.agent import DriverProfiling  # noqa: E402
from agents.serving import model_service  # noqa: E402

WINDOWS = cut(generate.drives(3, "A", 1, 200)[0].samples)
RANDOM = {"weights": "random", "seed": 1, "device": "cpu"}


class Saying(DriverProfiling):
    """Remembers what it says that it needs."""

    def require(self, needs: Needs, task_weight: float | None = None) -> None:
        self.said = [*getattr(self, "said", ()), needs.has]
        super().require(needs, task_weight)


@pytest.fixture
def inline(tmp_path: Path) -> Iterator[Inline]:
    with Inline(readable=(str(tmp_path),)) as inline:
        yield inline


def small(classes: int = 3) -> weights.Weights:
    torch.manual_seed(1)
    return model.arrays_of(model.DeepConvLSTM(classes, filters=4, units=6))


def test_the_network_is_the_papers() -> None:
    """Four convolutions of 5 samples leave 24 of 40; 64 filters of 15 signals go into two layers of 128 units."""
    shapes = {name: tuple(value.shape) for name, value in model.DeepConvLSTM(10).state_dict().items()}
    assert [shapes[f"convolutions.{number}.weight"] for number in range(4)] == [(64, 1, 5, 1), *[(64, 64, 5, 1)] * 3]
    assert shapes["recurrent.weight_ih_l0"] == (4 * 128, 64 * 15) and shapes["recurrent.weight_hh_l1"] == (4 * 128, 128)
    assert shapes["classes.weight"] == (10, 128)
    seen: list[Any] = []
    network = model.DeepConvLSTM(10)
    network.recurrent.register_forward_hook(lambda module, given, found: seen.append(tuple(given[0].shape)))
    network(torch.zeros(2, 40, 15))
    assert seen == [(2, 24, 960)]


def test_values_are_counted_from_what_was_learnt_and_outliers_are_clipped() -> None:
    fit = small() | {"mean": np.full(15, 100, np.float32), "deviation": np.full(15, 2, np.float32)}
    network = model.Network(fit, pick("cpu"))
    plain = model.Network(small(), pick("cpu"))
    near = np.random.default_rng(1).normal(0, 1, (4, 40, 15)).astype(np.float32)
    assert np.allclose(network(near * 2 + 100), plain(near), atol=1e-5)
    far = np.full((1, 40, 15), 3e38, np.float32)
    assert np.isfinite(network(far)).all() and np.allclose(network(far).sum(), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes.bias": None}, "'classes.bias' is missing"),
        ({"mean": np.zeros(16, np.float32)}, r"'mean' is \[16\], and must be \[15\]"),
        ({"deviation": np.zeros(15, np.float32)}, "must be above zero"),
        ({"convolutions.0.weight": np.zeros((4, 1, 3, 1))}, r"\[4, 1, 3, 1\], and must be \[4, 1, 5, 1\]"),
        ({"recurrent.weight_hh_l0": np.zeros(5)}, "'recurrent.weight_hh_l0' is .*5"),
        ({"extra": np.zeros(1)}, "has no 'extra'"),
    ],
)
def test_weights_of_another_shape_are_refused_and_named(change: dict[str, Any], words: str) -> None:
    given = {name: value for name, value in (small() | change).items() if value is not None}
    with pytest.raises(Misuse, match=f"these are no weights of DeepConvLSTM.*{words}"):
        model.Network(given, pick("cpu"))


def test_windows_are_answered_one_by_one_and_several_at_once(inline: Inline) -> None:
    agent = inline.create(DriverProfiling, RANDOM)
    several = agent.call("profile", {"windows": WINDOWS[:3].tobytes()})
    assert agent.call("drivers") == list("ABCDEFGHIJ")
    sure = model.Network(model.drawn(1, 10), pick("cpu"))(WINDOWS[:3])
    for number, found in enumerate(several["profiles"]):
        one = agent.call("profile", {"window": WINDOWS[number].tolist()})
        assert one["driver"] == found["driver"] == "ABCDEFGHIJ"[sure[number].argmax()]
        assert one["confidence"] == pytest.approx(sure[number].max(), abs=1e-5)
        assert one["weights"] == "random" and 0 < one["execution_ms"] < one["end_to_end_ms"]


def test_weights_move_with_the_agent_and_no_file_is_needed_there(inline: Inline, tmp_path: Path) -> None:
    trained.write(tmp_path / "mine.npz", small(), ["ada", "bob", "eve"])
    agent = inline.create(DriverProfiling, {"weights": "mine.npz", "device": "cpu"})
    before = agent.call("profile", {"window": WINDOWS[0].tobytes()})
    (tmp_path / "mine.npz").unlink()
    agent.hop("elsewhere")
    after = agent.call("profile", {"window": WINDOWS[0].tobytes()})
    assert (after["driver"], after["confidence"]) == (before["driver"], pytest.approx(before["confidence"]))
    assert after["weights"] == "mine.npz" and after["driver"] in ("ada", "bob", "eve")


def test_bad_windows_are_named_and_the_agent_lives(inline: Inline) -> None:
    agent = inline.create(DriverProfiling, RANDOM)
    bad = WINDOWS[:2].copy()
    bad[1, 3, 2] = np.nan
    for body, words in (
        ({"windows": bad.tobytes()}, "window 1, sample 3: Accelerator_Pedal_value is nan"),
        ({"window": WINDOWS[:2].tobytes()}, "one window was announced, and 2 came"),
        ({"windows": [WINDOWS[0].tolist()] * 65}, "65 windows are more than the 64"),
        ({}, "give a window, or windows"),
        ({"window": b"", "windows": b""}, "give a window, or windows"),
        ({"picture": b""}, "unknown field `picture`"),
    ):
        with pytest.raises(PeerFault, match=words):
            agent.call("profile", body)
    assert agent.call("profile", {"window": WINDOWS[0].tobytes()})["driver"]


def test_what_it_cannot_begin_with_is_said(inline: Inline, tmp_path: Path) -> None:
    trained.write(tmp_path / "few.npz", small(), ["ada"])
    weights.save(tmp_path / "nameless.npz", small())
    for init, words in (
        (None, r"no file 'driver_profiling.npz' here.*\"weights\": \"random\""),
        ({"weights": "few.npz"}, "few.npz knows 3 drivers and names 1"),
        ({"weights": "nameless.npz"}, "does not say whom it knows"),
        ({"weights": "random", "device": "abacus"}, "'abacus' is no device"),
        ({"weight": "random"}, "unknown field `weight`.*it takes weights, seed, device"),
    ):
        with pytest.raises(Misuse, match=words):
            inline.create(DriverProfiling, init)


@pytest.mark.parametrize(("device", "needed"), [("cpu", ("torch",)), (None, ("torch",)), ("cuda", ("torch", "gpu"))])
def test_hosts_without_its_library_or_the_gpu_it_wishes_for_do_not_take_it(
    inline: Inline, monkeypatch: pytest.MonkeyPatch, device: str | None, needed: tuple[str, ...]
) -> None:
    monkeypatch.setattr(model_service, "pick", lambda wish: pick("cpu"))
    agent = inline.create(Saying, {"weights": "random", "device": device})
    assert agent.agent.said == [needed]  # type: ignore[attr-defined]
    clone = agent.clone()
    assert clone.agent.said == [needed, needed], "it says so itself"  # type: ignore[attr-defined]


def test_the_last_drive_of_each_driver_is_held_out() -> None:
    drives = generate.drives(1, "AB", each=3, seconds=60)
    learn, held_out = train.split(drives)
    assert held_out == [drives[2], drives[5]] and learn == [drives[0], drives[1], drives[3], drives[4]]
    with pytest.raises(Misuse, match="driver 'A' has one drive alone"):
        train.split([drives[0], *drives[3:]])


@pytest.mark.slow
def test_drivers_are_learnt_and_with_mixed_up_names_they_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--out", str(tmp_path / "trained.npz")]) == 0
    assert "generated data, which say nothing of people" in capsys.readouterr().out
    learnt, drivers = trained.read(tmp_path / "trained.npz")
    _, held_out = train.split(generate.drives(1))
    good = train.accuracy(learnt, held_out, drivers)
    for drive in held_out:
        drive.driver = drivers[(drivers.index(drive.driver) + 1) % len(drivers)]
    wrong = train.accuracy(learnt, held_out, drivers)
    assert good > 0.6 > 0.2 > wrong, (good, wrong)


def test_whole_numbers_are_weights_too_and_what_is_no_number_is_no_answer() -> None:
    drawn = model.drawn(1, 3)
    whole = {name: array.round().astype(np.int64) for name, array in drawn.items()} | {"deviation": drawn["deviation"]}
    assert model.Network(whole, pick("cpu"))(WINDOWS[:1]).shape == (1, 3)
    endless = drawn | {"classes.bias": np.full(3, 3.4e38, np.float32), "classes.weight": np.full((3, 128), 3e38, "f4")}
    endless["recurrent.bias_ih_l1"] = np.full(512, 100.0, np.float32)  # all of the last layer's units at their most
    with pytest.raises(Misuse, match="gives what is no number"):
        model.Network(endless, pick("cpu"))(WINDOWS[:1])

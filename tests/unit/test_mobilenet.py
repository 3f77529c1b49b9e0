"""MobileNetV2 as it is defined here: its size, its names, its weights."""

from pathlib import Path

import numpy as np
import pytest

from agentplatform.runners.inline import Inline
from agents import weights
from ledger.errors import Misuse

torch = pytest.importorskip("torch")
pytest.importorskip("cv2")

from agents.device import pick  # noqa: E402
from agents.image_recognition import mobilenet  # noqa: E402
from agents.image_recognition.agent import ImageRecognition  # noqa: E402

PIXELS = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), np.uint8)


def test_it_has_the_papers_size_and_shapes() -> None:
    network = mobilenet.MobileNetV2().eval()
    assert sum(each.numel() for each in network.parameters()) == 3_504_872
    shapes: list[tuple[int, ...]] = []
    for layer in network.features:
        layer.register_forward_hook(lambda module, given, found: shapes.append(tuple(found.shape[1:])))
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    sides = (112, 112, 56, 56, 28, 28, 28, 14, 14, 14, 14, 14, 14, 14, 7, 7, 7, 7, 7)
    channels = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320, 1280)
    assert shapes == [(channel, side, side) for channel, side in zip(channels, sides, strict=True)]


def test_its_names_are_those_of_published_weights() -> None:
    state = mobilenet.MobileNetV2(classes=10).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert len(shapes) == 314 and shapes["features.0.0.weight"] == (32, 3, 3, 3)
    assert shapes["features.1.conv.0.0.weight"] == (32, 1, 3, 3)  # the first block does not widen
    assert shapes["features.1.conv.1.weight"] == (16, 32, 1, 1) and "features.1.conv.2.running_var" in shapes
    for block in range(2, 18):
        parts = ("0.0.weight", "0.1.running_mean", "1.0.weight", "1.1.bias", "2.weight", "3.num_batches_tracked")
        assert all(f"features.{block}.conv.{part}" in shapes for part in parts)
    assert shapes["features.17.conv.2.weight"] == (320, 960, 1, 1)
    assert shapes["features.18.0.weight"] == (1280, 320, 1, 1)
    assert shapes["classifier.1.weight"] == (10, 1280) and shapes["classifier.1.bias"] == (10,)


def test_weights_from_a_file_give_the_same_answers(tmp_path: Path) -> None:
    drawn = mobilenet.drawn(3, classes=10)
    wanted = mobilenet.Network(drawn, pick("cpu"))(PIXELS)
    assert wanted.shape == (3, 10) and np.allclose(wanted.sum(1), 1, atol=1e-5)
    torch.save({name: torch.from_numpy(value) for name, value in drawn.items()}, tmp_path / "weights.pth")
    assert np.allclose(
        mobilenet.Network(weights.load(tmp_path / "weights.pth"), pick("cpu"))(PIXELS), wanted, atol=1e-6
    )
    assert not np.allclose(mobilenet.Network(mobilenet.drawn(4, classes=10), pick("cpu"))(PIXELS), wanted, atol=1e-6)


def test_weights_that_do_not_fit_are_named() -> None:
    drawn = mobilenet.drawn(3, classes=10)
    for change, words in (
        ({"classifier.1.weight": np.zeros((11, 1280), np.float32)}, r"\[11, 1280\], and must be \[10, 1280\]"),
        ({"features.0.0.weight": np.zeros((32, 1, 3, 3), np.float32)}, r"\[32, 1, 3, 3\], and must be"),
        ({"classifier.1.bias": np.zeros((2, 5), np.float32)}, "'classifier.1.bias' is missing, or no list"),
        ({"fc.weight": np.zeros(1)}, "has no 'fc.weight'"),
    ):
        with pytest.raises(Misuse, match=f"no weights of MobileNetV2.*{words}"):
            mobilenet.Network(drawn | change, pick("cpu"))


def test_random_weights_are_served_only_when_asked_and_say_so() -> None:
    with Inline() as inline:
        agent = inline.create(ImageRecognition, {"weights": "random", "seed": 5, "device": "cpu"})
        asked = {"pixels": [PIXELS[0].tobytes()], "top": 1}
        before = agent.call("classify", asked)
        assert before["weights"] == "random" and before["pictures"][0]["objects"][0]["name"] is None
        agent.hop("elsewhere")
        assert agent.call("classify", asked)["pictures"] == before["pictures"]

"""The picture service: what the models see, what classes are called, models from ONNX files, and the agent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
cv2 = pytest.importorskip("cv2")

from agentplatform.runners.inline import Inline  # noqa: E402
from agents.image_recognition import agent as agents  # noqa: E402
from agents.image_recognition import labels, onnx_engine  # noqa: E402
from agents.image_recognition.agent import ImageRecognition  # noqa: E402
from agents.image_recognition.preprocess import given, middle, normalised, pixels_of  # noqa: E402
from ledger.errors import Misuse, PeerFault  # noqa: E402
from tests.helpers.tiny_models import SHAPE, tiny_onnx  # noqa: E402

# A score for each of four classes: how red, how green, how blue, and what is against all of them.
WEIGHTS = np.array([[9, 0, 0, -9], [0, 9, 0, -9], [0, 0, 9, -9]], np.float32)
NAMES = ["red", "green", "blue", "dark"]


def plain(colour: tuple[int, int, int], width: int = 300, height: int = 280, kind: str = ".png") -> bytes:
    """A file of one colour: red, green, blue."""
    picture = np.full((height, width, 3), colour[::-1], np.uint8)
    return cv2.imencode(kind, picture)[1].tobytes()


@pytest.fixture
def inline(tmp_path: Path) -> Iterator[Inline]:
    with Inline(readable=(str(tmp_path),)) as inline:
        yield inline


@pytest.fixture
def service(inline: Inline, tmp_path: Path) -> Any:
    tiny_onnx(tmp_path / "tiny.onnx", WEIGHTS)
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    return inline.create(ImageRecognition, {"weights": "tiny.onnx", "labels": "names.txt"})


# What the models see


def test_colours_are_counted_in_deviations_from_imagenets_mean() -> None:
    """By hand: (255/255 - 0.485) / 0.229, (0 - 0.456) / 0.224, (127/255 - 0.406) / 0.225."""
    seen = normalised(pixels_of(plain((255, 0, 127)))[np.newaxis])
    assert seen.shape == (1, 3, 224, 224) and seen.dtype == np.float32 and seen.flags.c_contiguous
    for plane, wanted in zip(seen[0], (2.248908, -2.035714, 0.409150), strict=True):
        assert np.allclose(plane, wanted, atol=1e-4)


def test_the_middle_is_cut_out_of_the_shorter_side_at_256() -> None:
    """512 x 256, left half black and right half white: of 512 columns those from 144 to 368 are left, and the edge at
    256 is at 112 of them."""
    picture = np.zeros((256, 512, 3), np.uint8)
    picture[:, 256:] = 255
    seen = middle(picture)
    assert seen.shape == (224, 224, 3)
    assert (seen[:, :112] == 0).all() and (seen[:, 112:] == 255).all()
    picture = np.zeros((1024, 512, 3), np.uint8)  # the same upright, and at twice the size
    picture[512:] = 255
    seen = middle(picture)
    assert (seen[:112] == 0).all() and (seen[112:] == 255).all()


def test_small_pictures_are_enlarged_and_strips_refused() -> None:
    assert middle(np.full((1, 1, 3), 7, np.uint8)).tolist() == np.full((224, 224, 3), 7).tolist()
    with pytest.raises(Misuse, match="2000 x 10 pixels is too narrow"):
        middle(np.zeros((10, 2000, 3), np.uint8))


def test_pixels_that_are_ready_are_taken_as_they_are() -> None:
    pixels = np.arange(224 * 224 * 3, dtype=np.uint32).astype(np.uint8).reshape(224, 224, 3)
    assert np.array_equal(given(pixels.tobytes()), pixels)
    with pytest.raises(Misuse, match="150528, and 3 came"):
        given(b"abc")


# What classes are called


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "red\n green \nblue\ndark\n\n"),
        ("names.txt", "\ufeffred\r\ngreen\r\nblue\r\ndark"),
        ("names.json", json.dumps(NAMES)),
        ("names.json", json.dumps({str(at): [f"n0{at}", name] for at, name in reversed(list(enumerate(NAMES)))})),
    ],
)
def test_labels_are_read_from_text_and_json(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert labels.read(tmp_path / name) == NAMES


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("names.txt", b"", "names nothing"),
        ("names.txt", b"red\n\nblue", "the label of class 1 is ''"),
        ("names.txt", b"\xff\xfe", "cannot be read"),
        ("names.txt", b"x" * 201, "1 to 200 characters"),
        ("names.json", b"{", "is no JSON"),
        ("names.json", b"[" * 100_000, "is no JSON"),
        ("names.json", b'{"0": "red", "2": "blue"}', "no class 1"),
        ("names.json", b"[1, 2]", "no list of labels"),
        ("names.json", b"[]", "no list of labels"),
        ("names.json", b"3", "no list of labels"),
    ],
)
def test_what_is_no_list_of_labels_is_named(tmp_path: Path, name: str, raw: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(Misuse, match=rf"{name}.*{words}"):
        labels.read(tmp_path / name)


# Models from ONNX files


def test_a_model_answers_probabilities_with_or_without_a_softmax_of_its_own(tmp_path: Path) -> None:
    pixels = np.stack([pixels_of(plain((255, 0, 0))), pixels_of(plain((0, 0, 255)))])
    scores = normalised(pixels).mean((2, 3), dtype=np.float64) @ WEIGHTS
    wanted = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    for softmax in (False, True):
        file = tiny_onnx(tmp_path / "tiny.onnx", WEIGHTS, softmax=softmax)
        assert np.allclose(onnx_engine.Network(file.read_bytes())(pixels), wanted, atol=1e-4)
    alone = tiny_onnx(tmp_path / "alone.onnx", WEIGHTS, (1, *SHAPE[1:]))
    assert np.allclose(onnx_engine.Network(alone.read_bytes())(pixels), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": ("batch", 1, 224, 224), "weights": WEIGHTS[:1]}, r"\['batch', 1, 224, 224\]: it must take"),
        ({"shape": ("batch", 224, 224, 3), "weights": np.zeros((224, 4))}, "it must take"),
        ({"shape": ("batch", 3, 32, 32)}, "it must take"),
        ({"shape": (4, 3, 224, 224)}, "takes 4 pictures at once"),
        ({"inputs": 2}, "takes 2 inputs"),
        ({"weights": np.full((3, 4), np.nan)}, "must give finite scores"),
    ],
)
def test_a_model_of_another_shape_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    file = tiny_onnx(tmp_path / "other.onnx", **({"weights": WEIGHTS} | change))
    with pytest.raises(Misuse, match=words):
        onnx_engine.Network(file.read_bytes())


# The agent


def test_pictures_are_named_alone_and_together(service: Any) -> None:
    one = service.call("classify", {"picture": plain((250, 10, 10)), "top": 2})
    assert len(one["objects"]) == 2
    assert one["objects"][0] | {"probability": 1} == {"id": 0, "name": "red", "probability": 1}
    assert one["objects"][0]["probability"] > 0.9
    assert one["weights"] == "tiny.onnx" and 0 < one["execution_ms"] < one["end_to_end_ms"]
    colours = [(10, 250, 10), (10, 10, 250), (0, 0, 0)]
    several = service.call("classify", {"pictures": [plain(colour, kind=".jpg") for colour in colours], "top": 1})
    assert [each["objects"][0]["name"] for each in several["pictures"]] == ["green", "blue", "dark"]
    ready = [pixels_of(plain(colour)).tobytes() for colour in colours]
    assert [each["objects"][0]["id"] for each in service.call("classify", {"pixels": ready})["pictures"]] == [1, 2, 3]


def test_the_model_and_its_labels_move_with_the_agent(service: Any, tmp_path: Path) -> None:
    for file in tmp_path.iterdir():
        file.unlink()
    service.hop("elsewhere")
    assert service.call("classify", {"picture": plain((10, 10, 250))})["objects"][0]["name"] == "blue"


def test_bad_pictures_are_refused_and_the_agent_lives(service: Any) -> None:
    huge = bytearray(plain((1, 2, 3)))
    huge[16:24] = (20_000).to_bytes(4, "big") * 2
    for body, words in (
        ({"picture": b"no picture"}, "10 bytes are no PNG or JPEG"),
        ({"picture": bytes(huge)}, "20000 x 20000 pixels is not taken"),
        ({"picture": plain((1, 2, 3))[:-40]}, "is damaged|no PNG"),
        ({"pictures": [plain((1, 2, 3)), b""]}, "0 bytes are no PNG or JPEG"),
        ({"pictures": []}, "length >= 1"),
        ({"pictures": [b""] * 9}, "length <= 8"),
        ({"pixels": [b"abc"]}, "150528, and 3 came"),
        ({"picture": b"", "top": 0}, ">= 1"),
        ({}, "give a picture, pictures, or pixels"),
    ):
        with pytest.raises(PeerFault, match=words):
            service.call("classify", body)
    assert service.call("classify", {"picture": plain((10, 10, 250))})["objects"][0]["name"] == "blue"


def test_one_bad_picture_spoils_no_other_request_of_its_batch(service: Any) -> None:
    works = [agents.Classify(picture=b"none"), agents.Classify(picture=plain((250, 0, 0)), top=1)]
    bad, good = service.agent.compute(works)
    assert isinstance(bad, Misuse) and good["objects"][0]["name"] == "red"
    (alone,) = service.agent.compute(works[:1])
    assert isinstance(alone, Misuse)


def test_hosts_without_the_library_of_its_model_do_not_take_it(service: Any) -> None:
    assert service.agent.libraries() == ("cv2", "onnxruntime")
    service.agent.weights = {}
    assert service.agent.libraries() == ("cv2", "torch")


def test_what_it_cannot_begin_with_is_said(inline: Inline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_onnx(tmp_path / "tiny.onnx", WEIGHTS)
    (tmp_path / "few.txt").write_text("red\ngreen\n")
    (tmp_path / "bad.onnx").write_bytes(b"no model at all")
    for init, words in (
        (None, r"no file 'mobilenet_v2.pth' here.*\"weights\": \"random\", \"seed\": 1"),
        ({"weights": "tiny.onnx", "labels": "few.txt"}, "4 classes, and 2 labels were given"),
        ({"weights": "tiny.onnx", "labels": "none.txt"}, "no file 'none.txt'"),
        ({"weights": "bad.onnx"}, "ONNX Runtime cannot open the model"),
        ({"weights": "few.txt"}, "no file of weights that is known"),
        ({"seed": "one"}, "Expected `int`.*it takes weights, seed, device, labels"),
    ):
        with pytest.raises(Misuse, match=words):
            inline.create(ImageRecognition, init)
    monkeypatch.setattr(agents, "MAX_ONNX_BYTES", 10)
    with pytest.raises(Misuse, match="of at most 10"):
        inline.create(ImageRecognition, {"weights": "tiny.onnx"})

"""The engines behind the port, on tiny models with the right inputs and outputs, and on what is none."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from agentplatform.runners.inline import Inline, InlineAgent
from agents.face_recognition import engines as engines_module
from agents.face_recognition.agent import FaceRecognition
from agents.face_recognition.aligned import SIDE, aligned
from agents.face_recognition.choice import Choice
from agents.face_recognition.engines import ATTRIBUTES, DETECTORS, RECOGNISERS, Engines
from agents.face_recognition.port import Face
from agents.face_recognition.weights import Refused, Weights, read
from agents.pictures import Picture
from ledger.errors import Misuse, PeerFault
from tests.helpers import face_models as models

Made = Callable[..., str]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Saves a model; its path."""
    numbers = count()
    return lambda model, name=None: models.save(tmp_path, name or f"model{next(numbers)}.onnx", model)


def reader(name: str) -> Weights:
    return read(name, Path(name), None, {})


def engines(**choice: Any) -> Engines:
    return Engines(msgspec.convert(choice, Choice), reader)


def lights(*places: tuple[int, int], size: tuple[int, int] = (160, 208)) -> Picture:
    """Dark, with a bright square of 8 x 8 pixels at each place (column, row): a face, to the tiny detector."""
    picture = np.zeros((*size, 3), np.uint8)
    for x, y in places:
        picture[y : y + 8, x : x + 8] = (255, 255, 255)
    return picture


def png(picture: Picture) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def yunet(made: Made, **fault: str) -> dict[str, Any]:
    return {"kind": "yunet", "weights": made(models.yunet(**fault))}


def test_every_choice_has_its_engine() -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(Choice)}
    for name, table in (("detector", DETECTORS), ("recogniser", RECOGNISERS), ("attributes", ATTRIBUTES)):
        assert set(fields[name].__args__) - {type(None)} == set(table)


def test_yunet_finds_faces_where_they_are(made: Made) -> None:
    found, more = engines(detector=yunet(made), recogniser={"kind": "lbph"}).look(lights((80, 40), (16, 96)))
    assert more == 0
    # The tiny model puts each box around the upper left corner of its cell.
    assert sorted(each.face.box for each in found) == [(12, 92, 8, 8), (76, 36, 8, 8)]
    assert all(len(each.face.landmarks) == 5 for each in found)


def test_yunet_finds_them_in_a_large_picture_too(made: Made) -> None:
    small = lights((80, 40), size=(320, 1280))
    large = np.asarray(cv2.resize(small, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST), np.uint8)
    ((seen,), _) = engines(detector=yunet(made)).look(large)
    assert seen.face.box == (152, 72, 16, 16)


@pytest.mark.parametrize("kind", ["sface", "onnx"])
def test_a_face_is_known_again_and_another_one_is_not(made: Made, kind: str) -> None:
    both = engines(detector=yunet(made), recogniser={"kind": kind, "weights": made(models.embedding())})
    rng = np.random.default_rng(5)
    one, other = (rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8) for _ in range(2))
    other[:, : SIDE // 2] = 255
    face = Face((0, 0, SIDE, SIDE))
    first, second = (both.recogniser.describe(picture, face) for picture in (one, other))
    assert np.linalg.norm(first) == pytest.approx(1)
    known = np.stack([second, first])
    assert both.recogniser.distances(known, first) == pytest.approx([1 - float(first @ second), 0], abs=1e-6)
    assert 1 - float(first @ second) > 0.01
    assert both.recogniser.name.startswith(f"{kind} ") and len(both.recogniser.name) > 64


def test_the_order_of_colours_and_the_scale_are_as_was_said(made: Made) -> None:
    weights = made(models.embedding())
    blue = np.zeros((SIDE, SIDE, 3), np.uint8)
    blue[..., 0] = 200
    ways = [{"order": "rgb"}, {"order": "bgr"}, {"order": "bgr", "mean": 0.0}]
    found = [
        engines(recogniser={"kind": "onnx", "weights": weights, "inputs": way}).recogniser.describe(
            blue, Face((0, 0, SIDE, SIDE))
        )
        for way in ways
    ]
    red = np.ascontiguousarray(blue[..., ::-1])
    swapped = engines(recogniser={"kind": "onnx", "weights": weights, "inputs": ways[1]}).recogniser
    assert np.allclose(found[0], swapped.describe(red, Face((0, 0, SIDE, SIDE))))
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[1], found[2])


def test_a_face_is_turned_upright_by_its_landmarks() -> None:
    upright = np.zeros((SIDE, SIDE, 3), np.uint8)
    points = ((38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2))
    for x, y in points:
        cv2.circle(upright, (round(x), round(y)), 4, (255, 255, 255), cv2.FILLED)
    turn = cv2.getRotationMatrix2D((56, 56), 30, 0.8)
    turned = np.asarray(cv2.warpAffine(upright, turn, (SIDE, SIDE)), np.uint8)
    landmarks = tuple((float(x), float(y)) for x, y in (turn @ np.array([(*p, 1) for p in points]).T).T)
    again = aligned(turned, Face((0, 0, SIDE, SIDE), landmarks))
    plain = aligned(turned, Face((0, 0, SIDE, SIDE)))
    off, off_without = (float(np.abs(each.astype(int) - upright).mean()) for each in (again, plain))
    assert off < 3 < off_without


def test_attributes_are_told_in_words_and_numbers(made: Made) -> None:
    outputs = {"age": None, "expression": ["cross", "calm", "glad"]}
    wanted = {"kind": "onnx", "weights": made(models.attributes()), "outputs": outputs}
    ((seen,), _) = engines(detector=yunet(made), attributes=wanted).look(lights((80, 40)))
    assert seen.attributes is not None and seen.attributes["expression"] == "glad"
    assert 29 <= seen.attributes["age"] <= 31


def broken(made: Made, folder: Path) -> list[tuple[dict[str, Any], str]]:
    """What somebody may name, and what he is told."""
    junk, empty = folder / "junk.onnx", folder / "empty.onnx"
    junk.write_bytes(b"no model at all" * 99)
    empty.write_bytes(b"")
    grey = made(models.embedding(colours=1), "grey.onnx")
    wide = made(models.embedding(fault="wide"), "wide.onnx")
    outside = made(models.outside(folder), "outside.onnx")
    own = made(models.of_own_operation(), "own.onnx")
    ages = made(models.attributes(), "ages.onnx")
    return [
        *(
            ({place: {"kind": kind, "weights": str(junk)}}, r"junk\.onnx is no .* model that .* run")
            for place, kind in (("detector", "yunet"), ("recogniser", "sface"), ("recogniser", "onnx"))
        ),
        *(
            ({place: {"kind": kind, "weights": outside}}, "outside.onnx has its numbers in further files")
            for place, kind in (("detector", "yunet"), ("recogniser", "sface"), ("recogniser", "onnx"))
        ),
        ({"recogniser": {"kind": "onnx", "weights": str(empty)}}, "empty.onnx have 0 bytes"),
        ({"recogniser": {"kind": "onnx", "weights": str(folder)}}, "cannot be read"),
        ({"recogniser": {"kind": "onnx", "weights": str(folder / "none.onnx")}}, "none.onnx cannot be read"),
        ({"recogniser": {"kind": "onnx", "weights": own}}, "own.onnx is no ONNX model.*Spy"),
        ({"recogniser": {"kind": "onnx", "weights": grey}}, r"does not take a face.*\[1, 1, 112, 112\]"),
        ({"recogniser": {"kind": "onnx", "weights": wide}}, "1 x D numbers"),
        ({"recogniser": {"kind": "sface", "weights": wide}}, "1 x D numbers"),
        ({"recogniser": {"kind": "onnx", "weights": ages}}, "from 2 to 4096"),
        ({"recogniser": {"kind": "sface", "weights": grey}}, "is no SFace model"),
        ({"detector": {"kind": "yunet", "weights": ages}}, "is no YuNet model"),
        ({"attributes": {"kind": "onnx", "weights": ages, "outputs": {"height": None}}}, "no output 'height'.*age"),
        ({"attributes": {"kind": "onnx", "weights": ages, "outputs": {"age": ["a", "b"]}}}, "'age' of 2 numbers"),
    ]


def test_what_is_no_model_is_said_in_words(made: Made, tmp_path: Path) -> None:
    for choice, words in broken(made, tmp_path):
        with pytest.raises(Misuse, match=words):
            engines(**choice)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"detector": {"kind": "guess"}}, "guess"),
        ({"detector": {"kind": "yunet"}}, "weights"),
        ({"recogniser": {"kind": "lbph", "weights": "x"}}, "weights"),
        ({"models": 1}, "models"),
        ({"detector": {"kind": "yunet", "weights": "x", "score": 2.0}}, "score"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_at_creation(choice: dict[str, Any], words: str) -> None:
    with Inline() as inline, pytest.raises(Misuse, match=rf"starts with nothing, or with any of.*{words}"):
        inline.create(FaceRecognition, choice)


def test_numbers_that_are_none_are_told_and_the_agent_lives(made: Made) -> None:
    picture = png(lights((80, 40)))
    outputs = {"outputs": {"age": None}}
    for choice, words in [
        ({"detector": yunet(made, fault="nan")}, "boxes that are no numbers"),
        ({"recogniser": {"kind": "onnx", "weights": made(models.embedding(fault="nan"))}}, "no numbers"),
        ({"recogniser": {"kind": "sface", "weights": made(models.embedding(fault="nan"))}}, "no numbers"),
        ({"recogniser": {"kind": "onnx", "weights": made(models.embedding(fault="zero"))}}, "by zeros"),
        ({"attributes": {"kind": "onnx", "weights": made(models.attributes(fault="nan")), **outputs}}, "as 'age'"),
    ]:
        with Inline() as inline:
            agent = inline.create(FaceRecognition, {"detector": yunet(made), **choice} | choice)
            for kind, body in (("recognise", {}), ("enrol", {"label": "a"})):
                with pytest.raises(PeerFault, match=words):
                    agent.call(kind, {"picture": picture, **body})
            assert agent.call("people") == {}


def test_a_picture_with_very_many_faces_is_answered_with_the_largest(made: Made) -> None:
    # A chequered wall: every second cell of 8 x 8 is a face to the tiny model, 10,000 in all.
    cells = np.add.outer(np.arange(112), np.arange(160)) % 2 == 0
    wall = np.repeat(np.kron(cells, np.ones((8, 8)))[..., None] * 255, 3, axis=2).astype(np.uint8)
    found, more = engines(detector=yunet(made)).look(wall)
    assert len(found) == engines_module.MAX_FACES
    assert more + len(found) >= 5000 - 1  # as many as OpenCV itself looks at
    with Inline() as inline:
        agent = inline.create(FaceRecognition, {"detector": yunet(made)})
        answer = agent.call("recognise", {"picture": png(wall)})
        assert (len(answer["faces"]), answer["more"]) == (engines_module.MAX_FACES, more)


class Picky(FaceRecognition):
    """Some hosts have no weights, or others."""

    def shared_file(self, name: str) -> Path:
        path = super().shared_file(name)
        if self.host == "bare":
            raise Misuse(f"there is no file {name!r} here that agents may read; looked at: nowhere")
        return path.with_name("other.onnx") if self.host == "elsewise" else path


def with_weights(inline: Inline, made: Made) -> InlineAgent:
    made(models.embedding(numbers=9), "other.onnx")
    recogniser = {"kind": "onnx", "weights": made(models.embedding())}
    agent = inline.create(Picky, {"detector": yunet(made), "recogniser": recogniser})
    assert agent.call("enrol", {"label": "ada", "picture": png(lights((80, 40)))}) == {"label": "ada", "faces": 1}
    return agent


def label(agent: InlineAgent) -> Any:
    return agent.call("recognise", {"picture": png(lights((80, 40)))})["faces"][0]["label"]


def test_models_are_opened_again_where_it_goes(made: Made) -> None:
    with Inline() as inline:
        agent = with_weights(inline, made)
        agent.hop("there")
        assert (agent.host, label(agent)) == ("there", "ada")


@pytest.mark.parametrize(("host", "words"), [("bare", "no file"), ("elsewise", "another file")])
def test_where_its_weights_are_not_it_goes_back(
    made: Made, host: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Inline() as inline:
        agent = with_weights(inline, made)
        agent.hop(host)
        inline.settle()
        assert (agent.host, agent.epoch) == ("here", 3)
        assert label(agent) == "ada"
    assert f"it cannot work on {host}: " in (said := capsys.readouterr().out) and words in said


def test_other_weights_are_read_once_and_again_when_they_have_changed(made: Made) -> None:
    path = Path(made(models.embedding()))
    right, model = reader(str(path)), path.read_bytes()
    refused: Refused = {}

    def refusal() -> str:
        with pytest.raises(Misuse, match="another file") as error:
            read("model", path, right.digest, refused)
        return str(error.value)

    path.write_bytes(model[::-1])
    first = refusal()
    path.write_bytes(model)  # unseen by its times
    os.utime(path, ns=(0, refused["model"][0][-1]))
    assert refusal() == first, "it was read again"
    os.utime(path)
    assert read("model", path, right.digest, refused) == ("model", model, right.digest)


def test_who_cannot_go_back_says_why_to_all_who_ask(made: Made) -> None:
    with Inline() as inline:
        agent = with_weights(inline, made)
        agent.hop("bare")
        inline.settle()
        moved: Any = agent.agent
        moved.fled = True  # as one that came back, and finds the weights gone there too
        agent.hop("bare")
        inline.settle()
        assert agent.host == "bare"
        for kind, body in (("people", None), ("recognise", {"picture": b"x"}), ("status", None)):
            with pytest.raises(PeerFault, match="there is no file"):
                agent.call(kind, body)
        agent.hop("here")
        assert label(agent) == "ada"

"""Face recognition as a service: what an enrolment writes, what waits, what is refused, and how long it took."""

import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from skimage.data import lfw_subset

from agentplatform.agent import Agent
from agentplatform.runners.checkpoints import Pieces
from agentplatform.runners.inline import Inline, InlineAgent
from agents.face_recognition.agent import FaceRecognition
from agents.face_recognition.cascade import find_faces
from agents.face_recognition.engines import Engines
from agents.face_recognition.gallery import THUMBNAIL_SIDE
from ledger.errors import PeerFault, PlatformError

PEOPLE = 6


@cache
def faces() -> list[int]:
    """Those in which the detector finds one."""
    return [number for number in range(PEOPLE + 8) if find_faces(cv2.imdecode(_shot(number), cv2.IMREAD_GRAYSCALE))]


def portrait(number: int) -> bytes:
    return _shot(faces()[number]).tobytes()


def _shot(number: int) -> "np.ndarray[Any, Any]":
    face = cv2.resize((lfw_subset()[number] * 255).astype(np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".png", cv2.copyMakeBorder(face, 60, 60, 60, 60, cv2.BORDER_REPLICATE))[1]


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline(host="north") as inline:
        yield inline


def knows(inline: Inline, people: int) -> InlineAgent:
    agent = inline.create(FaceRecognition)
    for number in range(people):
        agent.call("enrol", {"label": f"p{number}", "picture": portrait(number)})
    return agent


def written(pieces: Pieces, agent: Agent) -> int:
    """Bytes of the pieces that a host does not have yet."""
    captured = pieces.capture(agent)
    assert captured is not None
    return sum(len(piece) for _, piece in captured.fresh)


def test_an_enrolment_writes_one_face_and_not_the_others(inline: Inline) -> None:
    agent, pieces = knows(inline, PEOPLE), Pieces()
    all_of_them = written(pieces, agent.agent)
    agent.call("enrol", {"label": "new", "picture": portrait(PEOPLE)})
    one = written(pieces, agent.agent)
    assert all_of_them > PEOPLE * 4096  # each is a piece by itself
    assert 4096 < one < 2 * all_of_them / PEOPLE
    state = written(Pieces(), agent.agent)
    assert state < (PEOPLE + 1) * 8192  # a tenth of what float32 histograms take


def test_one_that_keeps_its_gallery_as_one_value_would_be_noticed(inline: Inline) -> None:
    agent, pieces = knows(inline, PEOPLE), Pieces()
    kept: Any = agent.agent
    together = {key: kept.data.get(key) for key in kept.data.list()}
    kept.gallery = np.frombuffer(repr(together).encode(), np.uint8).copy()  # the broken twin
    before = written(pieces, kept)
    kept.gallery = np.append(kept.gallery, np.uint8(0))
    assert written(pieces, kept) > before / 4


def test_thumbnails_are_small_pictures_of_the_face(inline: Inline) -> None:
    agent = knows(inline, 2)
    agent.hop("east")
    told = agent.call("people", {"thumbnails": True})
    assert list(told) == ["p0", "p1"]
    for (small,) in told.values():
        picture = cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture is not None and max(picture.shape) == THUMBNAIL_SIDE
        assert len(small) < 4096
    agent.call("forget", {"label": "p0"})
    assert list(agent.call("people", {"thumbnails": True})) == ["p1"]


class Gate:
    """Holds `look` of other threads than the agents' own, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        look = Engines.look

        def held(engines: Engines, picture: Any) -> Any:
            if threading.current_thread().name.startswith("computing"):
                self.entered.set()
                assert self.open.wait(10)
            return look(engines, picture)

        monkeypatch.setattr(Engines, "look", held)


def asked(agent: InlineAgent, picture: bytes) -> tuple[threading.Thread, list[Any]]:
    told: list[Any] = []

    def ask() -> None:
        try:
            told.append(agent.call("recognise", {"picture": picture}))
        except PlatformError as error:
            told.append(str(error))

    thread = threading.Thread(target=ask)
    waited = len(agent.agent.waiting)  # type: ignore[attr-defined]
    thread.start()
    while thread.is_alive() and len(agent.agent.waiting) == waited:  # type: ignore[attr-defined]
        thread.join(0.001)
    return thread, told


def test_people_are_enrolled_while_pictures_are_recognised(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = knows(inline, 1)
    gate = Gate(monkeypatch)
    first, told_first = asked(agent, portrait(1))
    assert gate.entered.wait(10)
    assert agent.call("enrol", {"label": "p1", "picture": portrait(1)})["faces"] == 1  # it does not wait
    second, told_second = asked(agent, portrait(1))
    agent.hop("east")  # both travel, and are answered there
    gate.open.set()
    for thread in (first, second):
        thread.join(10)
    assert [told[0]["faces"][0]["label"] for told in (told_first, told_second)] == ["p1", "p1"]
    metrics = agent.call("metrics")
    assert metrics["waiting"] == 0
    assert metrics["latencies"]["enrol"]["count"] == 2


def test_pictures_that_would_be_too_much_are_refused(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = knows(inline, 1)
    gate = Gate(monkeypatch)
    picture = portrait(0)
    monkeypatch.setattr(FaceRecognition, "max_waiting_bytes", 2 * len(picture) + 4096)
    waiting = [asked(agent, picture) for _ in range(2)]
    thread, told = asked(agent, picture)
    thread.join(10)
    assert "2 requests waiting" in told[0]
    gate.open.set()
    for thread, _ in waiting:
        thread.join(10)
    assert [told[0]["faces"][0]["label"] for _, told in waiting] == ["p0", "p0"]
    assert agent.call("metrics")["refused"] == 1
    assert agent.call("recognise", {"picture": picture})["faces"][0]["label"] == "p0"


def test_each_kind_of_request_is_timed(inline: Inline) -> None:
    agent = knows(inline, 1)
    agent.call("recognise", {"picture": portrait(0)})
    with pytest.raises(PeerFault, match="no PNG"):
        agent.call("recognise", {"picture": b"x"})
    latencies = agent.call("metrics")["latencies"]
    assert {kind: each["count"] for kind, each in latencies.items()} == {"enrol": 1, "recognise": 2}
    assert latencies["recognise"]["sum_ms"] > 0


def test_who_is_forgotten_is_not_told_of_to_those_who_wait(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = knows(inline, 2)
    gate = Gate(monkeypatch)
    first, _ = asked(agent, portrait(0))
    assert gate.entered.wait(10)
    second, told = asked(agent, portrait(0))
    agent.call("forget", {"label": "p0"})
    gate.open.set()
    for thread in (first, second):
        thread.join(10)
    assert [face["label"] for face in told[0]["faces"]] == [None]

"""The face-recognition agent: the same person, with the same label, before and after every hop."""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pytest
from skimage.data import lfw_subset

from agentplatform.runners.inline import Inline, InlineAgent
from agents.face_recognition.agent import FaceRecognition
from agents.face_recognition.camera import KEY_EVERY, Camera, Packet
from agents.face_recognition.stream import Stream
from agents.user import FaceUser
from ledger.errors import Misuse, PeerFault

FRAMES = KEY_EVERY + 6


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera()


@pytest.fixture(scope="module")
def packets(camera: Camera) -> list[Packet]:
    return list(islice(camera.packets(), FRAMES))


@pytest.fixture(scope="module")
def portraits(camera: Camera) -> list[bytes]:
    return camera.enrolment()


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline(host="north") as inline:
        yield inline


@pytest.fixture
def service(inline: Inline, portraits: list[bytes]) -> InlineAgent:
    service = inline.create(FaceRecognition)
    for portrait in portraits:
        service.call("enrol", {"label": "astronaut", "picture": portrait})
    return service


def somebody_else(number: int = 0) -> bytes:
    """A picture of another person (of Labeled Faces in the Wild, 25 x 25 pixels, enlarged)."""
    face = cv2.resize((lfw_subset()[number] * 255).astype(np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".png", cv2.copyMakeBorder(face, 60, 60, 60, 60, cv2.BORDER_REPLICATE))[1].tobytes()


def watch(service: InlineAgent, packet: Packet) -> dict[str, Any]:
    answer: dict[str, Any] = service.call("packet", {"data": packet.data, "pts": packet.pts})
    return answer


def test_the_same_person_has_the_same_label_before_and_after_a_hop(
    service: InlineAgent, packets: list[Packet]
) -> None:
    for number, packet in enumerate(packets, start=1):
        answer = watch(service, packet)
        assert (answer["frame"], answer["pts"], answer["host"]) == (number, packet.pts, service.host)
        (face,) = answer["faces"]
        assert face["label"] == "astronaut"
        if number % 4 == 0:
            service.hop("east" if service.host != "east" else "south")
    status = service.call("status")
    assert status["seen"] == {"astronaut": FRAMES}
    assert (status["frames"], status["epoch"], status["host"]) == (FRAMES, 1 + FRAMES // 4, service.host)


def test_a_hop_changes_no_answer(inline: Inline, portraits: list[bytes], packets: list[Packet]) -> None:
    stays, goes = (inline.create(FaceRecognition, name=name) for name in ("stays", "goes"))
    for agent in (stays, goes):
        agent.call("enrol", {"label": "astronaut", "picture": portraits[0]})
    for packet in packets[:5]:
        before, after = watch(stays, packet), watch(goes, packet)
        assert before["faces"] == after["faces"]  # boxes and distances too, to the last bit
        goes.hop("east")


def test_one_that_forgets_its_gallery_on_the_way_is_noticed(service: InlineAgent, packets: list[Packet]) -> None:
    assert watch(service, packets[0])["faces"][0]["label"] == "astronaut"
    agent = service.agent
    assert isinstance(agent, FaceRecognition)
    agent.data.write({}, agent.data.list())  # the broken twin
    service.hop("east")
    assert watch(service, packets[1])["faces"][0] == {
        "label": None, "distance": None, "box": pytest.approx([90, 80, 120, 120], abs=60),
    }


def test_people_are_not_confused(service: InlineAgent, portraits: list[bytes]) -> None:
    (stranger,) = service.call("recognise", {"picture": somebody_else()})["faces"]
    assert stranger["label"] is None
    service.call("enrol", {"label": "bo", "picture": somebody_else()})
    service.hop("east")
    assert service.call("people") == {"astronaut": len(portraits), "bo": 1}
    assert [face["label"] for face in service.call("recognise", {"picture": somebody_else()})["faces"]] == ["bo"]
    assert service.call("recognise", {"picture": portraits[1]})["faces"][0]["label"] == "astronaut"
    assert service.call("recognise", {"picture": somebody_else(1)})["faces"][0]["label"] is None
    service.call("forget", {"label": "bo"})
    assert service.call("recognise", {"picture": somebody_else()})["faces"][0]["label"] is None


def test_who_is_forgotten_was_never_seen(service: InlineAgent, packets: list[Packet]) -> None:
    watch(service, packets[0])
    assert service.call("status")["seen"] == {"astronaut": 1}
    service.call("forget", {"label": "astronaut"})
    assert service.call("status")["seen"] == {}
    assert watch(service, packets[1])["faces"][0]["label"] is None


def test_who_is_seen_can_be_enrolled_also_after_a_hop(inline: Inline, packets: list[Packet]) -> None:
    service = inline.create(FaceRecognition)
    (face,) = watch(service, packets[0])["faces"]
    assert (face["label"], face["distance"]) == (None, None)
    service.hop("east")
    assert service.call("enrol", {"label": "ada", "frame": 1}) == {"label": "ada", "faces": 1}
    assert watch(service, packets[1])["faces"][0]["label"] == "ada"
    with pytest.raises(PeerFault, match="the latest is 2"):
        service.call("enrol", {"label": "ada", "frame": 1})


def test_the_users_agent_is_told(inline: Inline, portraits: list[bytes], packets: list[Packet]) -> None:
    user = inline.create(FaceUser, {"user": "u1", "label": "astronaut"}, name="user")
    service = inline.create(FaceRecognition, {"tell": "user"})
    service.call("enrol", {"label": "astronaut", "picture": portraits[0]})
    for packet in packets[:3]:
        watch(service, packet)
        service.hop(f"host-{packet.pts}")
    session = user.call("session")
    assert (session["expected"], session["others"]) == (3, 0)
    assert session["last"] == {"label": "astronaut", "frame": 3}
    assert service.call("tell", {"to": None}) == {"to": None}
    watch(service, packets[3])
    assert user.call("session")["expected"] == 3


def test_bad_input_is_refused_in_words_and_the_agent_lives(
    service: InlineAgent, portraits: list[bytes], packets: list[Packet]
) -> None:
    watch(service, packets[0])
    huge = portraits[0][:16] + struct.pack(">II", 10_000, 10_000) + portraits[0][24:]
    wall = cv2.imencode(".png", np.full((200, 200), 128, np.uint8))[1].tobytes()
    for kind, body, words in [
        ("dance", None, "knows no message 'dance': send one of enrol, "),
        ("recognise", None, "wrong body.*it takes picture"),
        ("recognise", {"picture": "text"}, "wrong body"),
        ("recognise", {"picture": b""}, "no PNG or JPEG"),
        ("recognise", {"picture": portraits[0][:500]}, "damaged"),
        ("recognise", {"picture": huge}, "10000 x 10000 pixels is not taken"),
        ("enrol", {"label": "x", "picture": wall}, "no face was found"),
        ("enrol", {"label": "", "picture": portraits[0]}, "wrong body"),
        ("enrol", {"label": "x"}, "one of the two"),
        ("enrol", {"label": "x", "picture": wall, "frame": 1}, "one of the two"),
        ("forget", {"label": "nobody"}, "nobody is called 'nobody'"),
        ("packet", {"data": b"no media"}, "Annex B"),
        ("packet", {"data": packets[0].data[:2000]}, "cannot be decoded"),
        ("packet", {"data": packets[1].data}, "send a key frame first"),
        ("packet", {"data": packets[0].data, "more": 1}, "wrong body"),
        ("status", [1], "wrong body"),
    ]:
        with pytest.raises(PeerFault, match=words):
            service.call(kind, body)
    assert service.call("people") == {"astronaut": len(portraits)}
    service.hop("east")  # also between a broken packet and the key frame that heals it
    answer = watch(service, packets[KEY_EVERY])
    assert (answer["frame"], answer["faces"][0]["label"]) == (2, "astronaut")
    for wrong in ("user", {"tell": 1}, {"tell": "user", "also": 1}):
        with pytest.raises(Misuse, match="could not be created"):
            service._inline.create(FaceRecognition, wrong)


def test_the_decoder_is_no_part_of_the_state(service: InlineAgent, packets: list[Packet]) -> None:
    watch(service, packets[0])
    service.hop("east")
    agent = service.agent
    assert isinstance(agent, FaceRecognition)
    assert isinstance(agent.stream, Stream) and agent.stream._decoder is None

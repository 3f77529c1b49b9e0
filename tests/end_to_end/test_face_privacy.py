"""Real daemons: of a person whom the face-recognition agent knows, no file of any host has a word or a picture."""

from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from agentplatform import Message, backup
from agents.face_recognition.agent import FaceRecognition
from agents.face_recognition.camera import Camera
from tests.helpers.local import Local, consortium, until

SCAN = b"\xff\xda"  # begins the coded part of a JPEG
SLICE = 24  # bytes of a thumbnail that are looked for


class Indiscreet(FaceRecognition):
    """The broken twin: it writes to its log, which is not sealed, whom it was shown."""

    def handle_message(self, message: Message) -> Any:
        answer = super().handle_message(message)
        if message.kind == "people" and message.body:
            for label, pictures in answer.items():
                print(label, *(picture.hex() for picture in pictures), sep="\n")
        return answer


def traces(label: str, thumbnails: list[bytes]) -> list[bytes]:
    """What would give the person away: the name, and several parts of each picture, as bytes or in hexadecimal."""
    coded = [small[small.index(SCAN) + 20 :] for small in thumbnails]  # what comes before is in every JPEG
    parts = [each[at : at + SLICE] for each in coded for at in range(0, len(each) - SLICE, 400)]
    assert len(parts) > 3
    return [label.encode(), *parts, *(part.hex().encode() for part in parts)]


def files_with(wanted: list[bytes], root: Path) -> list[Path]:
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 20
    return [path for path in files if any(map(path.read_bytes().__contains__, wanted))]


def shown(local: Local, host: str, kind: type[FaceRecognition], name: str, portraits: slice) -> tuple[Any, str]:
    agent, label = local.host(host).create(kind, name=name), f"person-{token_hex(8)}"
    for portrait in Camera().enrolment()[portraits]:
        agent.call("enrol", {"label": label, "picture": portrait})
    return agent, label


@pytest.mark.slow
def test_no_file_of_any_host_shows_whom_it_knows(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", "east", "south") as local:
        leaky, label = shown(local, "east", Indiscreet, "leaky", slice(2, 4))
        small = leaky.call("people", {"thumbnails": True})[label]
        name, *parts = traces(label, small)
        for trace in ([name], parts):
            found = until("the log is written", lambda trace=trace: files_with(trace, local.root))
            assert {path.name for path in found} == {f"{leaky.id}.log"}

        agent, label = shown(local, "east", FaceRecognition, "faces", slice(0, 2))
        small = agent.call("people", {"thumbnails": True})[label]
        assert len(small) == 2 and all(each.startswith(b"\xff\xd8") for each in small)
        wanted = traces(label, small)
        assert not files_with(wanted, local.root)
        agent.snapshot()
        agent.data.snapshot("with everybody")
        agent.dispatch("south")
        assert agent.call("people") == {label: 2}
        assert not files_with(wanted, local.root)
        agent.deactivate()
        assert not files_with(wanted, local.root)
        backup.make(local.home("south"), local.root / "south.backup")
        assert (local.root / "south.backup").stat().st_size > 10_000
        assert not files_with(wanted, local.root)
        agent.activate()
        local.kill("south")
        local.start("south")
        assert until("it goes on", lambda: agent.call("people")) == {label: 2}
        assert agent.call("people", {"thumbnails": True})[label] == small
        assert agent.call("forget", {"label": label}) == {"label": label, "faces": 2, "snapshots": 1}
        assert agent.call("people") == {} and agent.data.snapshots() == ()
        assert not files_with(wanted, local.root)

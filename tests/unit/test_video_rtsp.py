"""A camera by RTSP: what passes while the agent moves is gone, and it says how much that was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplatform.runners.inline import Inline
from agents.video_decoding import media
from agents.video_decoding.agent import VideoDecoding
from ledger.errors import PeerFault, Unavailable
from tests.helpers.rtsp_server import Camera
from tests.helpers.videos import film, hashes


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline() as inline:
        yield inline


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("camera") / "street.h264", frames=50, b_frames=0, key_every=10)


def test_a_camera_is_watched_on_after_a_hop(street: Path, inline: Inline) -> None:
    with Camera(street, pace=0.005) as camera:
        agent = inline.create(VideoDecoding, {"source": camera.url})
        found = agent.call("next", {"frames": 10})["frames"]
        whole = hashes(street)
        first = whole.index(found[0]["hash"])
        assert [frame["hash"] for frame in found] == whole[first : first + 10]
        assert agent.call("status")["missed"] is None
        camera.begins = 20
        agent.hop("elsewhere")
        more = agent.call("next", {"frames": 5})["frames"]
        assert [frame["index"] for frame in more] == list(range(10, 15))
        missed = agent.call("status")["missed"]
        assert missed["seconds"] >= 0
        assert missed["by"] in ("timestamps", "clocks")
        assert camera.connections == 2


@pytest.mark.slow
def test_a_camera_that_stalls_is_given_up_and_asked_again(
    street: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "READ_SECONDS", 0.3)
    monkeypatch.setattr(media, "OPEN_SECONDS", 0.5)
    with Camera(street, pace=0.001) as camera:
        agent = inline.create(VideoDecoding, {"source": camera.url})
        agent.call("next", {"frames": 3})
        camera.silent.set()
        with pytest.raises((Unavailable, PeerFault), match="nothing came"):
            while True:
                agent.call("next", {"frames": 50, "wait": 3.0})
        camera.silent.clear()
        monkeypatch.setattr(media, "OPEN_SECONDS", 10.0)
        assert len(agent.call("next", {"frames": 3})["frames"]) == 3
        state: Any = agent.call("status")
        assert state["missed"] is not None


def test_who_is_no_camera_is_an_error(inline: Inline) -> None:
    agent = inline.create(VideoDecoding, {"source": "rtsp://127.0.0.1:9/none"})
    with pytest.raises((Unavailable, PeerFault), match=r"cannot be opened"):
        agent.call("next", {})

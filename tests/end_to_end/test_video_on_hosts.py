"""A video is decoded on real daemons, in jailed workers: neither hops nor kills lose a frame or show one twice."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentplatform.frontdoor.client import AgentProxy
from agents.video_decoding.agent import VideoDecoding
from agents.video_decoding.feeder import feed
from ledger.errors import PlatformError
from tests.helpers.local import Local, consortium, patiently
from tests.helpers.videos import film, hashes

PAIR = ("north", "east")


@contextmanager
def pair(root: Path, videos: Path) -> Iterator[Local]:
    """Two hosts that share a folder of videos."""
    videos.mkdir()
    with consortium(root, *PAIR, start=(), light=True) as local:
        for name in PAIR:
            file = local.home(name).settings_file
            file.write_text(file.read_text().replace("[workers]", f'[workers]\nreadable = ["{videos}"]'))
        local.start(*PAIR)
        yield local


@pytest.mark.slow
def test_a_file_is_decoded_on_across_hosts(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    with pair(tmp_path / "c", videos) as local:
        path = film(videos / "video.mp4", frames=60, b_frames=2)
        north = local.host("north")
        agent = north.create(VideoDecoding, init={"source": "video.mp4"})
        seed = random.randrange(1 << 30)  # noqa: S311 - a test
        print(f"seed {seed}")
        dice, found, hops, end = random.Random(seed), [], 0, False  # noqa: S311 - a test
        while not end:
            answer = agent.call("next", {"frames": dice.randint(3, 9)})
            found += answer["frames"]
            end = answer["end"]
            if not end:
                agent.dispatch(PAIR[(hops + 1) % 2])
                hops += 1
        assert [frame["hash"] for frame in found] == hashes(path)
        assert hops >= 5
        # The jail: what the host does not share is not opened, and media that are no media are no harm.
        secret = film(tmp_path / "secret.mp4")
        for name, words in ((str(secret), "secret.mp4"), ("/etc/passwd", "cannot be opened")):
            agent.call("open", name)
            with pytest.raises(PlatformError, match=words):
                agent.call("next", {})


@pytest.mark.slow
def test_a_host_that_is_killed_in_the_midst_of_a_hop_loses_no_frame(tmp_path: Path) -> None:
    """Killed with -9 at a random moment around the dispatch; who asks names the frame that he wants next."""
    videos = tmp_path / "videos"
    with pair(tmp_path / "c", videos) as local:
        path = film(videos / "video.mp4", frames=90, b_frames=2)
        agent = local.host("north").create(VideoDecoding, init={"source": "video.mp4"})
        seed = random.randrange(1 << 30)  # noqa: S311 - a test
        print(f"seed {seed}")
        dice, found, at, end = random.Random(seed), [], "north", False  # noqa: S311 - a test
        kills = 0
        while not end:
            answer: Any = patiently(partial(anywhere, local, agent, {"frames": 10, "at": len(found)}))
            found += answer["frames"]
            end = answer["end"]
            if end or kills >= 6:
                continue
            to = "east" if at == "north" else "north"
            going = threading.Thread(target=go, args=(local, at, agent.id, to))
            going.start()
            going.join(dice.random() * 0.2)
            local.kill_all(at)
            kills += 1
            going.join()
            local.start(at)
            at = patiently(lambda: where(local, agent.id))
        assert [frame["hash"] for frame in found] == hashes(path)
        assert kills >= 5


def anywhere(local: Local, agent: AgentProxy, body: dict[str, Any]) -> Any:
    """From whichever host knows the agent."""
    try:
        return local.host("north").agent(agent.id).call("next", body)
    except PlatformError:
        return local.host("east").agent(agent.id).call("next", body)


def go(local: Local, at: str, agent: str, to: str) -> None:
    with suppress(PlatformError):  # its host was killed meanwhile
        local.host(at).agent(agent).dispatch(to)


def where(local: Local, agent: str) -> str:
    for name in PAIR:
        for row in local.host(name).call("agents"):
            if row["agent"] == agent and row["resident"]:
                return name
    raise PlatformError("it is nowhere just now")


@pytest.mark.slow
def test_a_pushed_stream_is_decoded_on_across_hosts(tmp_path: Path) -> None:
    path = film(tmp_path / "video.mkv", frames=200, b_frames=2)
    with pair(tmp_path / "c", tmp_path / "videos") as local:
        agent = local.host("north").create(VideoDecoding, init={"source": "pipe:"})
        fed = threading.Thread(target=feed, args=(local.host("north").agent(agent.id).call, str(path)))
        fed.start()
        found, hops, end = [], 0, False
        while not end:
            answer = patiently(partial(agent.call, "next", {"frames": 9, "wait": 1.0, "at": len(found)}))
            found += answer["frames"]
            end = answer["end"]
            agent.dispatch(PAIR[(hops + 1) % 2])
            hops += 1
        fed.join()
        assert [frame["hash"] for frame in found] == hashes(path)

"""Decoding goes on at the next frame, wherever the agent is: every frame once, in order, as PyAV alone has it."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplatform import Agent, handles
from agentplatform.runners.inline import Inline
from agents.video_decoding import delivery, limits, worker
from agents.video_decoding.agent import VideoDecoding
from agents.video_decoding.decoder import Decoder
from agents.video_decoding.position import Position, Sieve, Verdict
from ledger.errors import Misuse, PeerFault
from tests.helpers.local import until
from tests.helpers.videos import all_of, film, hashes

CASES: dict[str, dict[str, Any]] = {
    "h264 with B-frames.mp4": {"b_frames": 2},
    "h264, open groups.mp4": {"b_frames": 2, "x264-params": "open-gop=1"},
    "h264, no key frames but the first.mkv": {"key_every": 999, "b_frames": 2},
    "h264, intra refresh.mp4": {"x264-params": "intra-refresh=1", "b_frames": 0},
    "h264, first timestamp is not 0.ts": {"b_frames": 2},
    "h264 without timestamps.h264": {"b_frames": 2},
    "h264, variable rate.mkv": {"times": [n + n // 3 + 5 * (n > 9) for n in range(40)]},
    "hevc, open groups.mp4": {"codec": "libx265", "x265-params": "log-level=none:open-gop=1:keyint=12"},
    "vp9.webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "mjpeg.avi": {"codec": "mjpeg"},
    "av1.mp4": {"codec": "libsvtav1", "preset": "12"},
    "ffv1.mkv": {"codec": "ffv1"},
}


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline() as inline:
        yield inline


QUICK = [*CASES][:2] + [name for name in CASES if name.endswith((".ts", ".h264"))]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in CASES])
def test_hops_lose_no_frame_and_show_none_twice(name: str, tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / name.replace(" ", "-"), **CASES[name])
    agent = inline.create(VideoDecoding, {"source": str(path)})
    seed = random.randrange(1 << 30)  # noqa: S311 - a test
    print(f"seed {seed}")
    dice, found, hops = random.Random(seed), [], 0  # noqa: S311 - a test
    while True:
        answer = agent.call("next", {"frames": dice.randint(1, 6)})
        found += answer["frames"]
        if answer["end"]:
            break
        if dice.random() < 0.7:
            agent.hop(f"host-{hops}")
            hops += 1
    assert hops > 0
    assert [frame["hash"] for frame in found] == hashes(path)
    assert [frame["index"] for frame in found] == list(range(40))


@pytest.mark.parametrize("pixels", ["yuv411p", "yuv440p", "yuv444p10le", "yuva420p", "bgr0", "gray16le"])
def test_pictures_of_every_kind_go_on_after_a_hop(pixels: str, tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mkv", codec="ffv1", frames=5, pixels=pixels)
    agent = inline.create(VideoDecoding, {"source": str(path)})
    found = agent.call("next", {"frames": 2})["frames"]
    agent.hop("elsewhere")
    found += all_of(agent, pixels="rgb")
    assert [frame["hash"] for frame in found] == hashes(path)
    assert len({frame["hash"] for frame in found}) == 5
    assert len(found[4]["pixels"]) == 3 * 96 * 64


@pytest.mark.parametrize("off", [-1, 1])
def test_a_position_that_is_off_by_one_is_caught(
    off: int, tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin: where the anchor is found, one frame too few or too many is dropped."""
    path = film(tmp_path / "video.mp4", b_frames=2)
    judge = Decoder._judge
    turned: list[Verdict] = []

    def broken(decoder: Decoder, sieve: Sieve, *frame: Any) -> Verdict:
        was_found = sieve.found
        verdict = judge(decoder, sieve, *frame)
        if off < 0 and not was_found and sieve.found:
            return Verdict.TAKE
        if off > 0 and was_found and not turned:
            turned.append(verdict)
            return Verdict.DROP
        return verdict

    agent = inline.create(VideoDecoding, {"source": str(path)})
    found = agent.call("next", {"frames": 15})["frames"]
    agent.hop("elsewhere")
    monkeypatch.setattr(Decoder, "_judge", broken)
    found += all_of(agent)
    assert [frame["hash"] for frame in found] != hashes(path)


def test_frames_come_with_what_is_asked_of_them(tmp_path: Path, inline: Inline) -> None:
    agent = inline.create(VideoDecoding, {"source": str(film(tmp_path / "video.mp4"))})
    (frame,) = agent.call("next", {"hash": False})["frames"]
    assert frame == {"index": 0, "pts": 0, "seconds": 0.0, "quality": "high", "width": 96, "height": 64}
    (grey,) = agent.call("next", {"pixels": "grey"})["frames"]
    assert len(grey["pixels"]) == 96 * 64
    assert grey["pixels"][0] > 200 > 50 > grey["pixels"][90]  # bit 0 of frame 1 is set, bit 11 is not
    (rgb,) = agent.call("next", {"pixels": "rgb"})["frames"]
    assert len(rgb["pixels"]) == 3 * 96 * 64
    (jpeg,) = agent.call("next", {"pixels": "jpeg"})["frames"]
    assert jpeg["pixels"].startswith(b"\xff\xd8")
    assert [rgb["index"], jpeg["index"], round(jpeg["seconds"], 3)] == [2, 3, 0.12]


def test_a_frame_of_which_the_size_alone_is_asked_is_not_scaled(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = inline.create(VideoDecoding, {"source": str(film(tmp_path / "video.mp4")), "quality": "low"})
    monkeypatch.delattr(delivery, "in_quality")
    (frame,) = agent.call("next", {"hash": False})["frames"]
    assert (frame["width"], frame["height"]) == (24, 16)
    with pytest.raises(PeerFault, match="in_quality"):
        agent.call("next", {"pixels": "grey"})


def test_an_answer_that_was_lost_is_given_again(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4", b_frames=2)
    agent = inline.create(VideoDecoding, {"source": str(path)})
    first = agent.call("next", {"frames": 5, "at": 0})
    second = agent.call("next", {"frames": 5, "at": first["index"]})
    agent.hop("elsewhere")
    assert agent.call("next", {"frames": 5, "at": 5}) == second
    assert agent.call("next", {"frames": 1, "at": 10})["frames"][0]["hash"] == hashes(path)[10]
    with pytest.raises(PeerFault, match="frame 3 is not next: that is 11, or 10"):
        agent.call("next", {"at": 3})


def test_a_switch_of_quality_scales_the_next_frame(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4", size=(192, 128))
    agent = inline.create(VideoDecoding, {"source": str(path), "quality": "low"})
    found = agent.call("next", {"frames": 3})["frames"]
    assert agent.call("quality", "medium") == {"quality": "medium", "by": "wish"}
    found += agent.call("next", {"frames": 3})["frames"]
    agent.call("quality", "high")
    agent.hop("elsewhere")
    found += all_of(agent)
    assert [frame["width"] for frame in found] == [48] * 3 + [96] * 3 + [192] * 34
    assert [frame["hash"] for frame in found[6:]] == hashes(path)[6:]


def test_three_renditions_switch_at_the_same_moment(tmp_path: Path, inline: Inline) -> None:
    """Other clocks, other key frames, other beginnings: no moment is lost or shown twice."""
    sizes = {"high": (192, 128), "medium": (96, 64), "low": (48, 32)}
    renditions = {
        "high": film(tmp_path / "high.mp4", size=sizes["high"], b_frames=2),
        "medium": film(tmp_path / "medium.mkv", size=sizes["medium"], key_every=7),
        "low": film(tmp_path / "low.ts", size=sizes["low"], b_frames=2, key_every=20),
    }
    whole = {quality: hashes(path) for quality, path in renditions.items()}
    agent = inline.create(VideoDecoding, {"source": {quality: str(path) for quality, path in renditions.items()}})
    order = ["low", "high", "medium", "low", "medium", "high", "low", "high"]
    for turn, quality in enumerate(order):
        agent.call("quality", quality)
        if turn in (2, 5):
            agent.hop(f"host-{turn}")
        frames = agent.call("next", {"frames": 5})["frames"]
        assert [frame["index"] for frame in frames] == list(range(5 * turn, 5 * turn + 5))
        assert [frame["hash"] for frame in frames] == whole[quality][5 * turn : 5 * turn + 5], quality
        assert (frames[0]["width"], frames[0]["quality"]) == (sizes[quality][0], quality)
    assert agent.call("next")["end"]


def test_a_short_stay_begins_low_and_is_raised_when_it_lasts(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Falcon, section 5.3, through hops: by what is expected of each host."""
    stays = {"here": 600.0, "east": 10.0, "south": None}
    path = film(tmp_path / "video.mp4", size=(192, 128))
    agent = inline.create(VideoDecoding, {"source": str(path), "stay": stays})

    def quality() -> str:
        return str(agent.call("next")["frames"][0]["quality"])

    assert quality() == "high"
    agent.hop("east")
    assert quality() == "low"
    now = worker.monotonic
    monkeypatch.setattr(worker, "monotonic", lambda: now() + 31.0)
    assert quality() == "medium"
    monkeypatch.setattr(worker, "monotonic", lambda: now() + 301.0)
    assert quality() == "high"
    agent.hop("south")  # of which nobody knows
    assert quality() == "low"
    assert agent.call("stay", {"seconds": 3600.0}) == {"quality": "high"}
    assert agent.call("stay", {"seconds": 60.0, "host": "west"}) == {"quality": "high"}
    agent.hop("west")
    assert quality() == "medium"


def test_stays_with_hosts_without_number_are_refused(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_STAYS", 2)
    agent = inline.create(VideoDecoding, {"stay": {"here": 1.0}})
    agent.call("stay", {"seconds": 1.0, "host": "east"})
    with pytest.raises(PeerFault, match="all that are kept"):
        agent.call("stay", {"seconds": 1.0, "host": "south"})
    assert agent.call("stay", {"seconds": 600.0, "host": "here"})["quality"] == "high"


class Screen(Agent):
    """A listener that answers when it is told to."""

    def on_creation(self, init: Any) -> None:
        self.frames: list[Any] = []
        self.open: list[Any] = []
        self.ended = False

    @handles("frames")
    def show(self, frames: list[dict[str, Any]], index: int, end: bool, message: Any, error: str = "") -> Any:
        self.frames += frames
        self.error = error
        self.ended = self.ended or end
        self.open.append(message.later)
        return message.later

    @handles("more")
    def more(self) -> None:
        while self.open:
            self.reply(self.open.pop(0))


def test_a_listener_gets_every_frame_once_and_never_more_than_it_wants(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4", b_frames=2)
    screen = inline.create(Screen)
    agent = inline.create(VideoDecoding, {"source": str(path)})
    agent.call("play", {"to": screen.id, "window": 12})
    hops, waited = 0, 0
    state: Any = screen.agent
    while not state.ended:
        shown = len(state.frames)
        assert waited < 2000, "no frames come"
        if shown == 0 or not state.open:
            waited += 1
            agent.call("status")
            continue
        assert shown - hops * 8 <= 12  # one message of eight at a time fits into the window
        agent.hop(f"host-{hops}")
        hops += 1
        screen.call("more")
    assert [frame["hash"] for frame in state.frames] == hashes(path)
    assert hops >= 4


def test_a_listener_that_never_answers_gets_no_more_however_often_it_is_told_to_play(
    tmp_path: Path, inline: Inline
) -> None:
    path = film(tmp_path / "video.mp4", frames=80)
    screen, agent = inline.create(Screen), inline.create(VideoDecoding, {"source": str(path)})
    state: Any = screen.agent
    for _ in range(4):
        agent.call("play", {"to": screen.id, "window": 16})
        until("frames come", lambda: len(state.frames) >= 16)
        for _ in range(2):  # what it has room for goes out in between
            agent.call("next")
        agent.call("stop")
    assert len(state.frames) == 16


def test_a_listener_hears_of_a_video_that_fails(tmp_path: Path, inline: Inline) -> None:
    screen, agent = inline.create(Screen), inline.create(VideoDecoding, {"source": str(tmp_path / "missing.mp4")})
    agent.call("play", {"to": screen.id})
    state: Any = screen.agent
    until("the end is heard of", lambda: state.ended)
    assert "missing.mp4" in state.error
    assert agent.call("status")["playing"] is None


def test_requests_beyond_the_queue_are_refused(tmp_path: Path, inline: Inline) -> None:
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    agent.call("push", {"number": 0, "packets": [], "stream": {"codec": "h264", "time_base": [1, 25]}})
    for _ in range(17):
        agent.send("next", {"wait": 60.0})
    metrics = agent.call("metrics")
    assert (metrics["waiting"], metrics["refused"]) == (16, 1)


def test_a_file_that_is_another_one_elsewhere_is_refused_and_the_place_is_kept(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    film(here / "video.mp4")
    with Inline(readable=[here]) as inline:
        agent = inline.create(VideoDecoding, {"source": "video.mp4"})
        found = agent.call("next", {"frames": 5})["frames"]
        original = (here / "video.mp4").read_bytes()
        (here / "video.mp4").unlink()
        agent.hop("elsewhere")
        with pytest.raises(PeerFault, match=r"video\.mp4"):
            agent.call("next")
        film(here / "video.mp4", frames=30)
        with pytest.raises(PeerFault, match="another file than the one that was begun"):
            agent.call("next")
        assert agent.call("status")["index"] == 5
        (here / "video.mp4").write_bytes(original)
        found += all_of(agent)
        assert [frame["hash"] for frame in found] == hashes(here / "video.mp4")


def test_clones_and_sleepers_go_on_at_the_same_frame(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4", b_frames=2)
    agent = inline.create(VideoDecoding, {"source": str(path), "stay": 600.0})
    found = agent.call("next", {"frames": 15})["frames"]
    clone = agent.clone()
    agent.deactivate()
    agent.activate()
    for each in (agent, clone):
        assert [frame["hash"] for frame in found + all_of(each)] == hashes(path)


def test_what_is_asked_wrongly_is_said(inline: Inline) -> None:
    for init, words in {
        "video.mp4": "begins with source",
        ("source", "gopher://x/y"): "of no known kind",
        ("source", ""): "a source has a name",
        ("device", "tpu"): "a device is",
        ("stay", -1.0): "a stay lasts",
        ("quality", "best"): "high, medium, low, auto",
        ("stay", "long"): "seconds, or seconds by host",
    }.items():
        with pytest.raises(Misuse, match=words):
            inline.create(VideoDecoding, init if isinstance(init, str) else dict([init]))
    with pytest.raises(Misuse, match="named for high, medium, low"):
        inline.create(VideoDecoding, {"source": {"high": "a.mp4"}})
    with pytest.raises(Misuse, match="cannot be one of three"):
        inline.create(VideoDecoding, {"source": {"high": "a", "medium": "b", "low": "pipe:"}})
    agent = inline.create(VideoDecoding)
    with pytest.raises(PeerFault, match="no video yet"):
        agent.call("next")
    with pytest.raises(PeerFault, match=r"set_quality\(wish: Literal\['high', 'medium', 'low', 'auto'\]\)"):
        agent.call("quality", "best")
    with pytest.raises(PeerFault, match="not pushed"):
        agent.call("open", "video.mp4")
        agent.call("push", {"number": 0, "packets": []})
    with pytest.raises(PeerFault, match="a source has a name"):
        agent.call("open")
    assert agent.call("status")["source"] == "video.mp4"


def test_a_device_that_is_not_there_falls_back_to_the_processor_and_says_so(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4")
    agent = inline.create(VideoDecoding, {"source": str(path), "device": "cuda:7"})
    assert [frame["hash"] for frame in all_of(agent)] == hashes(path)
    device = agent.call("status")["device"]
    assert (device["wished"], device["decodes_on"]) == ("cuda:7", "cpu")


def test_metrics_say_how_long_frames_took(tmp_path: Path, inline: Inline) -> None:
    agent = inline.create(VideoDecoding, {"source": str(film(tmp_path / "video.mp4"))})
    all_of(agent, 40)
    metrics = agent.call("metrics")
    assert (metrics["frames"], metrics["decoding"]["high"]["count"]) == (40, 40)
    assert metrics["latencies"]["next"]["count"] >= 1


def test_positions_are_plain() -> None:
    position = Position().after("all", 0, 0.0).after("all", 512, 0.04)
    assert (position.index, position.ordinal, position.regular) == (2, 2, True)
    assert not position.after("all", 512, 0.04).regular
    assert position.after("low", 3600, 0.08).ordinal is None

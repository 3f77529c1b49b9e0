"""A stream that is pushed: nothing of it is lost by a move, also with B-frames and open groups of pictures."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplatform.runners.inline import Inline
from agents.video_decoding import feeder, limits, pipe
from agents.video_decoding.agent import VideoDecoding
from agents.video_decoding.feeder import feed
from agents.video_decoding.pipe import Packet, Parameters, PipeSource
from agents.video_decoding.position import Position
from ledger.errors import Misuse, PeerFault, Unavailable
from tests.helpers.videos import all_of, film, hashes

H264 = Parameters("h264", (1, 25))


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline() as inline:
        yield inline


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("h264.mp4", {"b_frames": 2, "x264-params": "open-gop=1"}),
        ("h264.ts", {"b_frames": 2}),
        pytest.param(
            "hevc.mp4",
            {"codec": "libx265", "x265-params": "log-level=none:open-gop=1:keyint=12"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "vp9.webm", {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"}, marks=pytest.mark.slow
        ),
        pytest.param("av1.mp4", {"codec": "libsvtav1", "preset": "12"}, marks=pytest.mark.slow),
    ],
)
def test_hops_lose_no_frame_of_what_is_pushed(
    name: str, options: dict[str, Any], tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feeder is held back, so it pushes while frames are taken and the agent moves."""
    path = film(tmp_path / name, frames=60, **options)
    monkeypatch.setattr(pipe, "MAX_KEPT_PACKETS", 40)
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    fed = threading.Thread(target=feed, args=(agent.call, str(path)))
    fed.start()
    seed = random.randrange(1 << 30)  # noqa: S311 - a test
    print(f"seed {seed}")
    dice, found, hops, end = random.Random(seed), [], 0, False  # noqa: S311 - a test
    while not end:
        try:
            answer = agent.call("next", {"frames": dice.randint(1, 5), "wait": 0.05})
        except Unavailable:
            continue  # nothing was pushed yet
        found += answer["frames"]
        end = answer["end"]
        if dice.random() < 0.5:
            agent.hop(f"host-{hops}")
            hops += 1
    fed.join(10)
    assert [frame["hash"] for frame in found] == hashes(path)
    assert hops > 0


def test_without_the_packets_since_the_key_frame_frames_are_lost(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin: what was delivered is forgotten to the last packet."""
    path = film(tmp_path / "video.mp4", frames=30, b_frames=0)
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    feed(agent.call, str(path))

    def forget(source: PipeSource, at: Position) -> None:
        source._kept = [kept for kept in source._kept if at.pts is None or kept.pts > at.pts]

    monkeypatch.setattr(PipeSource, "forget", forget)
    for _ in range(2):  # what is kept begins after the answer before the last
        found = agent.call("next", {"frames": 3})["frames"]
    agent.hop("elsewhere")
    found = agent.call("next", {"frames": 3})["frames"]
    assert [frame["hash"] for frame in found] != hashes(path)[6:9]


def test_what_travels_is_what_is_needed(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4", frames=60, b_frames=2)
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    feed(agent.call, str(path))
    state: Any = agent.agent
    assert len(state.video.pipe._kept) == 60
    agent.call("next", {"frames": 40})
    assert len(state.video.pipe._kept) == 60  # the answer may be asked for again
    agent.call("next", {"frames": 5})
    assert len(state.video.pipe._kept) == 24  # from the key frame 36 on


def packets(*numbers: int, key: bool = False) -> list[Packet]:
    return [Packet(b"data", number, number, key) for number in numbers]


def test_repeats_are_passed_over_and_gaps_refused() -> None:
    source = PipeSource("pipe:")
    with pytest.raises(Misuse, match="stream's parameters at 0"):
        source.push(0, None, packets(0, key=True), False)
    assert source.push(0, H264, packets(0, key=True), False) == 1
    assert source.push(0, H264, packets(0, key=True) + packets(1), False) == 2
    with pytest.raises(Misuse, match="packet 3 came, and 2 is next"):
        source.push(3, None, packets(3), False)
    assert source.push(2, None, [], True) == 2
    assert source.push(0, None, packets(0, 1), True) == 2  # again
    with pytest.raises(Misuse, match="has ended"):
        source.push(2, None, packets(2), False)


@pytest.mark.parametrize(
    ("parameters", "sent", "words"),
    [
        (Parameters("pcm_s16le", (1, 25)), packets(0, key=True), "not decoded"),
        (Parameters("ffv1", (1, 25)), packets(0, key=True), "ffv1 is not decoded; what is"),
        (Parameters("h264", (0, 25)), packets(0, key=True), "time base"),
        (Parameters("h264", (1, 25), bytes(1 << 20)), packets(0, key=True), "extradata"),
        (H264, packets(0), "begins with a key frame"),
        (Parameters("h264", (1, 1 << 31)), packets(0, key=True), "time base"),
        (H264, packets(5, key=True) + packets(9) + packets(9, key=True), "clock of a stream goes back"),
        (H264, [Packet(b"", 0, 0, True)], "has 0"),
        (H264, [Packet(bytes(limits.MAX_PACKET_BYTES + 1), 0, 0, True)], "a packet has 1 to"),
    ],
)
def test_bad_packets_are_refused_and_nothing_of_them_is_kept(
    parameters: Parameters, sent: list[Packet], words: str
) -> None:
    source = PipeSource("pipe:")
    with pytest.raises(Misuse, match=words):
        source.push(0, parameters, sent, False)
    assert source.pushed == 0
    assert source.push(0, H264, packets(0, key=True), False) == 1


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "MAX_KEPT_PACKETS", 4)
    source = PipeSource("pipe:")
    source.push(0, H264, packets(0, key=True) + packets(1) + packets(2, key=True) + packets(3), False)
    with pytest.raises(Unavailable, match="take frames"):
        source.push(4, None, packets(4), False)
    source.forget(Position(3, "all", pts=2, seconds=0.1))
    assert source.push(4, None, packets(4, 5), False) == 6
    with pytest.raises(Misuse, match="more key frames"):
        source.push(6, None, packets(6), False)


def test_packets_of_noise_are_an_error_and_the_agent_lives(inline: Inline) -> None:
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    noise = random.Random(1).randbytes(2000)  # noqa: S311 - a test
    sent = [{"data": noise, "pts": number, "key": True} for number in range(150)]
    agent.call("push", {"number": 0, "packets": sent, "stream": {"codec": "h264", "time_base": [1, 25]}, "end": True})
    with pytest.raises(PeerFault, match="in a row cannot be decoded"):
        agent.call("next")
    assert agent.call("status")["index"] == 0


def test_what_was_shown_makes_room_with_the_next_answer(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last answer may be asked for again, so a key frame that it brought frees nothing yet: that is no error."""
    path = film(tmp_path / "video.mp4", frames=60, b_frames=0)
    monkeypatch.setattr(pipe, "MAX_KEPT_PACKETS", 30)
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    answers = iter([20, 1])
    found: list[Any] = []

    def call(kind: str, body: Any) -> Any:
        try:
            return agent.call(kind, body)
        except Unavailable:
            found.extend(agent.call("next", {"frames": next(answers, 10), "wait": 0.1})["frames"])
            raise

    feed(call, str(path))
    found += all_of(agent)
    assert [frame["hash"] for frame in found] == hashes(path)


def feed_in_turn(agent: Any, path: Path, patience: int = 200) -> list[Any]:
    """Frames are taken whenever there is no room. Raises TimeoutError when there is none for ever."""
    found: list[Any] = []
    in_vain = 0

    def call(kind: str, body: Any) -> Any:
        nonlocal in_vain
        try:
            return agent.call(kind, body)
        except Unavailable:
            frames = agent.call("next", {"frames": 12, "wait": 0.02})["frames"]
            found.extend(frames)
            in_vain = 0 if frames else in_vain + 1
            if in_vain > patience:
                raise TimeoutError from None
            raise

    feed(call, str(path))
    return found


@pytest.mark.parametrize("b_frames", [0, 16])  # two threads alone make a decoder give its frames late
def test_a_key_frame_that_comes_too_late_to_be_shown_is_refused(
    b_frames: int, tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "BATCH", 1)
    encoder = f"bframes={b_frames}:b-adapt=0:b-pyramid=normal:ref=16:scenecut=0"
    path = film(tmp_path / "video.mp4", frames=60, key_every=24, **{"x264-params": encoder})
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    monkeypatch.setattr(pipe, "MAX_KEPT_PACKETS", 25)
    with pytest.raises(PeerFault, match="more key frames"):
        feed_in_turn(agent, path)
    agent.call("open", "pipe:")
    monkeypatch.setattr(pipe, "MAX_KEPT_PACKETS", 40)
    found = feed_in_turn(agent, path) + all_of(agent)
    assert [frame["hash"] for frame in found] == hashes(path)
    agent.call("open", "pipe:")
    monkeypatch.setattr(pipe, "MAX_KEPT_PACKETS", 25)
    monkeypatch.setattr(PipeSource, "decoded", False)  # the broken twin
    with pytest.raises(TimeoutError):
        feed_in_turn(agent, path, patience=4)


def test_a_feeder_that_died_is_followed_by_another(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4", frames=60, b_frames=2)
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    pushed: list[Any] = []

    def dying(kind: str, body: Any) -> Any:
        if len(pushed) == 2:
            raise KeyboardInterrupt
        pushed.append(body)
        return agent.call(kind, body)

    with pytest.raises(KeyboardInterrupt):
        feed(dying, str(path))
    assert feed(agent.call, str(path)) == 60
    assert [frame["hash"] for frame in all_of(agent)] == hashes(path)


def test_another_stream_does_not_go_on_in_one_that_was_begun(tmp_path: Path, inline: Inline) -> None:
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    feed(agent.call, str(film(tmp_path / "video.mp4", frames=20)))
    with pytest.raises(PeerFault, match="begins otherwise"):
        feed(agent.call, str(film(tmp_path / "other.mp4", frames=40, size=(192, 128))))
    assert len(all_of(agent)) == 20


@pytest.mark.parametrize("pts", [-1 << 63, (1 << 63) - 1, (1 << 64) - 1])
def test_timestamps_that_no_decoder_can_count_with_are_refused(pts: int, inline: Inline) -> None:
    agent = inline.create(VideoDecoding, {"source": "pipe:"})
    body = {"number": 0, "packets": [{"data": b"data", "pts": pts, "key": True}]}
    with pytest.raises(PeerFault, match="does not fit"):
        agent.call("push", body | {"stream": {"codec": "h264", "time_base": [1, 25]}})


def test_frames_with_one_timestamp_are_each_shown_once(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4", b_frames=0)
    agent = inline.create(VideoDecoding, {"source": "pipe:"})

    def call(kind: str, body: Any) -> Any:
        # two have the same
        sent = [{**packet, "pts": packet["pts"] // 1024, "dts": None} for packet in body["packets"]]
        return agent.call(kind, {**body, "packets": sent})

    feed(call, str(path))
    found: list[Any] = []
    while len(found) < 40:
        found += agent.call("next", {"frames": 3})["frames"]
        agent.hop("there" if agent.host == "here" else "here")
    assert [frame["pts"] for frame in found[:4]] == [0, 0, 1, 1]
    assert [frame["hash"] for frame in found] == hashes(path)

"""Media that were made to do harm: a clear error to who asked, the agent lives, nothing else is opened."""

import io
import os
import random
import socket
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from agentplatform.runners.inline import Inline
from agents.video_decoding import decoder, limits, media
from agents.video_decoding.agent import VideoDecoding
from ledger.errors import PeerFault
from tests.helpers.videos import all_of, film, hashes

REFUSED = r"cannot be opened|holds no video|cannot be read|can(not)? be decoded|is empty|is no file|pictures of"


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline() as inline:
        yield inline


def refused(inline: Inline, path: Path, words: str = REFUSED) -> None:
    agent = inline.create(VideoDecoding, {"source": str(path)})
    with pytest.raises(PeerFault, match=words):
        while not agent.call("next", {"frames": 50})["end"]:
            pass
    good = film(path.parent / "good.mp4", frames=3)
    agent.call("open", str(good))
    assert [frame["hash"] for frame in all_of(agent)] == hashes(good)  # it lives


def listening() -> socket.socket:
    there = socket.create_server(("127.0.0.1", 0))
    there.setblocking(False)
    return there


def nobody_came(there: socket.socket) -> bool:
    try:
        there.accept()[0].close()
    except BlockingIOError:
        return True
    return False


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile {target}\n",
    "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" mimeType="video/mp4"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period>'
    "</MPD>",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\na=control:{target}\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_opens_nothing(name: str, tmp_path: Path, inline: Inline) -> None:
    film(tmp_path / "video.ts")
    agent = inline.create(VideoDecoding)
    with listening() as there:
        for target in (f"http://127.0.0.1:{there.getsockname()[1]}/x.ts", "video.ts", "file:///etc/passwd"):
            (tmp_path / name).write_text(PLAYLISTS[name].format(target=target))
            agent.call("open", str(tmp_path / name))
            with pytest.raises(PeerFault, match=REFUSED):
                agent.call("next", {})
        assert nobody_came(there)


def test_without_the_lists_a_playlist_does_open_what_it_names(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin: FFmpeg as it is."""
    expected = hashes(film(tmp_path / "video.ts"))
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile video.ts\n")
    unguarded = av.open

    def careless(file: Any, options: dict[str, str], **more: Any) -> Any:
        return unguarded(str(tmp_path / "list.ffconcat"))

    monkeypatch.setattr(media.av, "open", careless)
    agent = inline.create(VideoDecoding, {"source": str(tmp_path / "list.ffconcat")})
    assert [frame["hash"] for frame in all_of(agent)] == expected


def test_what_is_no_video_is_refused(tmp_path: Path, inline: Inline) -> None:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16000))
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate, frame.pts = 8000, 0
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (tmp_path / "sound.wav").write_bytes(sound.getvalue())
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no video at all\n" * 500)
    (tmp_path / "noise").write_bytes(random.Random(1).randbytes(300_000))  # noqa: S311 - a test
    os.mkfifo(tmp_path / "fifo")
    for name, words in {
        "sound.mp4": "holds no video, only audio",
        "sound.wav": REFUSED,
        "empty": "is empty",
        "text": REFUSED,
        "noise": REFUSED,
        "fifo": "is no file",
        ".": "is no file|cannot be read",
        "missing": "missing",
    }.items():
        refused(inline, tmp_path / name, words)


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.avi", "video.ts", "video.h264"])
def test_a_cut_off_video_gives_what_is_there_or_says_why_not(name: str, tmp_path: Path, inline: Inline) -> None:
    whole = film(tmp_path / name, codec="mpeg4" if name.endswith("avi") else "libx264")
    content, all_frames = whole.read_bytes(), hashes(whole)
    for share in (0.02, 0.3, 0.7):
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(content[: int(len(content) * share)])
        agent = inline.create(VideoDecoding, {"source": str(cut)})
        try:
            found = [frame["hash"] for frame in all_of(agent)]
        except PeerFault as error:
            assert name == "video.mp4" or share <= 0.3, str(error)
        else:
            assert found[:-1] == all_frames[: max(0, len(found) - 1)]  # the last one may be half there
        assert agent.call("status")["host"] == "here"


def test_damage_in_the_midst_is_left_out_and_a_hop_changes_nothing(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.ts", frames=60)
    content = bytearray(path.read_bytes())
    for seed in range(2):
        dice = random.Random(seed)  # noqa: S311 - a test
        spoilt = bytearray(content)
        for _ in range(40):
            spoilt[dice.randrange(len(spoilt) // 4, len(spoilt))] ^= 1 << dice.randrange(8)
        path.write_bytes(spoilt)
        stays, goes = (inline.create(VideoDecoding, {"source": str(path)}) for _ in range(2))
        expected = [frame["hash"] for frame in all_of(stays)]
        found: list[Any] = []
        while not (answer := goes.call("next", {"frames": 9}))["end"]:
            found += answer["frames"]
            goes.hop("there" if goes.host == "here" else "here")
        found += answer["frames"]
        assert len(found) == len(expected), f"seed {seed}"


def huge(path: Path, width: int, height: int) -> Path:
    """An AVI file whose header claims pictures of that size, and that has one packet."""
    film(path, codec="mjpeg", frames=2)
    content = path.read_bytes()
    small = (96).to_bytes(4, "little") + (64).to_bytes(4, "little")
    assert small in content
    content = content.replace(small, width.to_bytes(4, "little") + height.to_bytes(4, "little"))
    # SOF0 of each JPEG: height and width, two bytes each
    size = (64).to_bytes(2, "big") + (96).to_bytes(2, "big")
    claimed = min(height, 65_500).to_bytes(2, "big") + min(width, 65_500).to_bytes(2, "big")
    path.write_bytes(content.replace(size, claimed))
    return path


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (8_000, 8_000), (65_000, 150)])
def test_pictures_that_are_too_large_are_refused_before_there_is_room_for_them(
    width: int, height: int, tmp_path: Path, inline: Inline
) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # sets the mark back
    before = _peak()
    refused(inline, huge(tmp_path / "huge.avi", width, height))
    assert _peak() - before < 300_000


def test_pictures_that_grow_midway_are_held_to_the_limit(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MAX_PIXELS", 200 * 200)
    small, large = film(tmp_path / "a.ts", frames=10), film(tmp_path / "b.ts", frames=10, size=(320, 240))
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    agent = inline.create(VideoDecoding, {"source": str(tmp_path / "both.ts")})
    try:
        sizes = {frame["width"] for frame in all_of(agent)}
    except PeerFault as error:
        assert "320 x 240" in str(error) or "cannot be decoded" in str(error)
    else:
        assert sizes == {96}


def test_frames_may_change_their_size_midway(tmp_path: Path, inline: Inline) -> None:
    small, large = film(tmp_path / "a.ts", frames=10), film(tmp_path / "b.ts", frames=10, size=(192, 128))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    agent = inline.create(VideoDecoding, {"source": str(both), "quality": "medium"})
    found = agent.call("next", {"frames": 14})["frames"]
    agent.hop("elsewhere")
    found += all_of(agent)
    assert [frame["width"] for frame in found] == [48] * 10 + [96] * 10


def test_what_is_decoded_ahead_is_bounded(tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "AHEAD_BYTES", 5 * 96 * 64 * 3 // 2)
    agent = inline.create(VideoDecoding, {"source": str(film(tmp_path / "video.mp4", frames=40))})
    agent.call("next", {"frames": 1})
    state: Any = agent.agent
    assert len(state._decoder.ready) <= 8
    assert len(all_of(agent)) == 39


def _peak() -> int:
    """KiB of memory that this process has had at most since it began, or since the mark was set back."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))


BOMB = """
import sys
from agentplatform.runners.inline import Inline
from agents.video_decoding.agent import VideoDecoding
with Inline() as inline:
    agent = inline.create(VideoDecoding, {"source": sys.argv[1]})
    agent.call("next", {"hash": False})
    count = 0
    while not (answer := agent.call("next", {"frames": 16, "hash": False}))["end"]:
        count += len(answer["frames"])
    # Not ru_maxrss, which begins with that of the parent.
    print(count, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_a_decompression_bomb_takes_bounded_memory(tmp_path: Path) -> None:
    """Black frames of nearly the largest size: some hundred kilobytes that are 2.6 GB of pixels."""
    path, (width, height) = tmp_path / "bomb.mp4", (4096, 2160)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame: Any = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(200):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert path.stat().st_size < 2_000_000
    assert width * height <= limits.MAX_PIXELS
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, timeout=100, check=True
    )
    count, peak = map(int, done.stdout.split()[-2:])
    assert count >= 190
    assert peak < 600_000  # KiB, the libraries included

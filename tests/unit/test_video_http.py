"""A video on a web server: with ranges as good as a file; without, what passes during a move is missing, and said."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentplatform.runners.inline import Inline
from agents.video_decoding import http as http_module
from agents.video_decoding.agent import VideoDecoding
from agents.video_decoding.http import AGAIN, RangeFile
from ledger.errors import Misuse, PeerFault, Unavailable
from tests.helpers.local import until
from tests.helpers.videos import all_of, film, hashes


class Web:
    """What the server does, and what it was asked."""

    def __init__(self, content: bytes) -> None:
        self.content, self.ranges, self.asked = content, True, 0
        self.redirect = ""
        self.status = 200
        self.stalls_at: int | None = None  # bytes of an answer, after which nothing comes
        self.closes_at: int | None = None  # bytes of an answer, after which the connection is closed
        self.go_on = threading.Event()
        self.drips = threading.Event()  # the head of an answer never ends


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, web: Web, *request: Any) -> None:
        self.web = web
        super().__init__(*request)

    def do_GET(self) -> None:
        web = self.web
        web.asked += 1
        if web.drips.is_set():
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            with suppress(OSError):
                while not web.go_on.wait(0.01):
                    self.wfile.write(b"x")
            return
        if web.redirect or web.status != 200:
            self.send_response(302 if web.redirect else web.status)
            self.send_header("Location", web.redirect)
            self.end_headers()
            return
        first = int((self.headers["Range"] or "bytes=0-")[6:].rstrip("-")) if web.ranges else 0
        body = web.content[first:]
        self.send_response(206 if web.ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        if web.ranges:
            self.send_header("Content-Range", f"bytes {first}-{len(web.content) - 1}/{len(web.content)}")
        self.end_headers()
        cut = web.stalls_at if web.stalls_at is not None else web.closes_at
        self.wfile.write(body[:cut])
        if web.stalls_at is not None:
            self.wfile.flush()
            web.go_on.wait(20)

    def log_message(self, *what: Any) -> None: ...


@contextmanager
def served(content: bytes) -> Iterator[tuple[str, Web]]:
    web = Web(content)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, web))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video.mp4", web
    finally:
        web.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline() as inline:
        yield inline


def test_hops_lose_no_frame_of_a_file_on_a_web_server(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.mp4", b_frames=2)
    with served(path.read_bytes()) as (url, web):
        web.closes_at = 3000  # each connection is closed early: it is asked for the rest
        agent = inline.create(VideoDecoding, {"source": url})
        found = agent.call("next", {"frames": 13})["frames"]
        agent.hop("elsewhere")
        found += agent.call("next", {"frames": 13})["frames"]
        agent.hop("here")
        found += all_of(agent)
        assert [frame["hash"] for frame in found] == hashes(path)


def test_another_file_at_the_address_is_refused_after_a_hop(tmp_path: Path, inline: Inline) -> None:
    with served(film(tmp_path / "video.mp4").read_bytes()) as (url, web):
        agent = inline.create(VideoDecoding, {"source": url})
        agent.call("next", {"frames": 3})
        web.content = film(tmp_path / "other.mp4", frames=41).read_bytes()
        agent.hop("elsewhere")
        with pytest.raises(PeerFault, match="another file by now"):
            agent.call("next", {})


def test_without_ranges_what_is_missing_is_said(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.ts")
    with served(path.read_bytes()) as (url, web):
        web.ranges = False
        agent = inline.create(VideoDecoding, {"source": url})
        assert agent.call("next", {"frames": 10})["frames"][9]["hash"] == hashes(path)[9]
        assert agent.call("status")["missed"] is None
        agent.hop("elsewhere")
        web.content = film(tmp_path / "later.ts", times=range(500, 540)).read_bytes()  # the stream has gone on
        assert len(agent.call("next", {"frames": 5})["frames"]) == 5
        missed = agent.call("status")["missed"]
        assert missed["by"] == "timestamps"
        assert missed["seconds"] == pytest.approx((500 - 9) / 25, abs=0.2)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_stalls_keeps_the_agent_from_nothing(ranges: bool, tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.ts", frames=80, size=(192, 128))
    with served(path.read_bytes()) as (url, web):
        web.ranges, web.stalls_at = ranges, path.stat().st_size // 2
        agent = inline.create(VideoDecoding, {"source": url})
        answer = agent.call("next", {"frames": 200, "wait": 0.05})
        assert answer["frames"] == [] or len(answer["frames"]) < 80
        agent.send("next", {"frames": 200, "wait": 60.0})
        assert agent.call("status")["host"] == "here"
        agent.hop("elsewhere")
        assert agent.call("metrics")["waiting"] == 1


def test_a_server_that_sends_nothing_is_given_up(
    tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "READ_SECONDS", 0.05)
    monkeypatch.setattr(http_module, "OPEN_SECONDS", 0.2)
    path = film(tmp_path / "video.ts")
    with served(path.read_bytes()) as (url, web):
        web.stalls_at = 100
        agent = inline.create(VideoDecoding, {"source": url})
        with pytest.raises((Unavailable, PeerFault), match=r"does not go on|does not answer|connection was lost"):
            agent.call("next", {})
        web.stalls_at = None
        web.go_on.set()
        assert [frame["hash"] for frame in all_of(agent)] == hashes(path)


def test_a_server_that_sends_a_little_forever_keeps_no_thread_when_nobody_waits(tmp_path: Path, inline: Inline) -> None:
    """Each read brings a byte, so none of them is late; opening does not end."""
    with served(film(tmp_path / "video.ts").read_bytes()) as (url, web):
        web.drips.set()
        agent = inline.create(VideoDecoding, {"source": url})
        for turn in range(3):
            agent.call("next", {"wait": 0.02})
            until("it is asked", lambda turn=turn: web.asked > turn)  # type: ignore[misc]
            agent.call("open", url)
        until("threads end", lambda: not [each for each in threading.enumerate() if each.name == "video decoder"])


def test_a_server_leads_nowhere_else(tmp_path: Path, inline: Inline) -> None:
    with served(b"secret") as (inner, secret), served(b"") as (url, web):
        web.redirect = inner
        agent = inline.create(VideoDecoding, {"source": url})
        with pytest.raises(PeerFault, match="not followed"):
            agent.call("next", {})
        assert secret.asked == 0
        web.redirect, web.status = "", 404
        with pytest.raises(PeerFault, match="answers 404"):
            agent.call("next", {})
        web.status = 503
        with pytest.raises(Unavailable, match="answers 503"):
            agent.call("next", {})


def test_a_range_file_reads_at_every_place() -> None:
    content = bytes(range(256)) * 4000
    with served(content) as (url, web):
        file = RangeFile(url)
        assert file.begin().startswith("1024000:")
        for place in (5, 1_000_000, 300_000, 299_000, 900_000, 900_010):
            assert file.seek(place) == place
            assert content[place:].startswith(file.read(100))
        assert file.seek(-3, 2) == 1_023_997
        assert file.read(100) == b"\xfd\xfe\xff"
        assert file.read(100) == b""
        file.close()
        assert web.asked < 9


def test_a_server_that_closes_before_the_end_ends_nothing(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.ts", frames=300)
    with served(path.read_bytes()) as (url, web):
        agent = inline.create(VideoDecoding, {"source": url})
        web.closes_at = 0
        with pytest.raises(Unavailable, match="does not go on"):
            agent.call("next")
        assert web.asked <= 1 + AGAIN
        web.closes_at = len(web.content) // 3
        found = agent.call("next", {"frames": 2})["frames"]
        web.closes_at = 0
        with pytest.raises(Unavailable):
            while True:
                answer = agent.call("next", {"frames": 50})
                found += answer["frames"]
                assert not answer["end"]
        web.closes_at = None
        found += all_of(agent)
        assert [frame["hash"] for frame in found] == hashes(path)


def test_without_ranges_a_lost_connection_is_no_end(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.ts", frames=60)
    with served(path.read_bytes()) as (url, web):
        web.ranges, web.closes_at = False, path.stat().st_size // 2
        agent = inline.create(VideoDecoding, {"source": url})
        found: list[Any] = []
        while len(found) < 60:
            answer = agent.call("next", {"frames": 50})
            found += answer["frames"]
            assert not answer["end"]
        assert agent.call("status")["missed"] is not None


def test_a_wrong_question_does_not_part_a_live_stream(tmp_path: Path, inline: Inline) -> None:
    path = film(tmp_path / "video.ts")
    with served(path.read_bytes()) as (url, web):
        web.ranges = False
        agent = inline.create(VideoDecoding, {"source": url})
        found = agent.call("next", {"frames": 5})["frames"]
        with pytest.raises(PeerFault, match="not next"):
            agent.call("next", {"at": 77})
        found += agent.call("next", {"frames": 5})["frames"]
        assert [frame["hash"] for frame in found] == hashes(path)[:10]
        assert web.asked == 1


@pytest.mark.parametrize("url", ["http://[::1/x", "http://a:99999/x", "http://a/my video.mp4", "rtsp://a/x\r\nSET a b"])
def test_what_is_no_address_is_said_at_once_and_the_old_video_stays(url: str, tmp_path: Path, inline: Inline) -> None:
    with pytest.raises(Misuse, match=r"is no address|no address has"):
        inline.create(VideoDecoding, {"source": url})
    with served(film(tmp_path / "video.mp4").read_bytes()) as (good, web):
        web.stalls_at = 0
        agent = inline.create(VideoDecoding, {"source": good})
        agent.send("next", {"wait": 60.0})
        with pytest.raises(PeerFault, match=r"is no address|no address has"):
            agent.call("open", url)
        assert agent.call("metrics")["waiting"] == 1
        assert agent.call("status")["source"] == good

"""Who connects to the endpoint is a stranger until it shows the token: a web page, an agent of this machine, anybody.

What each of these attacks wants it does not get, and the honest request beside it is answered.
"""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentplatform.bulletins import Endpoint as Told
from agentplatform.endpoint import bodies, door, repeats, server
from agentplatform.endpoint.door import Door
from agentplatform.endpoint.metrics import MAX_PAIRS
from agentplatform.endpoint.outcome import Outcome
from agentplatform.endpoint.repeats import Repeats
from agentplatform.whereabouts import Located
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from tests.helpers.endpoint_twin import AGENT, OTHER, SERVICE, TOKEN, Scene, endpoint, said, until

LOOK = f"/agents/{AGENT}/look"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER_SECONDS", 0.05)


async def honest(scene: Scene) -> None:
    """Whatever was attacked before, this is answered."""
    answer = await scene.ask(body=b'"hello"')
    assert (answer.status, answer.body) == (200, b'["look","hello"]')
    scene.host.asked.clear()


# Who may ask


@pytest.mark.parametrize("path", [LOOK, "/agents/nobody/look", f"/agents/{OTHER}/look", f"/services/{SERVICE}/look"])
async def test_without_the_token_nothing_is_asked_nor_told_of_who_there_is(tmp_path: Path, path: str) -> None:
    async with endpoint(tmp_path) as scene:
        answers = [await scene.ask(path, token=None), await scene.ask("/agents/never-heard-of/look", token=None)]
        assert [each.status for each in answers] == [401, 401] and answers[0].body == answers[1].body
        assert not scene.host.asked
        await honest(scene)


@pytest.mark.parametrize(
    "said", ["Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[1:]}", f"Basic {TOKEN}", TOKEN, "Bearer \xff"]
)
async def test_a_wrong_token_is_refused_also_for_what_is_public(tmp_path: Path, said: str) -> None:
    async with endpoint(tmp_path, public=(SERVICE,)) as scene:
        assert (await scene.ask(token=None, Authorization=said)).status == 401
        assert not scene.host.asked
        await honest(scene)


async def test_strangers_may_ask_what_is_public_and_no_more(tmp_path: Path) -> None:
    async with endpoint(tmp_path, public=(f"{SERVICE}/look",)) as scene:
        for path in (f"/services/{SERVICE}/look", LOOK):  # by its id too: requests are sent on to that
            assert (await scene.ask(path, token=None)).status == 200
        scene.host.asked.clear()
        closed = (
            f"/services/{SERVICE}/forget",
            f"/agents/{AGENT}/forget",
            f"/agents/{OTHER}/look",
            "/agents/face/look",
        )
        for path in (*closed, f"/services/{SERVICE}/look%2F", f"/services/{SERVICE}/LOOK", "/metrics"):
            method = "GET" if path == "/metrics" else "POST"
            assert (await scene.ask(path, token=None, method=method)).status == 401, path
        assert not scene.host.asked
        await honest(scene)


async def test_who_asks_is_a_client_of_the_host_and_nobody_else(tmp_path: Path) -> None:
    """No header, path or body gives an order, or names another sender."""
    async with endpoint(tmp_path) as scene:
        await scene.ask(X_Sender=AGENT, Client="client-x", From=OTHER)
        (client,) = scene.host.clients
        assert client.startswith("client-http-") and scene.host.asked.pop() == (AGENT, "look", None)
        for kind in ("eds%2Foverload", "eds/overload", "eds%2f"):
            assert (await scene.ask(f"/agents/{AGENT}/{kind}")).status in (400, 404)
        for name in ("services%3A", "eds%3A", "client-1@north", "", "%20", "a" * 200):
            assert (await scene.ask(f"/agents/{name}/find")).status == 404, name
        assert not scene.host.asked


# Web pages


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "[::1",
        "a@127.0.0.1@evil.example",
    ],
)
async def test_a_name_that_was_pointed_here_is_refused(tmp_path: Path, host: str) -> None:
    async with endpoint(tmp_path, public=(SERVICE,)) as scene:
        for path, method in ((LOOK, "POST"), ("/healthz", "GET")):
            assert (await scene.ask(path, method=method, Host=host)).status in (400, 421)
        assert not scene.host.asked
        await honest(scene)


async def test_its_own_names_are_heard(tmp_path: Path) -> None:
    async with endpoint(tmp_path, names=("North.Example",)) as scene:
        for host in (
            "localhost",
            f"127.0.0.1:{scene.port}",
            "[::1]:80",
            "10.1.2.3",
            "north.example:443",
            "NORTH.example",
        ):
            assert (await scene.ask(Host=host)).status == 200, host


async def test_pages_of_others_are_refused_whatever_is_public(tmp_path: Path) -> None:
    async with endpoint(tmp_path, public=(SERVICE,)) as scene:
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{scene.port}"):
            answer = await scene.ask(f"/services/{SERVICE}/look", token=None, Origin=origin)
            assert answer.status == 403 and "access-control-allow-origin" not in answer.headers
        preflight = await scene.ask(LOOK, method="OPTIONS", Access_Control_Request_Method="POST")
        assert preflight.status == 405 and not any(name.startswith("access-control") for name in preflight.headers)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):  # what a form can send
            assert (await scene.ask(f"/services/{SERVICE}/look", token=None, Content_Type=kind)).status == 415
        assert not scene.host.asked
        await honest(scene)


# Paths and heads


@pytest.mark.parametrize(
    "path",
    [
        *("/", "//", f"/{LOOK}", f"{LOOK}/", f"{LOOK}/x", "/agents", f"/agents/{AGENT}", "/agents//look", "*"),
        *("/agents/%2e%2e/look", "/agents/../agents/x", f"/AGENTS/{AGENT}/look", f"/agents%2F{AGENT}/look"),
        *(f"/agents/{AGENT}%2Flook", f"/agents/{AGENT}/%00", f"/agents/{AGENT}/%0d%0aX-Evil:1", f"/agents/{AGENT}/%ff"),
        *(f"/agents/{AGENT}/", f"/agents/{AGENT}%20/look", f"/agents/{AGENT}/{'k' * 257}", "/metrics/../" + LOOK),
        *(f"{LOOK}?timeout={seconds}" for seconds in ("nan", "-1", "1e300", "0", "", "1&timeout=2")),
        *(f"{LOOK}?moving=x", f"{LOOK}?x=1", f"{LOOK}?version=1.0", f"http://127.0.0.1{LOOK}", "/services/Faces/look"),
        *(f"/services/{SERVICE}/look?version=x", f"/services/{SERVICE}/look?owner=me", f"/agents/{'a' * 4000}/look"),
    ],
)
async def test_a_crooked_path_leads_nowhere(tmp_path: Path, path: str) -> None:
    async with endpoint(tmp_path) as scene:
        answer = await scene.ask(path)
        assert answer.status in (400, 404, 414) and "x-evil" not in answer.headers
        assert not scene.host.asked
        await honest(scene)


async def test_a_flood_of_headers_and_a_long_one_are_refused(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as scene:
        assert (await scene.ask(**{f"X{number}": "y" for number in range(1_000)})).status in (0, 400, 431)
        assert (await scene.ask(X="y" * 100_000)).status in (0, 400, 431)
        assert (await scene.say(b"\x16\x03\x01" * 1_000)).status in (0, 400)
        smuggled = (
            b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert (await scene.say(smuggled)).status in (400, 401)
        assert not scene.host.asked
        await honest(scene)


# Bodies


async def test_more_than_a_body_may_have_is_not_read(tmp_path: Path) -> None:
    async with endpoint(tmp_path, body=1000, memory=4000) as scene:
        assert (await scene.ask(body=b"", Content_Length="1001")).status == 413  # none of it came
        head = f"POST {LOOK} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        reader, writer = await scene.connect()
        writer.write(head.encode() + b"Transfer-Encoding: chunked\r\nContent-Type: image/png\r\n\r\n")
        while not reader.at_eof() and not reader._buffer:  # type: ignore[attr-defined]  # without end
            writer.write(b"40\r\n" + b"x" * 64 + b"\r\n")
            await asyncio.sleep(0)
        assert (await said(reader)).status in (0, 413)
        writer.close()
        assert not scene.host.asked
        await honest(scene)


async def test_what_waits_in_strangers_bodies_leaves_room_for_others(tmp_path: Path) -> None:
    async with endpoint(tmp_path, body=1000, memory=2000, public=(SERVICE,)) as scene:
        open_ones = []
        for _ in range(3):  # each sends most of its body, and then nothing
            reader, writer = await scene.connect()
            head = f"POST {LOOK} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 900\r\n\r\n"
            writer.write(head.encode() + b"x" * 600)
            open_ones.append((reader, writer))
        refused = await said(open_ones[-1][0])
        assert refused.status == 503 and refused.headers["retry-after"] == "1"
        assert (await scene.ask(body=b"x" * 900, Content_Type="image/png")).status == 200
        for _, writer in open_ones:
            writer.close()


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b'"\xff"', 400),
        ("application/json", b"1" * 400, 400),
        ("application/json", nested(200), 400),
        ("application/json", nested(400_000), 400),
        ("application/json", b'{"a": {"$bytes": "not base64!"}}', 400),
        ("application/json", b'{"$bytes": 7}', 400),
        ("application/json", b'"' + b"x" * (1 << 20) + b'"', 400),
        ("application/msgpack", b"", 400),
        ("application/msgpack", b"\xc1", 400),
        ("application/msgpack", b"\x91" * 400_000, 400),
        ("application/msgpack", b"\xdd\xff\xff\xff\xff", 400),
        ("application/msgpack", b"\xc0\xc0", 400),
        ("", b"x", 415),
        ("text/html", b"x", 415),
    ],
)
async def test_a_body_that_is_not_what_it_says_is_refused(tmp_path: Path, kind: str, body: bytes, status: int) -> None:
    async with endpoint(tmp_path) as scene:
        answer = await scene.ask(body=body, Content_Type=kind)
        assert answer.status == status and msgspec.json.decode(answer.body)["error"] == "Misuse"
        assert not scene.host.asked
        await honest(scene)


async def test_nothing_is_inflated(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as scene:
        assert (await scene.ask(body=b"\x1f\x8b", Content_Encoding="gzip")).status == 415
        head = f"POST {LOOK} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
        packed = head + "Content-Type: application/json\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\n7\r\n0\r\n\r\n"
        assert (await scene.say(packed.encode())).status == 415
        assert not scene.host.asked
        assert (await scene.say(packed.replace("gzip, ", "").encode())).status == 200


@pytest.mark.parametrize("header", ["Accept", "Content-Type"])
async def test_a_head_that_is_no_text_makes_no_fault_of_the_host(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    async with endpoint(tmp_path) as scene:
        head = f"POST {LOOK} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nIdempotency-Key: k\r\n"
        answer = await scene.say(f"{head}{header}: application/json;".encode() + b"\xff\xfe\r\n\r\n")
        assert answer.status in (200, 400) and "Traceback" not in caplog.text
        await honest(scene)


def test_an_answer_that_is_large_is_not_unpacked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could take 70 times its size, whatever type somebody says that he wants."""
    unpacked: list[int] = []
    decode = codec.decode
    monkeypatch.setattr(codec, "decode", lambda body, *more: unpacked.append(len(body)) or decode(body, *more))
    large = codec.encode([{}] * (2 << 20))
    for accept in ("application/octet-stream, application/json", "application/json", "*/*"):
        assert bodies.given(large, accept, "a") == (bodies.MSGPACK, large)
    assert not unpacked
    assert bodies.given(codec.encode(b"x" * (2 << 20)), bodies.BYTES, "a") == (bodies.BYTES, b"x" * (2 << 20))


# Time and number


async def test_a_head_that_trickles_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    async with endpoint(tmp_path) as scene:
        reader, writer = await scene.connect()
        writer.write(b"POST / HTTP/1.1\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.02)

        trickling = asyncio.ensure_future(trickle())
        assert (await said(reader)).status in (0, 400, 408)
        trickling.cancel()
        await honest(scene)


async def test_a_body_that_trickles_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.1)
    async with endpoint(tmp_path) as scene:
        assert (await scene.ask(body=b"x", Content_Length="2")).status == 408
        assert not scene.host.asked
        await honest(scene)


async def test_who_does_not_take_its_answer_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WRITE_SECONDS", 0.2)

    async def large(kind: str, body: Any) -> Any:
        return b"x" * (14 << 20)

    async with endpoint(tmp_path, large) as scene:
        _, writer = await scene.connect()
        writer.write(f"POST {LOOK} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        await until(lambda: scene.host.asked and not scene.endpoint._server.connections)  # nothing is read here
        writer.transport.abort()


async def test_idle_connections_make_room_for_who_asks(tmp_path: Path) -> None:
    async with endpoint(tmp_path, connections=5) as scene:
        idle = [await scene.connect() for _ in range(20)]
        await honest(scene)
        gone = [reader for reader, _ in idle if await hung_up(reader)]
        assert len(gone) >= 16
        for _, writer in idle:
            writer.close()


async def test_those_that_wait_for_one_key_make_room_too(tmp_path: Path) -> None:
    """However many they are, they are one request."""
    gate = asyncio.Event()

    async def slow(kind: str, body: Any) -> Any:
        if kind == "slow":
            await gate.wait()
        return [kind, body]

    async with endpoint(tmp_path, slow, connections=5, public=(SERVICE,)) as scene:
        path = f"/agents/{AGENT}/slow"
        first = asyncio.ensure_future(scene.ask(path, token=None, Idempotency_Key="k"))
        await until(lambda: scene.host.asked)
        others = [asyncio.ensure_future(scene.ask(path, token=None, Idempotency_Key="k")) for _ in range(10)]
        await until(lambda: len(scene.endpoint._server.connections) >= 5)
        await honest(scene)
        await until(lambda: sum(each.done() for each in others) >= 6)  # the others are all there is room for
        gate.set()
        assert (await first).status == 200 and {(await each).status for each in others} <= {0, 200}


async def test_there_is_an_end_to_those_that_wait_for_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MAX_WAITING", 2)
    gate = asyncio.Event()

    async def slow(kind: str, body: Any) -> Any:
        await gate.wait()

    async with endpoint(tmp_path, slow) as scene:
        asked = [asyncio.ensure_future(scene.ask(Idempotency_Key="k")) for _ in range(5)]
        await until(lambda: sum(each.done() for each in asked) == 2)
        gate.set()
        assert sorted([(await each).status for each in asked]) == [200, 200, 200, 503, 503]
        assert len(scene.host.asked) == 1


async def hung_up(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), 0.05) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


async def test_neither_strangers_nor_one_agent_take_all_requests(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(kind: str, body: Any) -> Any:
        if kind == "slow":
            await gate.wait()
        return kind

    async with endpoint(tmp_path, slow, public=(SERVICE,), at_once=8) as scene:
        waiting = [asyncio.ensure_future(scene.ask(f"/agents/{AGENT}/slow", token=None)) for _ in range(4)]
        await until(lambda: len(scene.host.asked) == 4)
        refused = await scene.ask(f"/services/{SERVICE}/slow", token=None)
        assert refused.status == 503 and refused.headers["retry-after"] == "1"
        assert (await scene.ask(LOOK)).status == 503, "of one agent no more"
        assert (await scene.ask(f"/agents/{OTHER}/look")).status == 200
        gate.set()
        assert {(await each).status for each in waiting} == {200}


# Memory


async def test_invented_names_do_not_grow_the_metrics(tmp_path: Path) -> None:
    async with endpoint(tmp_path, public=(SERVICE,)) as scene:
        for number in range(50):
            await scene.ask(f"/agents/nobody-{number}/kind-{number}")
            await scene.ask(f"/services/service-{number}/kind-{number}", token=None)
        before = (await scene.ask("/metrics", method="GET")).body
        assert b"kind-" not in before and b"nobody" not in before
        metrics = scene.endpoint._metrics
        for number in range(2 * MAX_PAIRS):
            metrics.asked("faces", f"kind-{number}", "answered", 0.01)
        told = metrics.told().decode()
        pairs = {line.split("{")[1].split("}")[0] for line in told.splitlines() if "seconds_count{" in line}
        assert len(pairs) == MAX_PAIRS + 1 and 'kind="other",service="other"' in pairs


def test_a_kept_answer_is_not_forgotten_for_want_of_room_but_new_keys_are_refused() -> None:
    now = [0.0]
    kept = Repeats(lambda: now[0], most=2, room=10_000)

    async def do() -> Outcome:
        return Outcome(200, "answered", b"x")

    async def scene() -> None:
        for key in (b"a", b"b"):
            assert not (await kept.once(key, b"q", do))[1]
        with pytest.raises(Unavailable, match="too many answers"):
            await kept.once(b"c", b"q", do)
        assert (await kept.once(b"a", b"q", do))[1]
        with pytest.raises(Misuse, match="another request"):
            await kept.once(b"a", b"other", do)
        now[0] = 121.0
        assert not (await kept.once(b"c", b"q", do))[1] and not (await kept.once(b"a", b"q", do))[1]

    asyncio.run(scene())


def test_a_key_whose_first_request_was_broken_off_is_handled_no_more() -> None:
    kept, handled = Repeats(lambda: 0.0), []

    async def breaks_off() -> Outcome:
        handled.append(1)
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def scene() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await kept.once(b"a", b"q", breaks_off)
        outcome, again = await kept.once(b"a", b"q", breaks_off)
        assert (outcome.status, again, handled) == (504, True, [1])

    asyncio.run(scene())


# Other hosts


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "http://a/b",
        "http://u:p@a",
        "http://a\r\nX: y",
        "ftp://a",
        "http://a:99999",
        "http://A",
        "",
        "//a",
        "http://" + "a" * 300,
    ],
)
def test_a_host_cannot_tell_what_is_no_address(address: str) -> None:
    with pytest.raises(PeerFault, match=r"^liar: sent bytes"):
        codec.decode(codec.encode(["endpoint", address]), Told, "liar")


async def test_requests_are_sent_on_to_trusted_hosts_alone(tmp_path: Path) -> None:
    async with endpoint(tmp_path, moving="forward") as scene:
        host = scene.host
        host.mailroom.boxes.clear()
        host.exchange.endpoints |= {"south": "http://10.0.0.2:80", "west": "http://10.0.0.3:80"}
        host.whereabouts.learn(Located(AGENT, 2, "south"))
        sent_on = await scene.ask(f"/agents/{AGENT}/a%0Ab")
        assert sent_on.status == 404, "what cannot be printed is no kind"
        sent_on = await scene.ask(f"/agents/{AGENT}/a%3Fb%2Fc%20d?timeout=5")
        assert sent_on.status == 307
        assert sent_on.headers["location"].startswith(f"http://10.0.0.2:80/agents/{AGENT}/a%3Fb%2Fc%20d?timeout=")
        host.whereabouts.learn(Located(AGENT, 3, "west"))
        assert (await scene.ask()).status == 200, "the answer comes through here"
        assert len(host.asked) == 1


# The token's file


def test_a_token_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "http.token"
    token = door.load_or_create(path)
    assert len(token) == 64 and path.stat().st_mode & 0o777 == 0o600 and door.load_or_create(path) == token
    path.chmod(0o644)
    with pytest.raises(Misuse):
        door.load_or_create(path)
    path.chmod(0o600)
    for content in (b"", b"short", b"x" * 600, b"\xff" * 40, b"a token with spaces in it"):
        path.write_bytes(content)
        with pytest.raises(Misuse, match="holds no token"):
            door.load_or_create(path)


# The attacks above find a door that stands open


class _AnyName(Door):
    def check_origin(self, headers: Any) -> None:
        pass


class _AnyToken(Door):
    def has_token(self, headers: Any) -> bool:
        return True


class _AllPublic(Door):
    def check(self, trusted: bool, service: str | None, kind: str) -> None:
        pass


@pytest.mark.parametrize(
    ("twin", "attack"),
    [
        (_AnyName, lambda path: test_a_name_that_was_pointed_here_is_refused(path, "evil.example")),
        (_AnyName, test_pages_of_others_are_refused_whatever_is_public),
        (_AnyToken, lambda path: test_a_wrong_token_is_refused_also_for_what_is_public(path, "Bearer x")),
        (_AllPublic, test_strangers_may_ask_what_is_public_and_no_more),
        (_AllPublic, lambda path: test_without_the_token_nothing_is_asked_nor_told_of_who_there_is(path, LOOK)),
    ],
)
async def test_a_broken_door_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twin: type[Door], attack: Callable[[Path], Any]
) -> None:
    monkeypatch.setattr(server, "Door", twin)
    with pytest.raises(AssertionError):
        await attack(tmp_path)


def test_bytes_go_both_ways_in_json() -> None:
    body = bodies.taken("application/json; charset=utf-8", b'{"picture": {"$bytes": "/9j/"}, "n": [1, 2.5, null]}')
    assert codec.decode(body, object) == {"picture": base64.b64decode("/9j/"), "n": [1, 2.5, None]}
    assert bodies.given(body, "*/*", "a")[1] == b'{"n":[1,2.5,null],"picture":{"$bytes":"/9j/"}}'

"""The endpoint of a host: what a request ends with, and what it does about an agent that moves (attacks on it are in
tests/security/test_http.py, real moves in tests/end_to_end/test_requests_on_hosts.py)."""

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from agentplatform import daemon
from agentplatform.addresses import told
from agentplatform.custody.surroundings import Hop
from agentplatform.endpoint import server
from agentplatform.endpoint.bodies import MSGPACK
from agentplatform.settings import Home, Http, Settings
from agentplatform.whereabouts import Located
from ledger import codec
from ledger.errors import Misuse, OutcomeUnknown, PeerFault, Unavailable
from tests.helpers.endpoint_twin import AGENT, SERVICE, TOKEN, Scene, endpoint, until

LOOK = f"/agents/{AGENT}/look"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER_SECONDS", 0.05)


async def raising(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "kind", "retry"),
    [
        (Misuse("no number"), 400, "Misuse", None),
        (PeerFault("model", "broken"), 502, "PeerFault", None),
        (Unavailable("busy", 2.5), 503, "Unavailable", "3"),
        (Unavailable("busy", 0.01), 503, "Unavailable", "1"),
        (Unavailable("busy"), 503, "Unavailable", "1"),
        (OutcomeUnknown("the other one did not answer", 2.5), 504, "Unavailable", None),
    ],
)
async def test_an_agents_error_has_its_status(
    tmp_path: Path, error: Exception, status: int, kind: str, retry: str | None
) -> None:
    async with endpoint(tmp_path, lambda *_: raising(error)) as scene:
        answer = await scene.ask()
        said = msgspec.json.decode(answer.body)
        assert (answer.status, said["error"], answer.headers.get("retry-after")) == (status, kind, retry)
        assert AGENT in said["message"]
        if retry is not None:
            assert said["retry_after"] == (error.retry_after or 1.0)  # type: ignore[attr-defined]


async def test_what_comes_too_late_says_so_and_what_is_not_there_too(tmp_path: Path) -> None:
    async with endpoint(tmp_path, lambda *_: asyncio.Event().wait()) as scene:
        assert (await scene.ask(f"{LOOK}?timeout=0.02")).status == 504
        assert (await scene.ask(Prefer="moving=hold, wait=0.02")).status == 504
        for path in ("/agents/nobody/look", "/services/none/look", f"/services/{SERVICE}/look?version=2.0", "/x"):
            assert (await scene.ask(path)).status == 404, path
        scene.host.started_at = float("inf")  # it has just started: it may hear of them yet
        young = await scene.ask("/agents/nobody/look")
        assert young.status == 503 and young.headers["retry-after"] == "1"
        scene.host.whereabouts.learn(Located(AGENT, 1, "north", 1000))
        assert (await scene.ask()).status == 410


@pytest.mark.parametrize(
    ("kind", "body", "accept", "given", "answer"),
    [
        ("application/json", b'{"a":1}', "*/*", "application/json", b'["look",{"a":1}]'),
        ("image/png", b"\x89PNG", "", "application/json", b'["look",{"$bytes":"iVBORw=="}]'),
        (MSGPACK, codec.encode([1]), MSGPACK, MSGPACK, codec.encode(["look", [1]])),
        ("application/octet-stream", b"x", "application/x-msgpack", MSGPACK, codec.encode(["look", b"x"])),
        ("", b"", "application/json", "application/json", b'["look",null]'),
    ],
)  # fmt: skip
async def test_bodies_and_answers_have_the_type_that_is_said(
    tmp_path: Path, kind: str, body: bytes, accept: str, given: str, answer: bytes
) -> None:
    async with endpoint(tmp_path) as scene:
        said = await scene.ask(body=body, Content_Type=kind, Accept=accept)
        assert (said.status, said.headers["content-type"], said.body) == (200, given, answer)


async def test_bytes_come_as_such_where_they_are_wanted_and_what_is_large_as_messagepack(tmp_path: Path) -> None:
    async def bare(kind: str, body: Any) -> Any:
        return body

    async with endpoint(tmp_path, bare) as scene:
        said = await scene.ask(
            body=b"abc", Content_Type="image/jpeg", Accept="application/octet-stream, application/json"
        )
        assert (said.headers["content-type"], said.body) == ("application/octet-stream", b"abc")
        large = codec.encode("x" * (2 << 20))
        said = await scene.ask(body=large, Content_Type="application/msgpack", Accept="application/json")
        assert (said.headers["content-type"], said.body) == ("application/msgpack", large)


async def test_who_asks_first_whether_its_body_is_wanted_hears_so(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as scene:
        head = await scene.ask(body=b"7", Expect="100-continue")
        assert head.status == 100 and head.body.startswith(b"HTTP/1.1 200 OK") and head.body.endswith(b'["look",7]')
        refused = await scene.ask(token=None, body=b"7", Expect="100-continue")
        assert refused.status == 401, "before the body is sent"
        assert (await scene.ask(Expect="more")).status == 417
        old = f"POST {LOOK} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        assert (await scene.say(f"{old}Expect: 100-continue\r\n\r\n".encode())).status == 200, "HTTP/1.0 knows no 100"


# Twice


async def test_a_key_that_comes_twice_is_handled_once_also_while_the_first_waits(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(kind: str, body: Any) -> Any:
        await gate.wait()
        return body

    async with endpoint(tmp_path, slow) as scene:
        both = [asyncio.ensure_future(scene.ask(body=b"7", Idempotency_Key="k")) for _ in range(2)]
        await until(lambda: len(scene.endpoint._server.connections) == 2 and scene.host.asked)
        gate.set()
        answers = [await each for each in both]
        answers.append(await scene.ask(body=b"7", Idempotency_Key="k"))
        assert [answer.body for answer in answers] == [b"7"] * 3 and len(scene.host.asked) == 1
        assert answers[2].headers["idempotency-replayed"] == "true"
        assert (await scene.ask(body=b"8", Idempotency_Key="k")).status == 400
        assert (await scene.ask(body=b"8", Idempotency_Key="")).status == 400
        path = f"/services/{SERVICE}/look"
        assert (await scene.ask(path, Idempotency_Key="s")).status == 200
        assert (await scene.ask(f"{path}?version=1.0", Idempotency_Key="s")).status == 400
        assert (await scene.ask(f"{path}?timeout=9", Idempotency_Key="s")).status == 200
        await scene.ask(body=b"7", Idempotency_Key="other")
        await scene.ask(body=b"7")
        assert len(scene.host.asked) == 4


async def test_a_refusal_is_not_kept_and_a_lost_answer_is(tmp_path: Path) -> None:
    errors: list[BaseException | None] = [Unavailable("busy", 0.01), None]

    async def at_last(kind: str, body: Any) -> Any:
        error = errors.pop(0)
        if error is not None:
            raise error
        return "done"

    async with endpoint(tmp_path, at_last) as scene:
        assert [(await scene.ask(Idempotency_Key="k")).status for _ in range(3)] == [503, 200, 200]
        assert not errors


async def test_another_life_of_the_endpoint_is_told_apart(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as scene:
        life = (await scene.ask("/healthz", method="GET")).headers["incarnation"]
        assert (await scene.ask(Incarnation=life)).status == 200
        assert (await scene.ask(Incarnation="f" * 16)).status == 409
        assert (await scene.ask(Incarnation="x")).status == 400
        assert len(scene.host.asked) == 1


# While the agent moves


def leaves(scene: Scene) -> None:
    scene.host.box.open = False


def stays(scene: Scene) -> None:
    scene.host.box.open = True


def has_left(scene: Scene) -> None:
    scene.host.mailroom.boxes.clear()
    scene.host.whereabouts.learn(Located(AGENT, 2, "south"))
    scene.host.mailroom.settled(AGENT)


@pytest.mark.parametrize("said", ["?moving=forward", ""])
async def test_forward_waits_for_the_end_of_the_move_and_goes_after_it(tmp_path: Path, said: str) -> None:
    async with endpoint(tmp_path) as scene:
        scene.host.exchange.endpoints["south"] = "http://10.0.0.2:8080"
        leaves(scene)
        asked = asyncio.ensure_future(scene.ask(LOOK + said, Prefer="moving=forward"))
        await until(lambda: scene.endpoint._desk.moves._waiting)
        has_left(scene)
        answer = await asked
        assert answer.status == 307 and not scene.host.asked
        to, _, query = answer.headers["location"].partition("?timeout=")
        assert to == f"http://10.0.0.2:8080{LOOK}" and 0 < float(query.removesuffix("&moving=forward")) <= 30


async def test_forward_is_answered_here_when_the_agent_stays_or_its_host_has_no_endpoint(tmp_path: Path) -> None:
    async with endpoint(tmp_path, moving="forward") as scene:
        leaves(scene)
        asked = asyncio.ensure_future(scene.ask())
        await until(lambda: scene.endpoint._desk.moves._waiting)
        stays(scene)
        assert (await asked).status == 200  # nothing rang, and it was looked at
        leaves(scene)
        has_left(scene)
        assert (await scene.ask()).status == 200
        assert not scene.endpoint._desk.moves._waiting


async def test_refuse_says_when_to_come_again_by_the_moves_of_late(tmp_path: Path) -> None:
    async with endpoint(tmp_path, moving="refuse") as scene:
        leaves(scene)
        first = await scene.ask()
        assert first.status == 503 and first.headers["retry-after"] == "1"
        for downtime_ms in (1_200.0, 2_400.0, 90_000.0):
            hop: Any = SimpleNamespace(spec=Hop, downtime_ms=downtime_ms)
            scene.host.hops.add(hop)
        answer = await scene.ask()
        assert answer.headers["retry-after"] == "3" and msgspec.json.decode(answer.body)["retry_after"] == 2.4
        scene.host.mailroom.boxes.clear()
        scene.host.machine.arriving_by[AGENT] = b"transfer"
        assert (await scene.ask()).status == 503
        stays(scene)
        scene.host.mailroom.boxes[AGENT] = scene.host.box  # it runs, though that is not durable yet
        assert (await scene.ask()).status == 200 and len(scene.host.asked) == 1


async def test_hold_is_handed_to_the_mail_which_waits_for_the_move(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as scene:
        leaves(scene)
        assert (await scene.ask()).status == 200 and len(scene.host.asked) == 1


async def test_a_move_that_outlasts_the_request_is_no_unknown_outcome(tmp_path: Path) -> None:
    async with endpoint(tmp_path, moving="forward") as scene:
        leaves(scene)
        answer = await scene.ask(f"{LOOK}?timeout=0.05")
        assert answer.status == 503 and not scene.host.asked


# Settings, and what is needed


@pytest.mark.parametrize(
    ("listen", "links", "address"),
    [
        ("127.0.0.1:8080", "127.0.0.1:1", "http://127.0.0.1:8080"),
        ("[::1]:8080", "localhost:1", "http://[::1]:8080"),
        ("127.0.0.1:8080", "10.0.0.1:1", ""),  # of no use to hosts elsewhere
        ("10.0.0.1:8080", "10.0.0.1:1", "http://10.0.0.1:8080"),
        ("0.0.0.0:8080", "10.0.0.1:1", ""),
    ],
)
def test_others_are_told_an_address_that_is_of_use_to_them(listen: str, links: str, address: str) -> None:
    assert told(listen, links) == address


@pytest.mark.parametrize(
    "wrong",
    [
        *('listen = "8080"', 'listen = "a:0"', 'address = "north:80"', 'moving = "later"', "patience = 0", "body = 0"),
        *("patience = 9000.0", "at_once = 1", "connections = 0", "memory = 1", "public = 7"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, wrong: str) -> None:
    home = Home(tmp_path)
    said = f'host = "north"\norganisation = "o"\nlisten = "127.0.0.1:1"\n[http]\n{wrong}\n'
    home.settings_file.write_text(said)
    with pytest.raises(Misuse, match=r"host.toml: .*\$.http.*; mend it and start again"):
        home.settings()


def test_without_what_it_needs_the_host_does_not_start_and_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings("north", "o", "127.0.0.1:1", http=Http(listen="127.0.0.1:8080"))
    here: Any = SimpleNamespace(settings=settings, home=Home(Path("north")))
    monkeypatch.delitem(sys.modules, "agentplatform.endpoint.server")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(Misuse, match=r"needs aiohttp: pip install agentplatform\[http\]"):
        daemon.endpoint_of(here)
    here.settings = Settings("north", "o", "127.0.0.1:1")
    assert daemon.endpoint_of(here)() is None


def test_a_host_without_an_endpoint_imports_nothing_of_it() -> None:
    program = (
        "import sys, agentplatform.daemon, agentplatform.console.verbs, agentplatform.requests; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "agentplatform.daemon" in loaded
    assert not {"aiohttp", "prometheus_client", "agentplatform.endpoint.server"} & set(loaded)

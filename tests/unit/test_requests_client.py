"""The client of endpoints: where it goes, whom it shows its token, and what it asks twice."""

import contextlib
import http.client
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agentplatform.consortium import free_ports
from agentplatform.endpoint.bodies import given, taken
from agentplatform.requests import Client, OutcomeUnknown, bodies, connections
from agentplatform.requests import client as requesting
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable

TOKEN = "a token of this test"
CUT = "hang up"  # after the request was heard, and handled
Said = tuple[int, Any, dict[str, str]] | str


def ok(value: Any) -> Said:
    return 200, value, {}


class Server:
    """An endpoint that says what it is told to, request by request; the last for ever."""

    def __init__(self, *says: Said, incarnation: str = "0123456789abcdef") -> None:
        self.says, self.incarnation = list(says), incarnation
        self.heard: list[dict[str, str]] = []  # headers of requests
        self.paths: list[str] = []
        self.handled: list[str] = []  # the keys of requests that were answered with 200, or not at all
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(200, {"status": "ok"}, {})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                server.heard.append(dict(self.headers))
                server.paths.append(self.path)
                said = server.says.pop(0) if len(server.says) > 1 else server.says[0]
                known = self.headers["Idempotency-Key"]
                if self.headers["Incarnation"] != server.incarnation:
                    said = 409, {"error": "Misuse", "message": "started again since"}, {}
                elif (said == CUT or said[0] == 200) and known not in server.handled:
                    server.handled.append(known)
                if isinstance(said, str):
                    self.close_connection = True
                    self.connection.close()
                else:
                    self._say(*said)

            def _say(self, status: int, value: Any, headers: dict[str, str]) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                said = {"Content-Type": "application/json", "Incarnation": server.incarnation, **headers}
                for name, each in {"Content-Length": str(len(body)), **said}.items():
                    self.send_header(name, each)
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = "Content-Length" in headers  # it has said more than there is

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextmanager
def servers(*made: Server) -> Iterator[None]:
    try:
        yield
    finally:
        for each in made:
            each.close()


def sent_on(to: Server, agent: str = "face-0123456789abcdef") -> Said:
    return 307, None, {"Location": f"{to.address}/agents/{agent}/look?timeout=1.000&moving=forward"}


def later(seconds: float) -> Said:
    return 503, {"error": "Unavailable", "message": "busy", "retry_after": seconds}, {"Retry-After": "1"}


def nobody() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def test_an_answer_and_what_was_asked() -> None:
    server = Server(ok({"faces": [{"$bytes": "AAE="}]}))
    with servers(server):
        client = Client(server.address, token=TOKEN, moving="hold")
        assert client.ask("faces", "look at", {"n": [1, b"x"]}, version="1.0", timeout=5) == {"faces": [b"\x00\x01"]}
        assert server.paths[0].startswith("/services/faces/look%20at?version=1.0&timeout=")
        assert server.paths[0].endswith("&moving=hold") and server.heard[0]["Authorization"] == f"Bearer {TOKEN}"
        client.ask_agent("face", "look")
        assert server.paths[1].startswith("/agents/face/look?timeout=")
        assert server.heard[0]["Idempotency-Key"] != server.heard[1]["Idempotency-Key"]


@pytest.mark.parametrize(
    "body",
    [
        {"picture": b"\xff" * (1 << 20)},
        ["x" * (1 << 20)],
        {"picture": b"\xff"},
        b"\xff" * (1 << 20),
        None,
        [{"$bytes": "aGk="}, {"$bytes": b"hi"}, {"$bytes": "aGk=", "more": b"hi"}],
    ],
)
def test_a_body_of_any_size_comes_as_it_is_both_ways(body: Any) -> None:
    """JSON is read to 1 MiB, and has bytes as objects that others may look like."""
    letter = taken(*bodies.encoded(body))
    assert codec.decode(letter, object) == body
    kind, raw = given(letter, bodies.ACCEPT, "agent")
    headers = http.client.HTTPMessage()
    headers["Content-Type"] = kind
    assert bodies.decoded("host", connections.Response(200, headers, raw)) == body


# The token, and where requests go


def test_the_token_goes_to_no_address_that_was_not_given() -> None:
    stranger = Server(ok("from the stranger"))
    first = Server(sent_on(stranger))
    with servers(first, stranger):
        assert Client(first.address, token=TOKEN).ask("faces", "look") == "from the stranger"
        assert "Authorization" in first.heard[0] and "Authorization" not in stranger.heard[0]
        assert stranger.paths[0].startswith("/agents/face-0123456789abcdef/look?timeout=")


def test_each_given_address_gets_its_own_token() -> None:
    second = Server(ok(2))
    first = Server(sent_on(second))
    with servers(first, second):
        tokens = {first.address: "one", second.address: "two"}
        assert Client([first.address, second.address], token=tokens).ask("a", "look") == 2
        assert [first.heard[0]["Authorization"], second.heard[0]["Authorization"]] == ["Bearer one", "Bearer two"]


def test_who_was_only_named_sends_requests_to_given_addresses_alone() -> None:
    third, first = Server(ok(3)), Server(ok(1))
    second = Server(sent_on(third))
    first.says = [sent_on(second), ok("back")]
    with servers(first, second, third):
        with pytest.raises(PeerFault, match="neither was given"):
            Client(first.address).ask("faces", "look")
        assert not third.heard
        first.says, second.says = [sent_on(second), ok("back")], [sent_on(first)]
        assert Client(first.address).ask("faces", "look") == "back"


@pytest.mark.parametrize("path", ["/agents/vault-0123456789abcdef/look", "/agents/face-0123456789abcdef/forget", "/x"])
def test_who_was_only_named_cannot_make_another_request_of_it(path: str) -> None:
    """It would be made with the token of the one that was given."""
    first, second = Server(ok(1)), Server(ok(1))
    first.says = [sent_on(second), ok("done, by the token")]
    second.says = [(307, None, {"Location": first.address + path})]
    with servers(first, second):
        with pytest.raises(PeerFault, match="another request"):
            Client(first.address, token=TOKEN).ask("faces", "look")
        assert len(first.heard) == 1


@pytest.mark.parametrize(
    "location",
    [
        *("", "file:///etc/passwd", "/agents/x/y", "http://", "ftp://a/b", "http://u:p@a/b", "http://[::1/x"),
        *("http://127.0.0.1:1/agents/x/\xe9", "http://127.0.0.1:1/agents/a b/look"),
    ],
)
def test_what_is_no_address_is_not_followed(location: str) -> None:
    server = Server((307, None, {"Location": location}))
    with servers(server), pytest.raises(PeerFault, match="sends requests on to"):
        Client(server.address, token=TOKEN).ask("faces", "look")


def test_two_that_send_it_to_and_fro_are_left_in_the_end() -> None:
    first, second = Server(ok(1)), Server(ok(2))
    first.says, second.says = [sent_on(second)], [sent_on(first)]
    with servers(first, second), pytest.raises(Unavailable, match="20 times in a row"):
        Client([first.address, second.address]).ask("faces", "look", timeout=30)


@pytest.mark.parametrize("wrong", ["", "127.0.0.1:80", "ftp://a", "http://a/path", "http://u@a", "http://a:99999"])
def test_wrong_addresses_are_refused_at_once(wrong: str) -> None:
    with pytest.raises(Misuse, match="address"):
        Client(wrong)
    with pytest.raises(Misuse, match="belongs to an address"):
        Client("http://a", token={"http://b": "x"})
    with pytest.raises(Misuse, match="needs the address"):
        Client([])


# Again, elsewhere, or unknown


def test_a_refusal_is_waited_out_and_the_deadline_kept() -> None:
    server = Server(later(0.02), later(0.0), ok("at last"))
    with servers(server):
        assert Client(server.address).ask("faces", "look") == "at last"
        assert len(server.heard) == 3
        server.says = [later(100.0)]
        with pytest.raises(Unavailable, match="no answer in time: busy") as error:
            Client(server.address).ask("faces", "look", timeout=0.05)
        assert not isinstance(error.value, OutcomeUnknown)


def test_one_that_is_gone_is_left_for_the_next_and_that_is_remembered() -> None:
    server = Server(ok("here"))
    with servers(server):
        client = Client([nobody(), server.address])
        assert client.ask("faces", "look") == "here" and client.turn(0) == server.address
        with pytest.raises(Unavailable, match="no answer in time"):
            Client(nobody()).ask("faces", "look", timeout=0.05)


def broken_off(make: Callable[[list[str]], Any]) -> tuple[Server, Server, Any]:
    """The first endpoint hangs up after it has handled the request."""
    first, second = Server(CUT, ok("kept")), Server(ok("handled again"))
    with servers(first, second):
        answer = make([first.address, second.address]).ask("faces", "look")
    return first, second, answer


def test_what_broke_off_is_asked_again_there_under_its_key_and_nowhere_else() -> None:
    first, second, answer = broken_off(Client)
    assert answer == "kept" and len(first.heard) == 2 and not second.heard
    assert first.heard[0]["Idempotency-Key"] == first.heard[1]["Idempotency-Key"]
    assert first.heard[0]["Incarnation"] == first.heard[1]["Incarnation"] == first.incarnation
    assert len(first.handled) == 1


def test_a_client_that_goes_elsewhere_instead_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would see it: handled twice."""

    class Careless(requesting._Request):
        def answer(self) -> Any:
            try:
                response = self._send()
            except Exception:
                self._at = self._client.turn(1)
                response = self._send()
            return json.loads(response.body)

    monkeypatch.setattr(requesting, "_Request", Careless)
    first, second, answer = broken_off(Client)
    assert answer == "handled again" and len(first.handled) + len(second.handled) == 2


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    """By the length that it said; the repeat has all of it."""
    server = Server((200, "half", {"Content-Length": "100"}), ok("whole"))
    with servers(server):
        assert Client(server.address).ask("faces", "look") == "whole" and len(server.heard) == 2


def test_what_broke_off_is_not_repeated_when_its_key_may_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requesting, "KNOWN", 0.05)
    server = Server(CUT, later(0.1), ok("handled again"))
    with servers(server):
        with pytest.raises(OutcomeUnknown, match="broke off"):
            Client(server.address).ask("faces", "look")
        assert len(server.heard) == 2


@pytest.mark.parametrize("begins", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
def test_an_answer_that_trickles_holds_nobody(begins: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "GRACE", 0.05)
    here, there = socket.socketpair()
    made = http.client.HTTPConnection("trickles")
    made.sock = here
    monkeypatch.setattr(connections.Connections, "_connection", lambda *_: made)
    over = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            there.sendall(begins)
            while not over.wait(0.01):
                there.sendall(b"x")

    trickling = threading.Thread(target=trickle)
    trickling.start()
    asking = threading.Thread(target=asks, args=(errors := [],), daemon=True)
    asking.start()
    asking.join(10)
    over.set()
    there.close()
    trickling.join()
    assert len(errors) == 1 and isinstance(errors[0], TimeoutError)


def asks(errors: list[Exception]) -> None:
    try:
        connections.Connections().send("http://trickles", "GET", "/", None, {}, time.monotonic() + 0.1)
    except Exception as error:
        errors.append(error)


def test_of_an_endpoint_that_was_started_again_nobody_can_know() -> None:
    first, second = Server(CUT, ok("handled again")), Server(ok("handled again"))
    with servers(first, second):
        client = Client([first.address, second.address])
        client.incarnation(first.address, time.monotonic() + 5)
        first.incarnation, before = "f" * 16, first.incarnation
        # Known before the request: it is told, and asks anew.
        assert client._incarnations[first.address] == before
        first.says = [ok("fresh")]
        assert client.ask("faces", "look") == "fresh"
        first.says, handled = [CUT, ok("handled again")], len(first.handled)

        def restarted(*sent: Any, **more: Any) -> Any:
            try:
                return send(*sent, **more)
            finally:
                first.incarnation = "e" * 16

        send, client.send = client.send, restarted  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown, match=r"broke off .* started again since"):
            client.ask("faces", "look")
        assert len(first.handled) == handled + 1 and not second.heard


def test_of_an_endpoint_that_is_gone_after_it_was_asked_nobody_can_know() -> None:
    first, second = Server(CUT), Server(ok("handled again"))
    with servers(second):
        client = Client([first.address, second.address])
        send = client.send

        def gone(*sent: Any, **more: Any) -> Any:
            try:
                return send(*sent, **more)
            except Exception:
                first.close()
                raise

        client.send = gone  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown, match=r"broke off .* cannot be reached"):
            client.ask("faces", "look")
        assert not second.heard


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        *((400, "Misuse", Misuse), (401, "Misuse", Misuse), (404, "Misuse", Misuse), (413, "Misuse", Misuse)),
        *((502, "PeerFault", PeerFault), (504, "Unavailable", OutcomeUnknown), (500, "Unavailable", OutcomeUnknown)),
    ],
)
def test_errors_are_of_the_platforms_kinds(status: int, kind: str, error: type[Exception]) -> None:
    server = Server((status, {"error": kind, "message": "what happened"}, {}))
    with servers(server), pytest.raises(error, match="what happened") as raised:
        Client(server.address).ask("faces", "look")
    assert type(raised.value) is error and len(server.heard) == 1


@pytest.mark.parametrize("seconds", ["nan", "-1", "1e999", None, [], "x"])
def test_a_host_that_lies_about_times_does_not_hold_a_client(seconds: Any) -> None:
    server = Server(
        (503, {"error": "Unavailable", "message": "no", "retry_after": seconds}, {"Retry-After": "x"}), ok(1)
    )
    with servers(server), pytest.raises(Unavailable, match="no answer in time"):
        Client(server.address).ask("faces", "look", timeout=0.05)


@pytest.mark.parametrize("body", [{1, 2}, float("nan"), object()])
def test_a_body_that_is_no_plain_data_is_not_sent(body: Any) -> None:
    with pytest.raises(Misuse, match="plain data"):
        Client(nobody()).ask("faces", "look", body)


@pytest.mark.parametrize("value", [7, None, "no base64", []])
def test_bytes_that_are_none_are_a_peers_fault(value: Any) -> None:
    server = Server(ok({"$bytes": value}))
    with servers(server), pytest.raises(PeerFault, match="cannot be read"):
        Client(server.address).ask("faces", "look")


def test_a_name_that_no_host_can_have_is_one_that_cannot_be_reached() -> None:
    server = Server((307, None, {"Location": "http://a..b/agents/face-0123456789abcdef/look"}), ok("here"))
    with servers(server):
        assert Client(server.address).ask("faces", "look") == "here"

"""The caller's side of the front door: what is no use is refused there, in words, and a host that was started again is
found again."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from Pyro5.protocol import MSG_CONNECT, SendingMessage
from Pyro5.serializers import MsgpackSerializer

from agentplatform import Agent, Ticket, consortium
from agentplatform.console import verbs
from agentplatform.desk import front
from agentplatform.frontdoor import server
from agentplatform.frontdoor.client import AgentProxy, Host, connect, homes
from agentplatform.frontdoor.server import MAX_CALL_BYTES
from agentplatform.parcel.manifest import open_birth
from ledger.errors import Misuse, OutcomeUnknown, Unavailable
from tests.helpers.desk_twin import DeskTwin, answering

AGENT = "counter-0123456789abcdef"
SAYS: dict[str, Any] = {
    "resolve": lambda agent: {"agent": AGENT, "host": "north", "epoch": 0},
    "ask": lambda body, **_: {"body": body},
    "order": {},
}


class Someone(Agent):
    pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    consortium.found(tmp_path / "root", ["north"])
    return tmp_path / "root"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    root = tmp_path_factory.mktemp("client") / "root"
    consortium.found(root, ["north"])
    with answering(root, DeskTwin("north", SAYS)):
        yield connect("north", root=root)


class Greedy(Agent):
    copies = -1


class Heavy(Agent):
    light = "no"  # type: ignore[assignment]


class Größe(Agent):
    pass


class _My_First_Agent_Of_Which_There_Is_So_Much_To_Say(Agent):
    pass


Act = Callable[[Host, AgentProxy], object]
NO_USE: list[tuple[Act, str]] = [
    (lambda host, agent: host.create(5), "from a subclass of Agent; 5 is none"),  # type: ignore[arg-type]
    (lambda host, agent: host.create(str), "from a subclass of Agent"),  # type: ignore[type-var]
    (lambda host, agent: host.create(Someone, 5), "5 is no agent name"),  # type: ignore[arg-type]
    (lambda host, agent: host.create(Someone, ""), "'' is no agent name"),
    (lambda host, agent: host.create(Someone, "x" * 10_000), "is no agent name"),
    (lambda host, agent: host.create(Someone, custody="hold"), "one of local, held, not 'hold'"),  # type: ignore[arg-type]
    (lambda host, agent: agent.change_custody("hold"), "one of local, held, not 'hold'"),  # type: ignore[arg-type]
    (lambda host, agent: agent.clone(custody="held"), "original's, or local, not 'held'"),  # type: ignore[arg-type]
    (lambda host, agent: host.create(Someone, init={1: 2}), "keys of text"),
    (lambda host, agent: host.create(Greedy), "Greedy.copies is a number of hosts from 0 to 8, not -1"),
    (lambda host, agent: host.create(Heavy), "Heavy.light is True or False, not 'no'"),
    (lambda host, agent: host.create(Größe), r"give one: create\(Größe, 'name'\)"),
    (lambda host, agent: host.agent("\ud800"), "plain data"),
    (lambda host, agent: host.agent(object()), "plain data"),  # type: ignore[arg-type]
    (lambda host, agent: agent.call("\ud800"), "plain data"),
    (lambda host, agent: agent.call("add", {1: 2}), "keys of text"),
    (lambda host, agent: agent.call("add", object()), "plain data"),
    (lambda host, agent: agent.call("add", bytes(MAX_CALL_BYTES)), "at most [0-9]+ go into one call"),
    (lambda host, agent: agent.call("add", patience=None), "number of seconds above 0"),  # type: ignore[arg-type]
    (lambda host, agent: agent.call("add", patience=float("nan")), "number of seconds above 0"),
    (lambda host, agent: agent.call("add", patience=float("inf")), "number of seconds above 0"),
    (lambda host, agent: agent.call("add", patience=-1), "number of seconds above 0"),
    (lambda host, agent: agent.dispatch("south", patience=True), "number of seconds above 0"),
    (lambda host, agent: agent.dispatch("south", patience=1e300), "number of seconds above 0"),
    (lambda host, agent: agent.dispatch(5), "by its name or with a Ticket"),  # type: ignore[arg-type]
    (lambda host, agent: agent.deactivate(for_="soon"), "number of seconds above 0"),  # type: ignore[arg-type]
    (lambda host, agent: agent.deactivate(for_=True), "number of seconds above 0"),
    (lambda host, agent: agent.deactivate(for_=float("nan")), "number of seconds above 0"),
]


@pytest.mark.parametrize(("act", "words"), NO_USE)
def test_what_is_no_use_is_the_callers_fault_and_said_in_a_line(host: Host, act: Act, words: str) -> None:
    with pytest.raises(Misuse, match=words) as refused:
        act(host, AgentProxy(host, AGENT))
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"deadline": "soon"}, "a ticket's deadline"),
        ({"deadline": True}, "a ticket's deadline"),
        ({"deadline": float("nan")}, "a ticket's deadline"),
        ({"retries": None}, "0 to 100 retries"),
        ({"retries": 1.5}, "0 to 100 retries"),
        ({"needs": "gpu"}, "a tuple of texts"),
        ({"needs": None}, "a tuple of texts"),
        ({"needs": (5,)}, "5 is no need"),
        ({"needs": ("x" * 10_000,)}, "is no need"),
    ],
)
def test_terms_of_the_wrong_kind_are_refused_as_those_that_nobody_can_keep(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        Ticket("south", **fields)
    assert len(str(refused.value)) < 200
    with pytest.raises(ValueError, match="names a host"):
        Ticket(5)  # type: ignore[arg-type]


def test_a_class_gives_an_agent_its_name_if_nobody_does(root: Path) -> None:
    desk = DeskTwin("north", {"create": {"agent": AGENT}})
    with answering(root, desk):
        for kind in (Someone, _My_First_Agent_Of_Which_There_Is_So_Much_To_Say):
            connect("north", root=root).create(kind)
    births = [open_birth(arguments["birth"], "the test") for verb, arguments in desk.asked if verb == "create"]
    assert [birth.name for birth in births] == ["someone", "my-first-agent-of-which-there-is"]


def test_a_host_that_was_started_again_is_asked_over_a_new_connection(root: Path) -> None:
    with answering(root, DeskTwin("north", SAYS)):
        agent = connect("north", root=root).agent("counter")
        assert agent.call("add", 1) == 1
        old: socket.socket = agent._host._proxy()._pyroConnection.sock
    with pytest.raises(Unavailable, match="agentplatform start north"):
        agent.call("add", 2)
    with answering(root, DeskTwin("north", SAYS)):
        assert agent.call("add", 3) == 3
        gc.collect()
        assert old.fileno() == -1, "the connection before is closed"


# What may have been done, and what surely was not

LOOKING = (
    *("hello", "status", "hosts", "blocked", "drained", "fence", "absent", "agents", "resolve", "logs", "services"),
    *("hops", "path", "why", "dry_run", "trust", "ledger", "ledger_export", "ledger_evidence", "record_evidence"),
    "blame",
)


def test_of_every_verb_it_is_said_whether_it_changes_something_and_what_then_shows_it() -> None:
    assert sorted([*LOOKING, *server.SHOWN_BY]) == sorted(front.VERBS)
    assert {words.split()[0] for words in server.SHOWN_BY.values()} <= verbs.VERBS.keys()


class Silent(DeskTwin):
    """Answers `hello`, and nothing else ever."""

    async def perform(self, verb: str, arguments: dict[str, Any]) -> Any:
        if verb != "hello":
            await asyncio.Event().wait()
        return await super().perform(verb, arguments)


def outcomes(host: Host) -> list[Unavailable]:
    """Of a verb that changes something, and of one that does not."""
    raised = []
    for verb in ("order", "status"):
        with pytest.raises(Unavailable) as error:
            host.call(verb, patience=0.02)
        raised.append(error.value)
    assert isinstance(raised[0], OutcomeUnknown) and raised[0].retry_after is None
    assert "it may have been done all the same: look at: agentplatform why AGENT" in str(raised[0])
    assert not isinstance(raised[1], OutcomeUnknown)
    return raised


def test_nobody_knows_whether_what_was_not_done_in_time_is_done_later(root: Path) -> None:
    with answering(root, Silent("north", {})):
        assert outcomes(connect("north", root=root))[1].retry_after == 0.02


def test_nobody_knows_whether_what_failed_was_done_before(root: Path) -> None:
    with answering(root, DeskTwin("north", {"order": ValueError("a bug"), "status": ValueError("a bug")})):
        assert all("failed inside the daemon" in str(each) for each in outcomes(connect("north", root=root)))


def test_nobody_knows_whether_what_was_asked_of_a_host_that_is_gone_was_done(root: Path) -> None:
    def go(**_: Any) -> None:
        host._proxy_of_test._pyroConnection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]

    with answering(root, DeskTwin("north", {"order": go, "status": go})):
        host = connect("north", root=root)
        for verb, unknown in (("order", True), ("status", False)):
            host._proxy_of_test = host._proxy()  # type: ignore[attr-defined]
            host._proxy()._pyroBind()
            with pytest.raises(Unavailable, match=r"north does not answer.* Is it running\?") as error:
                host.call(verb)
            assert isinstance(error.value, OutcomeUnknown) is unknown


def test_a_host_that_does_not_answer_the_greeting_was_asked_for_nothing(root: Path) -> None:
    with answering(root, DeskTwin("north", SAYS)):
        host = connect("north", root=root)
        host._threads.proxy = None
        host.home.token.write_text("wrong")
        with pytest.raises(Unavailable, match="token is missing or wrong") as error:
            host.call("order")
        assert not isinstance(error.value, OutcomeUnknown)


def test_who_sends_its_greeting_byte_by_byte_is_cut_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes long before the time for one is over."""
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.2)
    greeting = SendingMessage(MSG_CONNECT, 0, 0, MsgpackSerializer.serializer_id, bytes(1000)).data
    with answering(root, DeskTwin("north", SAYS)), socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(homes(root)["north"].socket))
        slow.settimeout(0.01)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in greeting[:200]:
                slow.send(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    assert slow.recv(1) == b""
                    return
            pytest.fail("it was heard to the end")

"""What other hosts may ask at once."""

import asyncio
from typing import Any

import pytest

from agentplatform.commands import MAX_AT_ONCE, MAX_PLAIN_BYTES, Command, Commands, Request, Response, Verb, sign
from agentplatform.dataorders import MAX_ANSWER_BYTES, DataOrder
from agentplatform.whereabouts import Located, Whereabouts
from ledger import codec
from ledger.errors import Misuse, OutcomeUnknown, PeerFault, Unavailable
from tests.helpers.linked_hosts import identity
from tests.helpers.mail_desk import AGENT, turn


def command(verb: Verb, host: str = "") -> bytes:
    return sign(Command(AGENT, verb, host, 1 << 50), identity("ada"))


async def test_a_host_that_repeats_a_long_command_under_new_numbers_has_so_many_tasks_and_no_more() -> None:
    whereabouts, sent, done = Whereabouts(), [], asyncio.Event()
    whereabouts.learn(Located(AGENT, 1, "b"))

    async def perform(agent: str, command: bytes, sender: str) -> dict[str, Any]:
        await done.wait()
        return {}

    commands = Commands("b", whereabouts, lambda *it: not sent.append((it[0], codec.decode(it[1], Response))), perform)
    for number in range(2 * MAX_AT_ONCE):
        commands.receive("mallory", codec.encode(Request(number, "mallory", AGENT, b"the same")))
    commands.receive("a", codec.encode(Request(1, "a", AGENT, b"the same")))
    done.set()
    while ("a", Response(1, None, {})) not in sent:
        await turn()
    assert len(sent) == MAX_AT_ONCE + 1


@pytest.mark.parametrize("goal", ["a", "c"])
@pytest.mark.parametrize("answers", [True, False])
async def test_who_was_asked_to_send_an_agent_tells_of_the_hop_also_when_others_have_told_of_its_arrival(
    goal: str, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentplatform.commands.RESEND_EVERY", 0.02)
    whereabouts, asked = Whereabouts(), []
    whereabouts.learn(Located(AGENT, 1, "b"))

    async def perform(agent: str, command: bytes, sender: str) -> dict[str, Any]:
        return {}  # it is there

    def send(host: str, raw: bytes) -> bool:
        asked.append(host)
        number = codec.decode(raw, Request).number
        if host == "c":
            commands.receive("c", codec.encode(Response(number, None, {})))
            return True
        whereabouts.learn(Located(AGENT, 2, goal))
        hop = codec.encode(Response(number, None, {"destination": goal}))
        if answers:  # after the first round, and before the second
            asyncio.get_running_loop().call_later(0.03, commands.receive, "b", hop)
        return True

    commands = Commands("a", whereabouts, send, perform)
    hop = await commands.ask(AGENT, command("dispatch", goal), 60.0)
    assert hop == ({"destination": goal} if answers else {})
    assert asked == (["b"] if answers or goal == "a" else ["b", "c"])


async def test_who_was_asked_to_end_an_agent_tells_so_also_when_others_have_told_of_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentplatform.commands.RESEND_EVERY", 0.02)
    whereabouts = Whereabouts()
    whereabouts.learn(Located(AGENT, 1, "b"))

    def send(host: str, raw: bytes) -> bool:
        whereabouts.learn(Located(AGENT, 1, "b", 17))
        done = codec.encode(Response(codec.decode(raw, Request).number, None, {}))
        asyncio.get_running_loop().call_later(0.03, commands.receive, "b", done)
        return True

    commands = Commands("a", whereabouts, send, None)  # type: ignore[arg-type]
    assert await commands.ask(AGENT, command("dispose"), 60.0) == {}
    with pytest.raises(Misuse, match="was disposed of"):
        await commands.ask(AGENT, command("dispose"), 60.0)


async def test_a_large_response_brings_an_agents_data_and_nothing_else() -> None:
    """Of lists within lists, a megabyte costs this host a second."""
    whereabouts, sent = Whereabouts(), []
    whereabouts.learn(Located(AGENT, 1, "b"))

    async def perform(agent: str, command: bytes, sender: str) -> dict[str, Any]:
        return {}

    commands = Commands("a", whereabouts, lambda host, raw: not sent.append(codec.decode(raw, Request)), perform)
    asking = asyncio.ensure_future(commands.ask(AGENT, command("snapshot"), 60.0))
    while not sent:
        await turn()
    number = sent[0].number
    much = bytes(MAX_PLAIN_BYTES)
    for wrong in ({"data": [[]] * MAX_PLAIN_BYTES}, {"data": much, "more": b""}, {"hop": "x" * MAX_PLAIN_BYTES}):
        with pytest.raises(PeerFault, match="b"):
            commands.receive("b", codec.encode(Response(number, None, wrong)))
    with pytest.raises(PeerFault):
        commands.receive("b", codec.encode(Response(number, {"kind": "x" * 70_000}, {})))
    with pytest.raises(PeerFault):
        commands.receive("b", codec.encode(Request(number, "b", AGENT, bytes(MAX_PLAIN_BYTES))))
    commands.receive("b", codec.encode(Response(number, None, {"data": bytes(MAX_ANSWER_BYTES)})))
    assert await asking == {"data": bytes(MAX_ANSWER_BYTES)}


@pytest.mark.parametrize("sent", [True, False])
async def test_whether_a_command_that_left_was_done_nobody_knows_and_one_that_did_not_was_not(sent: bool) -> None:
    whereabouts = Whereabouts()
    whereabouts.learn(Located(AGENT, 1, "b"))

    async def perform(agent: str, command: bytes, sender: str) -> dict[str, Any]:
        return {}

    commands = Commands("a", whereabouts, lambda host, raw: sent, perform)
    with pytest.raises(Unavailable) as error:
        await commands.ask(AGENT, command("clone"), 0.01)
    assert isinstance(error.value, OutcomeUnknown) is sent
    assert ("but b has it and may do it yet; look at: agentplatform agents" in str(error.value)) is sent
    assert (error.value.retry_after is None) is sent


@pytest.mark.parametrize(
    "wrong",
    [
        {"verb": "custody"},
        {"verb": "custody", "custody": "held"},  # without its owner's consent
        {"verb": "custody", "custody": "local", "consent": bytes(64)},
        {"verb": "custody", "custody": "held", "consent": bytes(65)},
        {"verb": "snapshot", "custody": "local"},
        {"verb": "snapshot", "consent": bytes(64)},
        {"verb": "clone", "consent": bytes(64)},
        {"verb": "clone", "salt": bytes(16)},
        {"verb": "clone", "salt": bytes(15), "consent": bytes(64)},
        {"verb": "dispose", "salt": bytes(16), "consent": bytes(64)},
    ],
)
def test_consent_is_for_held_custody_alone(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"custody|consent|salt"):
        Command("counter-0123456789abcdef", host="", expires=0, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"verb": "data"},
        {"verb": "snapshot", "data": DataOrder("list")},
        {"verb": "data", "act": ("restore", "", 0)},
        {"verb": "data", "act": ("restore", "text", 1)},
        {"verb": "data", "act": ("list", "", 1)},
        {"verb": "data", "act": ("get", "x" * 257, 0)},
    ],
)
def test_a_command_about_data_says_what_to_do(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="data"):
        if "act" in wrong:
            wrong = {"verb": "data", "data": DataOrder(*wrong["act"])}
        Command("counter-0123456789abcdef", host="", expires=0, **wrong)

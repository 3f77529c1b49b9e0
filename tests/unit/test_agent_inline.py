import asyncio
from typing import Any

import pytest

from agentplatform import Agent, Message
from agentplatform.runners.inline import Inline
from ledger.errors import Misuse, PeerFault, Unavailable
from tests.helpers.travellers import Bare, Careless, Counter, Refusing, Stubborn


@pytest.fixture
def inline() -> Any:
    with Inline(refuse={"mars": "no air there"}) as inline:
        yield inline


def test_state_survives_a_hop(inline: Inline) -> None:
    counter = inline.create(Counter, 5)
    assert counter.call("add", 1) == 6
    before = counter.agent
    counter.hop("elsewhere")
    assert counter.agent is not before
    assert counter.call("look") == [
        6,
        ["creation", "dispatching elsewhere", "arrival elsewhere from here"],
        2,
        "elsewhere",
        2,
    ]


async def test_it_serves_async_tests_too(inline: Inline) -> None:
    counter = inline.create(Counter)
    assert counter.call("add", 2) == 2


def test_an_agent_goes_by_itself_when_its_handler_has_returned(inline: Inline) -> None:
    counter = inline.create(Counter)
    assert counter.call("go", "elsewhere") == 0
    assert (counter.host, counter.epoch) == ("elsewhere", 2)


def test_a_refused_agent_goes_on_and_learns_why(inline: Inline) -> None:
    counter = inline.create(Counter, 7)
    with pytest.raises(Unavailable, match="no air there"):
        counter.hop("mars")
    assert counter.call("look") == [7, ["creation", "dispatching mars", "move failed"], 2, "here", 1]
    assert counter.agent.reason == "no air there"  # type: ignore[attr-defined]


def test_an_agent_that_cannot_leave_stays(inline: Inline) -> None:
    agent = inline.create(Stubborn)
    with pytest.raises(Misuse, match="could not leave for moon: RuntimeError: not to moon"):
        agent.hop("moon")
    agent.send("go", "sun")
    assert [reason.rpartition(": ")[2] for reason in agent.call("reasons")] == ["not to moon", "not to sun"]
    assert agent.host == "here"


def test_an_unpicklable_attribute_is_named(inline: Inline) -> None:
    counter = inline.create(Careless)
    counter.call("lock")
    with pytest.raises(Misuse, match=r"Careless\.lock: cannot pickle '_thread.lock' object"):
        counter.hop("elsewhere")
    assert counter.host == "here"
    assert counter.call("add", 3) == 3


def test_an_exception_answers_and_the_agent_lives(inline: Inline) -> None:
    counter = inline.create(Counter)
    with pytest.raises(PeerFault, match="KeyError: 'no such thing'"):
        counter.call("fail")
    assert counter.call("add", 1) == 1
    [(agent, stream, text)] = inline.printed_lines
    assert (agent, stream) == (counter.id, "err")
    assert 'raise KeyError("no such thing")' in text
    assert "resident.py" not in text and "agentplatform" not in text


class Deaf(Agent):
    pass


def test_what_no_handler_takes_is_one_line_in_the_log(inline: Inline) -> None:
    agent = inline.create(Deaf)
    with pytest.raises(PeerFault, match="cannot answer 'add'"):
        agent.call("add", 1)
    [(_, _, text)] = inline.printed_lines
    assert text == "'add' failed: Misuse: Deaf has no handle_message, so it cannot answer 'add'\n"


def test_an_answer_must_be_plain_data(inline: Inline) -> None:
    with pytest.raises(PeerFault, match="the answer to 'shout' must be plain data"):
        inline.create(Counter).call("shout")


def test_a_failed_creation_leaves_nothing(inline: Inline) -> None:
    with pytest.raises(Misuse, match="could not be created: ValueError: I would rather not"):
        inline.create(Refusing)
    assert not inline.guests._guests


def test_agents_call_each_other(inline: Inline) -> None:
    inline.create(Counter, 41, name="deep")
    assert inline.create(Counter, name="asker").call("ask", "deep") == 42
    with pytest.raises(PeerFault, match="there is no agent 'nobody'"):
        inline.create(Counter).call("ask", "nobody")


def test_a_disposed_agent_is_gone(inline: Inline) -> None:
    counter = inline.create(Counter)
    counter.dispose()
    with pytest.raises(Misuse, match="has ended"):
        counter.call("add", 1)
    by_itself = inline.create(Counter)
    by_itself.call("end")
    with pytest.raises(Misuse, match="has ended"):
        by_itself.call("add", 1)


def test_an_agent_that_overrides_nothing_says_so(inline: Inline) -> None:
    with pytest.raises(PeerFault, match="Bare has no handle_message"):
        inline.create(Bare).call("anything")


def test_an_agent_without_a_host_says_what_to_do() -> None:
    with pytest.raises(Misuse, match="lives on no host"):
        Counter().dispatch("elsewhere")


class Waiter(Agent):
    """Handles slowly; its messages must wait for their turn, also across a hop."""

    def on_creation(self, init: Any) -> None:
        self.order: list[str] = []

    async def handle_message(self, message: Message) -> Any:
        self.order.append(f"{message.kind} begins")
        await asyncio.sleep(0)
        if message.kind == "go":
            self.send(self.id, "behind")
            self.dispatch("elsewhere")
            await asyncio.sleep(0)
        self.order.append(f"{message.kind} ends")
        return self.order


def test_hooks_and_handlers_run_one_at_a_time_and_a_hop_waits_for_the_boundary(inline: Inline) -> None:
    agent = inline.create(Waiter)
    agent.call("go")
    order = agent.call("last")
    assert order == ["go begins", "go ends", "behind begins", "behind ends", "last begins", "last ends"]
    assert agent.host == "elsewhere"


class Holdout(Agent):
    """Its `run` goes on when it is cancelled, the first time."""

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.asked = True
            await asyncio.Event().wait()


def test_a_run_that_does_not_end_keeps_the_agent_here(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.runners.guests.PATIENCE", 0.05)
    agent = inline.create(Holdout)
    with pytest.raises(Misuse, match="`run` or `on_dispatching` did not end within"):
        agent.hop("elsewhere")
    assert agent.agent.asked  # type: ignore[attr-defined]

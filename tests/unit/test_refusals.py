"""Who asks hears when to come again: errors in answers, from who raised them to who waits."""

import math
from collections.abc import Iterator
from typing import Any

import pytest

from agentplatform import Agent, FutureReply, Later, Message, handles
from agentplatform.faults import MAX_RETRY_AFTER, MAX_TEXT, as_data, as_error, error_body, error_in, misuse
from agentplatform.runners.inline import Inline
from ledger import codec
from ledger.errors import Misuse, OutcomeUnknown, PeerFault, Unavailable

NO_TIMES = [None, -1, -0.001, math.nan, math.inf, 1e300, True, "soon", MAX_RETRY_AFTER * 2]


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline() as inline:
        yield inline


class Full(Agent):
    """It has no room for who asks, and says so: at once, or later."""

    def on_creation(self, init: Any) -> None:
        self.held: list[Later] = []

    @handles("now")
    def now(self, seconds: Any) -> None:
        raise Unavailable("the queue\nis full", retry_after=seconds)

    @handles("later")
    def later(self, message: Message) -> Later | None:
        assert message.later is not None
        self.held.append(message.later)
        return message.later

    @handles("let go")
    def let_go(self, seconds: Any) -> None:
        self.fail(self.held.pop(), "no room after all", retry_after=seconds)

    @handles("let go with an error")
    def let_go_with(self, seconds: Any) -> None:
        self.fail(self.held.pop(), Unavailable("no room after all", seconds))


class Asker(Agent):
    def on_creation(self, init: Any) -> None:
        self.held: list[Later] = []

    @handles("call")
    async def asks(self, kind: str) -> list[Any]:
        try:
            await self.call("full", kind, 2.5)
        except Unavailable as error:
            return [error.retry_after, str(error)]
        raise AssertionError("nobody refused")

    @handles("ticket")
    async def ticket(self, how: str) -> list[Any]:
        reply = self.future("full", "later")
        await self.call("full", how, 7)
        try:
            await reply
        except Unavailable as error:
            return [error.retry_after, str(error)]
        raise AssertionError("nobody refused")

    @handles("then")
    def asks_then(self, message: Message) -> Later | None:
        assert message.later is not None
        self.held.append(message.later)
        self.future("full", "now", 2.5, then="heard")
        return message.later

    def heard(self, reply: FutureReply) -> None:
        try:
            reply.result()
        except Unavailable as error:
            self.reply(self.held.pop(), error.retry_after)

    @handles("delegate")
    def other(self, message: Message) -> Later:
        return self.delegate(message, "full", "now", 2.5)


def test_agents_hear_when_to_come_again(inline: Inline) -> None:
    inline.create(Full, name="full")
    asker = inline.create(Asker)
    assert asker.call("call", "now") == [2.5, "full: the queue\nis full"]
    assert asker.call("then") == 2.5
    for how in ("let go", "let go with an error"):
        assert asker.call("ticket", how) == [7.0, "full: no room after all"]


def test_clients_hear_when_to_come_again_also_from_who_was_delegated_to(inline: Inline) -> None:
    full = inline.create(Full, name="full")
    with pytest.raises(Unavailable, match=f"{full.id}: the queue\nis full") as refused:
        full.call("now", 2.5)
    assert refused.value.retry_after == 2.5
    with pytest.raises(Unavailable, match="the queue") as refused:
        inline.create(Asker).call("delegate")
    assert refused.value.retry_after == 2.5


@pytest.mark.parametrize("seconds", NO_TIMES, ids=str)
def test_what_is_no_time_is_not_passed_on_as_one(inline: Inline, seconds: Any) -> None:
    with pytest.raises(Unavailable, match="is full") as refused:
        inline.create(Full).call("now", seconds)
    assert refused.value.retry_after is None


def test_a_flood_of_refusals_is_one_line_each_in_the_log(inline: Inline) -> None:
    agent = inline.create(Full)
    for _ in range(3):
        with pytest.raises(Unavailable):
            agent.call("now", 1)
    assert inline.printed_lines == [(agent.id, "err", "'now' failed: Unavailable: the queue is full\n")] * 3


# On the wire


def test_an_error_of_before_is_a_text_still() -> None:
    """Journals have such answers in them."""
    assert error_body(PeerFault("x", "no")) == codec.encode("x: no") and error_body("no") == codec.encode("no")
    said = error_in(codec.encode("no"), "full")
    assert isinstance(said, PeerFault) and str(said) == "full: no"
    asked = error_in(codec.encode("no"), "full", misuse)
    assert isinstance(asked, Misuse) and str(asked) == "full: no"


def test_who_asks_for_people_can_tell_what_was_asked_wrongly_from_what_failed() -> None:
    wrong, broken = error_body(Misuse("no number")), error_body("ZeroDivisionError: no")
    assert isinstance(error_in(wrong, "sums"), PeerFault), "for an agent it is another agent's word"
    assert isinstance(error_in(wrong, "sums", PeerFault, misuse), Misuse)
    assert isinstance(error_in(broken, "sums", PeerFault, misuse), PeerFault)


@pytest.mark.parametrize("seconds", [each for each in NO_TIMES if not isinstance(each, str | bool)], ids=str)
def test_a_peer_that_lies_about_times_is_not_believed(seconds: Any) -> None:
    said = error_in(codec.encode(["go away", True, seconds]), "liar")
    assert isinstance(said, Unavailable) and str(said) == "liar: go away" and said.retry_after is None
    told = as_error({"error": "Unavailable", "message": "go away", "retry_after": seconds})
    assert isinstance(told, Unavailable) and told.retry_after is None


@pytest.mark.parametrize("body", [b"", b"\xc1", *map(codec.encode, (7, ["a", True, 1.0, 2], ["a", "b"], [b"a", True]))])
def test_an_error_that_cannot_be_read_is_its_senders_fault(body: bytes) -> None:
    with pytest.raises(PeerFault, match=r"^liar: sent bytes"):
        error_in(body, "liar")


@pytest.mark.parametrize("kind", [Unavailable, OutcomeUnknown])
def test_a_refusal_and_what_nobody_knows_are_told_apart_wherever_they_are_said(kind: type[Unavailable]) -> None:
    assert type(error_in(error_body(kind("no")), "full")) is kind
    assert type(as_error(as_data(kind("no")))) is kind
    assert type(error_in(codec.encode(["no", True, 1.0]), "full")) is Unavailable, "of before"


def test_words_without_end_are_cut() -> None:
    assert len(error_body(Unavailable("x" * (MAX_TEXT + 9)))) < MAX_TEXT + 20
    assert len(error_body("\ud800" * (MAX_TEXT + 9))) < MAX_TEXT * 7

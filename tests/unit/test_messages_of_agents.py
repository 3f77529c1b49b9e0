"""What agents say to each other: typed handlers, answers that come later, delegation, topics, timers; on hosts that
exist by being named (the same across crashes: tests/end_to_end/test_errands_in_workers.py).
"""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest

from agentplatform import Agent, FutureReply, Later, Message, ReplySet, handles
from agentplatform.runners.inline import Inline
from ledger.errors import Misuse, OutcomeUnknown, PeerFault


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline() as inline:
        yield inline


class Point(msgspec.Struct):
    x: int
    y: int


class Sums(Agent):
    def on_creation(self, init: Any) -> None:
        self.total = 0
        self.held: list[Later] = []

    @handles("add")
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    @handles("point")
    async def point(self, point: Point, message: Message) -> list[Any]:
        await asyncio.sleep(0)
        return [type(point).__name__, point.x + point.y, message.kind]

    @handles("move")
    def move(self, dx: Annotated[int, msgspec.Meta(ge=0)], dy: int = 7) -> int:
        return dx + dy

    @handles("total")
    def say(self) -> int:
        return self.total

    @handles("hold")
    def hold(self, message: Message) -> Later | None:
        assert message.later is not None
        self.held.append(message.later)
        return message.later

    @handles("let go")
    def let_go(self, value: Any) -> None:
        self.reply(self.held.pop(0), value)

    @handles("give up")
    def give_up(self) -> None:
        self.fail(self.held.pop(0), "no wish to")

    @handles("wrong ticket")
    def wrong(self) -> Later:
        return Later("client-x", 99, "")

    @handles("go")
    def go(self, host: str) -> None:
        self.dispatch(host)


class More(Sums):
    def add(self, amount: int) -> int:
        return super().add(2 * amount)

    @handles("total")
    def total_of_more(self) -> str:
        return f"{self.total} in all"


def test_the_body_is_converted_to_the_parameters_of_the_handler(inline: Inline) -> None:
    sums = inline.create(Sums)
    assert sums.call("add", 4) == 4
    assert sums.call("point", {"x": 1, "y": 2}) == ["Point", 3, "point"]
    assert sums.call("move", {"dx": 1}) == 8 and sums.call("move", {"dx": 1, "dy": 1}) == 2
    assert sums.call("total") == 4


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("add", "four", r"the body of 'add' does not fit Sums.add\(amount: int\): Expected `int`, got `str`"),
        ("add", None, "Expected `int`, got `null`"),
        ("point", {"x": 1}, "missing required field `y`"),
        ("point", {"x": 1, "y": "2"}, r"Expected `int`, got `str` - at `\$.y`"),
        ("move", {"dx": -1}, r"Expected `int` >= 0 - at `\$.dx`"),
        ("move", {"dx": 1, "dz": 1}, "unknown field `dz`"),
        ("move", None, "missing required field `dx`"),
        ("move", [1, 2], "Expected `object`, got `array`"),
        ("total", 1, "'total' takes no body"),
        ("subtract", 1, "Sums does not know 'subtract'; it answers add, give up, go, hold, let go, move, point, total"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_field_named(inline: Inline, kind: str, body: Any, says: str) -> None:
    with pytest.raises(PeerFault, match=says):
        inline.create(Sums).call(kind, body)


def test_handlers_are_inherited_and_overridden_with_or_without_the_mark(inline: Inline) -> None:
    more = inline.create(More)
    assert more.call("add", 4) == 8
    assert more.call("total") == "8 in all"
    assert more.call("move", {"dx": 1}) == 8


def test_wrong_handlers_are_refused_where_they_are_written() -> None:
    with pytest.raises(Misuse, match="both one and two handle 'x'"):

        class Twice(Agent):
            @handles("x")
            def one(self) -> None: ...

            @handles("x")
            def two(self) -> None: ...

    with pytest.raises(Misuse, match=r"@handles\('add'\)"):
        handles(len)  # type: ignore[arg-type]


class Asker(Agent):
    """Asks others, and notes what it hears."""

    def on_creation(self, init: Any) -> None:
        self.notes: list[Any] = []

    @handles("ask")
    def ask(self, to: str, kind: str, body: Any = None, timeout: float = 30.0) -> int:
        return self.future(to, kind, body, timeout=timeout, then="noted")

    @handles("ask and go")
    def ask_and_go(self, to: str, kind: str, host: str) -> None:
        self.future(to, kind, then="noted")
        self.dispatch(host)

    def noted(self, reply: FutureReply) -> None:
        try:
            self.notes.append([reply.kind, reply.result(), self.host])
        except Exception as error:
            self.notes.append([reply.kind, str(error), self.host])

    @handles("notes")
    def say(self) -> list[Any]:
        return self.notes

    @handles("ask all")
    async def ask_all(self, to: list[str]) -> list[Any]:
        replies = ReplySet(self.future(each, "add", number + 1) for number, each in enumerate(to))
        assert (len(replies), replies.open) == (len(to), len(to))
        got = [reply.result() async for reply in replies]
        assert replies.open == 0 and [each.done() for each in await replies.all()] == [True] * len(to)
        return got

    @handles("first")
    async def first(self, to: list[str]) -> Any:
        replies = ReplySet(self.future(each, "total") for each in to)
        reply = await replies.first()
        return [reply.receiver, reply.result()]

    @handles("early")
    async def early(self, to: str) -> Any:
        reply = self.future(to, "total")
        called: list[FutureReply] = []
        reply.add_done_callback(called.append)
        with pytest.raises(Misuse, match="has not answered 'total' yet"):
            reply.result()
        assert await reply == 0 and called == [reply]
        return await self.future(to, "no such kind")

    @handles("nobody")
    def nobody(self) -> None:
        self.future("sums", "add", 1, then="not there")

    @handles("delegate")
    def pass_it_on(self, message: Message) -> Later:
        return self.delegate(message, "sums", *message.body)

    @handles("slow")
    async def slow(self, to: str) -> Any:
        return await self.call(to, "hold", timeout=0.02)


def test_futures_are_awaited_one_by_one_or_as_they_come(inline: Inline) -> None:
    names = [f"sums{number}" for number in range(3)]
    for name in names:
        inline.create(Sums, name=name)
    asker = inline.create(Asker)
    assert sorted(asker.call("ask all", names)) == [1, 2, 3]
    assert asker.call("first", names) == ["sums0", 1]
    inline.create(Sums, name="sums")
    with pytest.raises(PeerFault, match="does not know 'no such kind'"):
        asker.call("early", "sums")


def test_an_answer_comes_to_the_named_method_after_a_hop_and_once(inline: Inline) -> None:
    sums, asker = inline.create(Sums), inline.create(Asker)
    asker.send("ask and go", {"to": "sums", "kind": "hold", "host": "elsewhere"})
    assert asker.host == "elsewhere" and asker.call("notes") == []
    sums.call("let go", 42)
    inline.settle()
    assert asker.call("notes") == [["hold", 42, "elsewhere"]]
    asker.hop("home")
    assert asker.call("notes") == [["hold", 42, "elsewhere"]]


def test_an_error_and_a_silence_come_there_too(inline: Inline) -> None:
    sums, asker = inline.create(Sums), inline.create(Asker)
    asker.call("ask", {"to": "nobody", "kind": "add", "body": 1})
    asker.call("ask", {"to": "sums", "kind": "add", "body": "x"})
    asker.call("ask", {"to": "sums", "kind": "hold", "timeout": 60.0})
    inline.advance(59.0)
    assert [note[0] for note in asker.call("notes")] == ["add", "add"]
    inline.advance(2.0)
    said = [note[1] for note in asker.call("notes")]
    assert "there is no agent 'nobody'" in said[0] and "does not fit" in said[1]
    assert said[2] == "sums did not answer 'hold' within 60 s"
    sums.call("let go", "too late")
    inline.settle()
    assert len(asker.call("notes")) == 3
    with pytest.raises(PeerFault, match="Asker has no method 'not there'"):
        asker.call("nobody")


def test_a_ticket_is_answered_later_from_elsewhere_and_once(inline: Inline) -> None:
    sums, asker = inline.create(Sums), inline.create(Asker)
    for _ in range(2):
        asker.call("ask", {"to": "sums", "kind": "hold"})
    inline.settle()
    sums.hop("elsewhere")
    sums.call("let go", {"a": [1]})
    sums.call("give up")
    inline.settle()
    first, second = asker.call("notes")
    assert first[1] == {"a": [1]} and "no wish to" in second[1]
    with pytest.raises(PeerFault, match="the ticket of another message"):
        sums.call("wrong ticket")


def test_a_delegated_message_is_answered_by_the_other_to_who_asked(inline: Inline) -> None:
    sums, asker, client = inline.create(Sums), inline.create(Asker), inline.create(Asker, name="client")
    assert asker.call("delegate", ["add", 5]) == 5 and sums.call("total") == 5
    with pytest.raises(PeerFault, match=r"does not fit Sums\.add"):
        asker.call("delegate", ["add", "x"])
    client.call("ask", {"to": "asker", "kind": "delegate", "body": ["hold", None]})
    inline.settle()
    asker.hop("elsewhere")
    sums.hop("yonder")
    sums.call("let go", "at last")
    inline.settle()
    assert client.call("notes") == [["delegate", "at last", "here"]]


def test_a_call_that_nobody_answers_ends(inline: Inline) -> None:
    inline.create(Sums)
    with pytest.raises(OutcomeUnknown, match=r"sums did not answer 'hold' within 0.02 s") as late:
        inline.create(Asker).call("slow", "sums")
    assert late.value.retry_after is None, "it may have been handled"


OVER = asyncio.Event()  # the first of the two that ask does not wait any more


class Busy(Agent):
    checkpoint = "hop"

    def on_creation(self, init: Any) -> None:
        self.handled: list[Any] = []

    async def handle_message(self, message: Message) -> Any:
        self.handled.append(message.kind)
        if message.kind == "work":
            assert message.deadline is None
            await OVER.wait()
        return [self.handled, message.deadline]


class Impatient(Agent):
    checkpoint = "hop"

    async def run(self) -> None:
        self.send("busy", "work")
        self.late = self.future("busy", "late", timeout=0.02)
        self.early = self.future("busy", "early", timeout=600.0)
        self.late.add_done_callback(lambda _: OVER.set())


def test_a_message_whose_time_is_over_is_not_handled(inline: Inline) -> None:
    inline.create(Busy)
    impatient = inline.create(Impatient).agent
    assert isinstance(impatient, Impatient)

    async def early() -> Any:
        return await impatient.early

    handled, left = inline.wait(early())
    assert handled == ["work", "early"] and 590.0 < left < 600.0
    assert impatient.late.error == "busy did not answer 'late' within 0.02 s"


class Herald(Agent):
    def on_creation(self, init: Any) -> None:
        self.news: list[Any] = []

    def handle_message(self, message: Message) -> Any:
        match message.kind:
            case "subscribe":
                self.subscribe(message.body)
            case "unsubscribe":
                self.unsubscribe(message.body)
            case "tell":
                self.multicast(*message.body)
            case "news":
                self.news.append([message.body, message.sender.rpartition("-")[0]])
        return self.news


def test_a_multicast_comes_to_all_others_that_subscribe_wherever_they_went(inline: Inline) -> None:
    a, b, c = (inline.create(Herald, name=name) for name in "abc")
    for each in (a, b, c):
        each.call("subscribe", "weather")
    b.hop("elsewhere")
    c.call("unsubscribe", "weather")
    a.call("tell", ["weather", "news", "rain"])
    a.call("tell", ["sports", "news", "goal"])
    inline.settle()
    assert [each.call("look") for each in (a, b, c)] == [[], [["rain", "a"]], []]


class Sleeper(Agent):
    def on_creation(self, init: Any) -> None:
        self.rang: list[Any] = []
        self.timers: list[int] = []

    @handles("after")
    def set(self, seconds: float, body: Any = None) -> int:
        return self.after(seconds, "ring", body)

    @handles("every")
    def set_again(self, seconds: float) -> int:
        return self.every(seconds, "ring", "again")

    @handles("cancel")
    def end(self, timer: int) -> bool:
        return self.cancel(timer)

    @handles("ring")
    def ring(self, message: Message) -> None:
        assert (message.sender, message.later, message.deadline) == (self.id, None, None)
        self.rang.append([message.body, self.host])

    @handles("rang")
    def say(self) -> list[Any]:
        return self.rang


def test_a_timer_rings_once_at_its_time_also_after_a_hop(inline: Inline) -> None:
    sleeper = inline.create(Sleeper)
    sleeper.call("after", {"seconds": 60, "body": {"what": "tea"}})
    inline.advance(59)
    sleeper.hop("elsewhere")
    assert sleeper.call("rang") == []
    inline.advance(2)
    assert sleeper.call("rang") == [[{"what": "tea"}, "elsewhere"]]
    sleeper.hop("here")
    inline.advance(1000)
    assert len(sleeper.call("rang")) == 1


def test_a_timer_and_an_answer_wake_an_agent_that_is_deactivated(inline: Inline) -> None:
    sleeper, sums, asker = inline.create(Sleeper), inline.create(Sums), inline.create(Asker)
    sleeper.call("after", {"seconds": 60, "body": "up"})
    asker.call("ask", {"to": "sums", "kind": "hold", "timeout": 600.0})
    inline.settle()
    for each in (sleeper, asker):
        each.deactivate()
    inline.advance(59)
    assert sleeper.asleep and asker.asleep
    inline.advance(2)
    assert not sleeper.asleep and sleeper.call("rang") == [["up", "here"]]
    sums.call("let go", "good morning")
    inline.settle()
    assert not asker.asleep and asker.call("notes") == [["hold", "good morning", "here"]]


def test_a_clone_has_neither_the_timers_nor_the_questions(inline: Inline) -> None:
    sleeper = inline.create(Sleeper)
    sleeper.call("after", {"seconds": 60, "body": "mine"})
    clone = sleeper.clone()
    inline.advance(61)
    assert (sleeper.call("rang"), clone.call("rang")) == ([["mine", "here"]], [])


def test_every_skips_what_it_missed_until_it_is_cancelled(inline: Inline) -> None:
    sleeper = inline.create(Sleeper)
    timer = sleeper.call("every", 10.0)
    for seconds, rung in ((9, 0), (1.5, 1), (9, 1), (1, 2), (1000, 3), (8, 3), (1.5, 4)):
        inline.advance(seconds)
        assert len(sleeper.call("rang")) == rung
    assert sleeper.call("cancel", timer) is True and sleeper.call("cancel", timer) is False
    inline.advance(100)
    assert len(sleeper.call("rang")) == 4


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12])
def test_a_timer_for_no_time_is_refused(inline: Inline, seconds: float) -> None:
    with pytest.raises(PeerFault, match="a timer takes 0 to "):
        inline.create(Sleeper).call("after", {"seconds": seconds})


def test_a_timer_without_pause_is_refused(inline: Inline) -> None:
    with pytest.raises(PeerFault, match=r"a timer takes 0\.01 to "):
        inline.create(Sleeper).call("every", 0.0)


class Keeper(Agent):
    def on_creation(self, init: Any) -> None:
        self.kept: Any = None

    @handles("keep")
    def keep(self, other: str) -> None:
        self.kept = self.future(other, "add", 1)

    @handles("question")
    def question(self, then: Any) -> None:
        self.future(self.id, "keep", "nobody", then=then)

    @handles("delegate")
    def pass_on(self, what: Any) -> Any:
        return self.delegate(what, self.id)


def test_a_reply_that_is_kept_says_what_to_do_instead(inline: Inline) -> None:
    keeper, sums = inline.create(Keeper), inline.create(Sums)
    with pytest.raises(PeerFault, match=r"Keeper\.kept: the reply of sums-.* to 'add' .*then="):
        keeper.call("keep", sums.id)


@pytest.mark.parametrize("what", [None, 5, "x" * 10_000, {"kind": "add"}])
def test_what_is_no_message_is_not_delegated_and_what_is_no_method_takes_no_answer(inline: Inline, what: Any) -> None:
    keeper = inline.create(Keeper)
    with pytest.raises(PeerFault, match="the message that the handler got") as refused:
        keeper.call("delegate", what)
    assert len(str(refused.value)) < 200
    if what is not None:
        with pytest.raises(PeerFault, match="has no method") as refused:
            keeper.call("question", what)
        assert len(str(refused.value)) < 300

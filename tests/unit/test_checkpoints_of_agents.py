"""What an agent's worker tells its host, and when: the state, the answers and the letters of one checkpoint."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from agentplatform import Agent, FutureReply, Later, Message
from agentplatform.messages import Answer, Arrival, Captured, Checkpoint, Delivery, Move, Outgoing
from agentplatform.parcel.freight import Freight
from agentplatform.parcel.state import restore
from agentplatform.runners import checkpoints
from agentplatform.runners.checkpoints import Pieces, policy_of
from agentplatform.runners.place import PIECE_BYTES
from agentplatform.runners.resident import Resident
from agentplatform.runners.stowage import INLINE, Stowage
from ledger import codec
from ledger.errors import Misuse, Unavailable


class Told:
    """Upcalls, written down in their order."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        self.said.append(checkpoint)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        self.said.append(outgoing)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self.said.append((ticket, answer))

    def printed(self, agent: str, stream: str, text: str) -> None:
        self.said.append(text)

    def wants_to_go(self, agent: str, destination: str, state: bytes) -> None:
        self.said.append(state)

    def died(self, agent: str, reason: str) -> None: ...

    def wants_to_end(self, agent: str) -> None:
        self.said.append("the end")

    def take(self) -> list[Any]:
        said, self.said = self.said, []
        return said


class Clerk(Agent):
    """Counts, and does what its messages say."""

    def on_creation(self, init: Any) -> None:
        self.value = 0
        self.gate: str | None = None

    async def run(self) -> None:
        if self.value == 100:
            self.value += 1
            self.send("deep", "from run")
            self.value += await self.call("deep", "more")

    async def handle_message(self, message: Message) -> Any:
        self.value += 1
        match message.kind:
            case "send":
                self.send("deep", "one", self.value)
                self.send("deep", "two", self.value)
            case "call":
                self.send("deep", "before")
                self.value += await self.call("deep", "more")
                self.send("deep", "after")
            case "lock":
                self.lock = threading.Lock()
            case "go":
                self.send("deep", "going")
                self.dispatch("there")
            case "unchanged":
                self.value -= 1
            case "hundred":
                self.value = 100
        return self.value

    def on_dispatching(self, destination: str) -> None:
        self.send("deep", "good-bye")


class Inquirer(Clerk):
    """Asks for an answer that it need not wait for."""

    def on_creation(self, init: Any) -> None:
        super().on_creation(init)
        self.heard: list[Any] = []

    async def handle_message(self, message: Message) -> Any:
        match message.kind:
            case "ask":
                self.send("deep", "before")
                self.future("deep", "question", then="answered")
                self.value += await self.call("deep", "more")
            case "wait":
                return message.later
            case "lock":
                self.lock = threading.Lock()
                self.reply(Later("client", 1, ""), "belated")
        return self.value

    def answered(self, reply: FutureReply) -> None:
        self.heard.append(reply.result())


class InquirerByHop(Inquirer):
    checkpoint = "hop"


class Seldom(Clerk):
    checkpoint = 0.01


class Hopper(Clerk):
    checkpoint = "hop"


class Careless(Clerk):
    checkpoint = "none"


class Careful(Clerk):
    """Keeps what matters, and then says so."""

    checkpoint = "hop"

    async def handle_message(self, message: Message) -> Any:
        assert message.later is not None
        self.value += 1
        if message.kind == "matters":
            self.snapshot()
        self.reply(message.later, self.value)
        return message.later


class Desk:
    def __init__(self) -> None:
        self.told = Told()
        self.tickets = 0
        self.stowage: Stowage = INLINE

    async def create(self, cls: type[Agent]) -> Resident:
        self.resident = Resident("clerk", "clerk", self.told, lambda agent: None, 5.0, self.stowage)
        await asyncio.ensure_future(self.resident.create(cls, codec.encode(None), Arrival("here", 0, None)))
        await self.rest()
        return self.resident

    async def ask(self, kind: str) -> list[Any]:
        self.tickets += 1
        self.resident.deliver(Delivery(self.tickets, "client", kind, codec.encode(None)))
        await self.rest()
        return self.told.take()

    async def rest(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    desk.resident._end = lambda event: None  # type: ignore[method-assign]
    for task in (desk.resident._life, desk.resident._run):
        if task is not None:
            task.cancel()


def value_of(state: Captured | None, cls: type[Clerk] = Clerk) -> int:
    assert state is not None and state.pieces == ()
    agent = restore(state.head, cls)
    assert isinstance(agent, Clerk)
    return agent.value


async def test_one_checkpoint_has_the_state_the_answer_and_the_letters_in_order(desk: Desk) -> None:
    await desk.create(Clerk)
    (born,) = desk.told.take()
    assert value_of(born.state) == 0 and born.answers == () and born.letters == ()
    (checkpoint,) = await desk.ask("send")
    assert value_of(checkpoint.state) == 1
    assert checkpoint.answers == ((1, Answer(True, codec.encode(1))),)
    assert [(each.kind, each.body) for each in checkpoint.letters] == [("one", b"\x01"), ("two", b"\x01")]


async def test_a_state_that_did_not_change_is_not_sent_again(desk: Desk) -> None:
    await desk.create(Clerk)
    desk.told.take()
    (checkpoint,) = await desk.ask("unchanged")
    assert checkpoint.state is None and len(checkpoint.answers) == 1


async def test_a_reply_leaves_with_the_snapshot_of_its_handler(desk: Desk) -> None:
    await desk.create(Careful)
    desk.told.take()
    (checkpoint,) = await desk.ask("is nothing")
    assert checkpoint.state is None and [answer.body for _, answer in checkpoint.late] == [b"\x01"]
    (checkpoint,) = await desk.ask("matters")
    assert value_of(checkpoint.state, Careful) == 2
    assert [answer.body for _, answer in checkpoint.late] == [b"\x02"]


async def test_what_matters_and_cannot_be_kept_is_not_said_to_be(desk: Desk) -> None:
    resident = await desk.create(Careful)
    desk.told.take()
    resident.instance.lock = threading.Lock()  # type: ignore[union-attr]
    (checkpoint,) = await desk.ask("is nothing")
    assert [answer.ok for _, answer in checkpoint.late] == [True]
    checkpoint, _ = await desk.ask("matters")
    assert checkpoint.state is None
    ((_, answer),) = checkpoint.late
    assert not answer.ok and "Careful.lock" in codec.decode(answer.body, str)


class Diligent(Clerk):
    async def run(self) -> None:
        await asyncio.sleep(0)
        self.data.write({"a": 1, "b": 2})


async def test_what_run_puts_is_a_checkpoint_by_itself(desk: Desk) -> None:
    await desk.create(Diligent)
    born, checkpoint = desk.told.take()
    assert restore(born.state.head, Diligent)._mae_data.list() == []
    kept = restore(checkpoint.state.head, Diligent)._mae_data
    assert kept.get("a") == 1 and kept.get("b") == 2 and checkpoint.answers == ()


class Listener(Clerk):
    def on_cloned(self, clone: str) -> None:
        self.value += 10

    def on_move_failed(self, reason: str) -> None:
        self.value += 100


async def test_what_a_hook_changed_is_a_checkpoint(desk: Desk) -> None:
    resident = await desk.create(Listener)
    desk.told.take()
    resident.tell("on_cloned", "other")
    await desk.rest()
    (checkpoint,) = desk.told.take()
    assert value_of(checkpoint.state, Listener) == 10 and not checkpoint.letters
    move = asyncio.ensure_future(resident.capture(Move("there", "owner", "a test")))
    await desk.rest()
    await move
    desk.told.take()
    resident.thaw("nobody is there")
    await desk.rest()
    (checkpoint,) = desk.told.take()
    assert value_of(checkpoint.state, Listener) == 110


async def test_a_hook_that_the_class_has_not_is_none(desk: Desk) -> None:
    resident = await desk.create(Clerk)
    desk.told.take()
    resident.tell("on_cloned", "other")
    await desk.rest()
    assert desk.told.take() == []


async def test_a_hook_that_is_not_kept_is_seen(desk: Desk) -> None:
    """The broken twin: it calls the hook, and that is all."""
    resident = await desk.create(Listener)
    resident._inform = resident._hook_or_traceback  # type: ignore[method-assign]
    desk.told.take()
    resident.tell("on_cloned", "other")
    await desk.rest()
    assert desk.told.take() == [] and resident.instance.value == 10  # type: ignore[union-attr]


async def test_a_call_in_a_handler_leaves_at_once_and_takes_along_what_was_sent_before_it(desk: Desk) -> None:
    resident = await desk.create(Clerk)
    desk.told.take()
    before, call = await desk.ask("call")
    assert (before.kind, before.call, call.kind) == ("before", None, "more") and call.call is not None
    resident.answer(call.call, Answer(True, codec.encode(10)))
    await desk.rest()
    (checkpoint,) = desk.told.take()
    assert value_of(checkpoint.state) == 11 and [each.kind for each in checkpoint.letters] == ["after"]


async def test_what_run_sends_and_calls_leaves_with_the_state_that_it_left(desk: Desk) -> None:
    resident = await desk.create(Clerk)
    await desk.ask("hundred")
    state = await asyncio.ensure_future(resident.capture(Move("there", "owner", "a test")))
    desk.told.take()
    resident.thaw(None)
    await desk.rest()
    (checkpoint,) = desk.told.take()
    assert value_of(checkpoint.state) == 101 and state
    assert [(each.kind, each.call is None) for each in checkpoint.letters] == [("from run", True), ("more", False)]
    resident.answer(checkpoint.letters[1].call, Answer(True, codec.encode(1)))


async def test_what_cannot_be_kept_is_answered_with_the_reason_and_nothing_leaves(desk: Desk) -> None:
    await desk.create(Clerk)
    desk.told.take()
    checkpoint, note = await desk.ask("lock")
    ((_, answer),) = checkpoint.answers
    assert checkpoint.state is None and checkpoint.letters == () and not answer.ok
    assert "Clerk.lock" in codec.decode(answer.body, str) and "Clerk.lock" in note
    assert '"hop"' in note


async def test_an_agent_that_leaves_has_been_checkpointed_and_says_good_bye_before_it_is_frozen(desk: Desk) -> None:
    await desk.create(Clerk)
    desk.told.take()
    checkpoint, good_bye, state = await desk.ask("go")
    assert value_of(checkpoint.state) == 1 and [each.kind for each in checkpoint.letters] == ["going"]
    assert good_bye.kind == "good-bye" and isinstance(state, bytes)


async def test_by_the_clock_answers_and_letters_leave_at_once_and_the_state_later(desk: Desk) -> None:
    await desk.create(Seldom)
    desk.told.take()
    one, two, answer = await desk.ask("send")
    assert (one.kind, two.kind, answer[1].ok, one.kept) == ("one", "two", True, True)
    async with asyncio.timeout(10):
        while not desk.told.said:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    (checkpoint,) = desk.told.take()
    assert checkpoint.state is not None and checkpoint.answers == () and checkpoint.letters == ()


@pytest.mark.parametrize(("cls", "kept"), [(Hopper, True), (Careless, False)])
async def test_without_checkpoints_there_are_none(desk: Desk, cls: type[Agent], kept: bool) -> None:
    await desk.create(cls)
    said = await desk.ask("send")
    assert [each.kept for each in said[:2]] == [kept, kept] and said[2][1].ok and len(said) == 3


@pytest.mark.parametrize("policy", ["often", 0, -1.0, True, None, float("nan"), float("inf")])
async def test_a_policy_that_is_none_is_refused_at_creation(policy: Any) -> None:
    wrong = type("Wrong", (Clerk,), {"checkpoint": policy})
    with pytest.raises(Misuse, match=r'Wrong.checkpoint is "message", a number of seconds above 0, "hop" or "none"'):
        policy_of(wrong)
    with pytest.raises(Misuse, match=r"could not be created: .*checkpoint is"):
        await asyncio.ensure_future(
            Resident("clerk", "clerk", Told(), lambda agent: None, 5.0).create(wrong, b"\xc0", Arrival("here", 0, None))
        )


async def test_an_agent_that_cannot_be_kept_is_not_created() -> None:
    class Locked(Clerk):
        def on_creation(self, init: Any) -> None:
            self.lock = threading.Lock()

    with pytest.raises(Misuse, match=r"could not be created: the state of clerk cannot be kept: .*Locked\.lock"):
        await asyncio.ensure_future(
            Resident("clerk", "clerk", Told(), lambda agent: None, 5.0).create(
                Locked, b"\xc0", Arrival("here", 0, None)
            )
        )


async def asked(desk: Desk, cls: type[Inquirer] = Inquirer) -> tuple[Resident, Checkpoint, Outgoing]:
    """A resident whose question left, with the checkpoint that it left with."""
    resident = await desk.create(cls)
    desk.told.take()
    before, call = await desk.ask("ask")
    assert (before.kind, call.kind, before.loose, call.loose) == ("before", "more", True, True)
    assert call.call is not None
    resident.answer(call.call, Answer(True, codec.encode(1)))
    await desk.rest()
    (checkpoint,) = desk.told.take()
    (question,) = checkpoint.letters
    return resident, checkpoint, question


async def test_a_question_leaves_with_the_state_that_waits_for_its_answer_whatever_is_called_meanwhile(
    desk: Desk,
) -> None:
    _, checkpoint, question = await asked(desk)
    assert question.kind == "question" and question.then and question.seconds == 30.0
    assert checkpoint.state is not None and len(checkpoint.answers) == 1
    agent = restore(checkpoint.state.head, Inquirer)
    assert isinstance(agent, Inquirer) and agent.value == 1 and list(agent._mae_agenda.questions) == [question.call]


async def test_an_answer_that_came_just_before_a_move_that_fails_is_not_forgotten(desk: Desk) -> None:
    resident, _, question = await asked(desk)
    assert question.call is not None
    capture = asyncio.ensure_future(resident.capture(Move("there", "owner", "a test")))
    await asyncio.sleep(0)
    resident.answer(question.call, Answer(True, codec.encode("yes")))
    state = await capture
    assert isinstance(state, bytes) and resident.instance.heard == []  # type: ignore[union-attr]
    resident.thaw("no room")
    await desk.rest()
    assert resident.instance.heard == ["yes"]  # type: ignore[union-attr]
    assert desk.told.take()[-1].heard == (question.call,)


async def test_a_ticket_and_its_answer_come_with_checkpoints(desk: Desk) -> None:
    resident = await desk.create(Inquirer)
    desk.told.take()
    (checkpoint,) = await desk.ask("wait")
    assert checkpoint.answers == ((1, None),)
    later = Later("client", 0, "")
    resident.instance.reply(later, {"a": 1})  # type: ignore[union-attr]
    await desk.rest()
    (checkpoint,) = desk.told.take()
    assert checkpoint.late == ((later, Answer(True, codec.encode({"a": 1}))),) and checkpoint.answers == ()
    assert not checkpoint.loose


async def test_what_cannot_be_kept_is_no_late_answer_either(desk: Desk) -> None:
    await desk.create(Inquirer)
    desk.told.take()
    checkpoint, _ = await desk.ask("lock")
    ((_, answer), ((_, late),)) = checkpoint.answers[0], checkpoint.late
    assert not answer.ok and late == answer and "Inquirer.lock" in codec.decode(late.body, str)


async def test_by_hop_answers_leave_also_when_a_state_that_was_asked_for_cannot_be_kept(desk: Desk) -> None:
    resident = await desk.create(InquirerByHop)
    desk.told.take()
    resident.instance.lock = threading.Lock()  # type: ignore[union-attr]
    later = Later("client", 1, "")
    resident.instance.reply(later, "belated")  # type: ignore[union-attr]
    resident.instance.snapshot()  # type: ignore[union-attr]
    await desk.rest()
    checkpoint = next(each for each in desk.told.take() if isinstance(each, Checkpoint))
    assert checkpoint.answers_alone and checkpoint.late == ((later, Answer(True, codec.encode("belated"))),)


async def test_by_hop_tickets_and_questions_come_without_a_state(desk: Desk) -> None:
    resident = await desk.create(InquirerByHop)
    desk.told.take()
    (checkpoint,) = await desk.ask("wait")
    assert checkpoint.state is None and checkpoint.answers == ((1, None),) and checkpoint.answers_alone
    before, question, call = await desk.ask("ask")
    assert (before.loose, question.then, call.then) == (False, True, False)
    resident.answer(call.call, Answer(True, codec.encode(1)))
    resident.answer(question.call, Answer(True, codec.encode("yes")))
    await desk.rest()
    (ticket, answer), checkpoint = desk.told.take()
    assert (ticket, answer.ok, checkpoint.state, checkpoint.heard) == (2, True, None, (question.call,))


class Gallery(Agent):
    def __init__(self) -> None:
        self.faces = numpy.zeros(2 * PIECE_BYTES + 10, dtype=numpy.uint8)
        self.text = ""


def whole(state: Captured, has: dict[bytes, bytes]) -> Gallery:
    has |= dict(state.fresh)
    agent = restore(b"".join((state.head, *(has[digest] for digest in state.pieces))), Gallery)
    assert isinstance(agent, Gallery)
    return agent


def test_of_a_large_state_only_the_pieces_that_changed_go_again() -> None:
    agent, pieces, has = Gallery(), Pieces(), dict[bytes, bytes]()
    first = pieces.capture(agent)
    assert first is not None and len(first.pieces) == 3 and len(first.fresh) == 2  # two pieces are alike
    assert (whole(first, has).faces == agent.faces).all()
    assert pieces.capture(agent) is None
    agent.faces[PIECE_BYTES + 5] = 7
    second = pieces.capture(agent)
    assert second is not None and len(second.fresh) == 1 and second.head == first.head
    assert whole(second, has).faces[PIECE_BYTES + 5] == 7
    agent.text = "x" * (3 * PIECE_BYTES)
    third = pieces.capture(agent)
    assert third is not None and len(third.head) < 100 and whole(third, has).text == agent.text
    pieces.forget()
    again = pieces.capture(agent)
    assert again is not None and {digest for digest, _ in again.fresh} == set(again.pieces)


# States that are too large for pieces


class Library(Clerk):
    def on_creation(self, init: Any) -> None:
        super().on_creation(init)
        self.shelves = numpy.zeros(3 << 20, dtype=numpy.uint8)

    async def handle_message(self, message: Message) -> Any:
        if message.kind == "burn":
            self.shelves = self.shelves[:10].copy()
        return await super().handle_message(message)


class Shelf:
    """A Stowage of real files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[int]()
        self.meanwhile: Callable[[], None] = lambda: None
        self.refusal: Exception | None = None

    async def pack(self, agent: str, parts: Any) -> bytes:
        raise AssertionError("nobody goes")

    async def borrow(self, agent: str, size: int) -> int:
        await asyncio.sleep(0)
        self.meanwhile()
        self.meanwhile = lambda: None
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(size)
        path = self.folder / str(len(self.asked))
        path.write_bytes(bytes(size))
        return os.open(path, os.O_RDWR)

    def last(self) -> Library:
        raw = (self.folder / str(len(self.asked))).read_bytes()
        agent = restore(raw, Library)
        assert isinstance(agent, Library)
        return agent


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desk: Desk) -> Shelf:
    monkeypatch.setattr(checkpoints, "MAX_STATE_BYTES", 2 << 20)
    desk.stowage = shelf = Shelf(tmp_path)
    return shelf


async def test_a_large_state_is_one_file_that_is_written_when_it_has_changed(desk: Desk, shelf: Shelf) -> None:
    await desk.create(Library)
    (born,) = desk.told.take()
    assert born.state.file == "" and shelf.last().value == 0
    freight = codec.decode(born.state.head, Freight)
    assert freight.size == (shelf.folder / "1").stat().st_size < shelf.asked[0]
    (checkpoint,) = await desk.ask("send")
    assert checkpoint.state.file == "" and checkpoint.answers and len(checkpoint.letters) == 2
    assert shelf.last().value == 1 and len(shelf.asked) == 2
    (checkpoint,) = await desk.ask("unchanged")
    assert checkpoint.state is None and checkpoint.answers and len(shelf.asked) == 2
    (checkpoint,) = await desk.ask("burn")
    assert checkpoint.state.file is None and checkpoint.state.head  # small again: in pieces
    assert len(shelf.asked) == 2


async def test_what_grows_while_it_waits_for_its_file_is_captured_as_one(desk: Desk, shelf: Shelf) -> None:
    resident = await desk.create(Library)
    desk.told.take()
    agent = resident.instance
    assert isinstance(agent, Library)

    def grow() -> None:
        agent.shelves = numpy.ones(5 << 20, dtype=numpy.uint8)
        agent.send("deep", "grown")

    shelf.meanwhile = grow
    (checkpoint,) = await desk.ask("send")
    assert shelf.asked[2] > 5 << 20 > shelf.asked[1]
    assert shelf.last().shelves.sum() == 5 << 20
    assert [letter.kind for letter in checkpoint.letters] == ["one", "two", "grown"]


async def test_without_a_file_the_message_is_answered_with_why_and_nothing_leaves(desk: Desk, shelf: Shelf) -> None:
    await desk.create(Library)
    desk.told.take()
    shelf.refusal = Unavailable("the disk is full")
    said = await desk.ask("send")
    (checkpoint,) = [each for each in said if isinstance(each, Checkpoint)]
    assert checkpoint.state is None and checkpoint.letters == () and len(said) == 2
    ((_, answer),) = checkpoint.answers
    assert answer is not None and not answer.ok
    assert "cannot be kept now: the disk is full" in codec.decode(answer.body, str)
    shelf.refusal = None
    (checkpoint,) = await desk.ask("send")
    assert checkpoint.state.file == "" and shelf.last().value == 2

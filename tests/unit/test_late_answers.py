"""Answers that come later, at the receiver's host; and questions, whose answers wait for the asker's state, at his."""

import random

import pytest
from msgspec.structs import replace

from agentplatform.mail import Change, Letter, Luggage, Memory, Reply, Seen
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Answer, Captured, Checkpoint, Later, Outgoing
from agentplatform.runners.errands import QUESTIONS_FROM
from agentplatform.runners.process import wire
from agentplatform.whereabouts import Located
from ledger import codec
from ledger.errors import PeerFault
from tests.helpers.mail_desk import AGENT, OTHER, Desk, turn

YES = Answer(True, b"\xc3")
ASKED = QUESTIONS_FROM + 7
NEAR = "near-0000000000000003"


def letter(sequence: int, settled: int = 0) -> Letter:
    return Letter(OTHER, 0, sequence, settled, AGENT, "south", "hold", b"\xc0")


def open_box(*letters: Letter) -> Mailbox:
    box = Mailbox(Luggage())
    box.open = True
    for each in letters:
        box.take(each)
        box.next()
    return box


def late(box: Mailbox, sequence: int, answer: Answer = YES) -> Reply | None:
    reply = Reply(AGENT, OTHER, sequence, "south", answer.ok, answer.body)
    return reply if box.answered_later(reply) else None


def recalled(seen: list[Seen], luggage: Luggage | None = None) -> Mailbox:
    """The mailbox after a restart, from what checkpoints wrote."""
    luggage = luggage or Luggage()
    for each in sorted(seen, key=lambda each: each.sequence):
        luggage.recall_seen(each)
    return Mailbox(luggage)


def test_a_letter_that_is_answered_later_is_handled_once_and_its_answer_repeated() -> None:
    box = open_box(letter(1), letter(2))
    assert box.handled(None) is None
    second = box.handled(YES)
    assert box.take(letter(1)) is None and not box.waiting  # a repeat: handled, not answered yet
    first = late(box, 1)
    assert first is not None
    assert box.take(letter(1)) == first and box.take(letter(2)) == second
    assert late(box, 1, Answer(False, b"\xc0")) is None and box.take(letter(1)) == first


def test_what_was_never_had_is_not_answered() -> None:
    box = open_box(letter(1))
    assert late(box, 1) is None  # not handled yet
    box.handled(None)
    assert late(box, 2) is None and late(box, 1) is not None


def test_late_answers_that_no_checkpoint_ever_takes_are_forgotten_when_they_are_settled() -> None:
    """An agent with a looser checkpoint may answer for years without one."""
    box = open_box()
    for sequence in range(1, 1001):
        box.take(letter(sequence, settled=sequence - 1))
        box.next()
        box.handled(None)
        assert late(box, sequence) is not None
    assert len(box._late) == 1 and len(box.luggage.senders[OTHER].replies) == 1
    assert [each.sequence for each in box.changes()[0]] == [1000]


def test_checkpoints_remember_that_an_answer_is_owed_and_then_the_answer() -> None:
    box = open_box(letter(1), letter(2))
    box.handled(None)
    seen, _ = box.changes()
    assert seen == [Seen(OTHER, 1, 0, None)]
    assert recalled(seen).luggage.senders[OTHER].handled == 1  # it is not handled again
    box.handled(YES)
    rows = {each.sequence: each for each in (*seen, *box.changes()[0])}
    answer = late(box, 1)
    rows |= {each.sequence: each for each in box.changes()[0]}
    again = recalled(list(rows.values()))
    assert again.luggage.senders[OTHER].handled == 2 and again.take(letter(1)) == answer
    assert again.take(letter(2)) is not None


def test_an_answer_that_was_owed_in_the_luggage_is_recalled_too() -> None:
    """The agent brought the letter along, handled, and answered it here."""
    luggage = Luggage({OTHER: Memory(0, 5, [])})
    reply = Reply(AGENT, OTHER, 3, "south", True, b"\xc3")
    assert recalled([Seen(OTHER, 3, 0, reply)], luggage).take(letter(3)) == reply


async def test_a_late_answer_leaves_when_it_is_written() -> None:
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "south"))
    desk.room.admit(AGENT, 1, Luggage())
    desk.room.receive("south", codec.encode(letter(1)))
    ((_, delivery),) = desk.delivered
    later = Later(delivery.sender, delivery.sequence, delivery.origin)
    assert later == Later(OTHER, 1, "south")
    desk.room.checkpointed(AGENT, Checkpoint(None, ((delivery.ticket, None),), ()))
    desk.kept[0][0].set_result(None)
    await turn()
    assert desk.wire == []
    forged = (Later("client-1", 9, "east"), YES), (Later(OTHER, 2, "south"), YES)
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), late=((later, YES), *forged)))
    assert desk.wire == [] and [each.sequence for each in desk.kept[1][1].seen] == [1]
    desk.kept[1][0].set_result(None)
    await turn()
    assert desk.wire == [("south", codec.encode(Reply(AGENT, OTHER, 1, "south", True, b"\xc3")))]


async def test_a_late_answer_of_a_looser_agent_waits_for_nothing_and_is_written_with_what_comes_next() -> None:
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "south"))
    desk.room.admit(AGENT, 1, Luggage())
    desk.room.receive("south", codec.encode(letter(1)))
    desk.room.receive("south", codec.encode(letter(2)))
    tickets = [delivery.ticket for _, delivery in desk.delivered]
    desk.room.checkpointed(AGENT, Checkpoint(None, ((tickets[0], None), (tickets[1], None)), (), loose=True))
    later = Later(OTHER, 1, "south")
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), late=((later, YES),), loose=True))
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), late=((later, YES),), loose=True))  # a second one
    reply = Reply(AGENT, OTHER, 1, "south", True, b"\xc3")
    assert desk.wire == [("south", codec.encode(reply))] and desk.kept == []
    desk.room.receive("south", codec.encode(letter(1)))  # a repeat is answered from memory
    assert desk.wire == [("south", codec.encode(reply))] * 2
    beside = Outgoing(OTHER, "news", b"\xc0", None)
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (beside,), heard=(ASKED,), loose=True))
    # No state yet that has the ticket of the second: after a crash that letter must come again.
    assert desk.kept[0][1].seen == [] and desk.kept[0][1].letters
    desk.room.checkpointed(AGENT, Checkpoint(Captured(b"state", (), ()), (), (), loose=True))
    assert {(each.sequence, each.reply) for each in desk.kept[1][1].seen} == {(1, reply), (2, None)}


async def test_what_came_too_late_does_not_hide_that_a_looser_agent_owes_an_answer_to_what_came_before() -> None:
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "south"))
    desk.room.admit(AGENT, 1, Luggage())
    desk.room.receive("south", codec.encode(letter(1)))
    owed = Checkpoint(None, ((desk.delivered[0][1].ticket, None),), (), loose=True)
    desk.room.checkpointed(AGENT, owed)
    desk.room.receive("south", codec.encode(replace(letter(2), left=0)))
    ((_, raw),) = desk.wire
    assert not codec.decode(raw, Reply, "south").ok and desk.kept == []


class WithoutItsState(Mailroom):
    """A broken twin: that messages were handled is written with whatever comes next."""

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        super().checkpointed(agent, checkpoint)
        if checkpoint.answers_at_once and not checkpoint.answers_alone:
            self._outbox.checkpoint(agent, Change(None, *self.boxes[agent].changes()))


async def lost(seed: int, room: type[Mailroom] = Mailroom) -> list[int]:
    """A life of an agent with looser checkpoints that ends in a crash: letters that nobody would ever answer."""
    draw = random.Random(seed)  # noqa: S311 - repeatable
    desk = Desk(room=room)
    desk.whereabouts.learn(Located(OTHER, 1, "south"))
    desk.room.admit(AGENT, 1, Luggage())
    tickets: list[Later] = []  # what it is, and of that what the disk has
    kept: list[Later] = []
    sent = handled = 0
    for _ in range(draw.randrange(2, 25)):
        match draw.choice(("letter", "letter", "handle", "handle", "answer", "other", "state")):
            case "letter":
                sent += 1
                left = draw.choice((None, None, 0))
                desk.room.receive("south", codec.encode(replace(letter(sent), left=left)))
            case "handle" if handled < len(desk.delivered):
                delivery = desk.delivered[handled][1]
                handled += 1
                tickets.append(Later(OTHER, delivery.sequence, "south"))
                owed = ((delivery.ticket, None),)
                desk.room.checkpointed(AGENT, Checkpoint(None, owed, (), loose=True))
            case "answer" if tickets:
                later = tickets.pop(draw.randrange(len(tickets)))
                desk.room.checkpointed(AGENT, Checkpoint(None, (), (), late=((later, YES),), loose=True))
            case "other":
                desk.room.checkpointed(AGENT, Checkpoint(None, (), (), heard=(ASKED,), loose=True))
            case "state":
                kept = list(tickets)
                desk.room.checkpointed(AGENT, Checkpoint(Captured(b"state", (), ()), (), (), loose=True))
        for durable, _ in desk.kept:
            if not durable.done():
                durable.set_result(None)
        await turn()
    answered = {codec.decode(raw, Reply, "south").sequence for _, raw in desk.wire}
    after = recalled([seen for _, change in desk.kept for seen in change.seen]).luggage.senders.get(OTHER, Memory())
    known = {later.sequence for later in kept} | {reply.sequence for reply in after.replies}
    return [number for number in range(1, after.handled + 1) if number not in answered | known]


async def test_nothing_that_a_looser_agent_owes_an_answer_to_is_lost_in_a_crash() -> None:
    for seed in range(100):
        assert await lost(seed) == [], f"seed {seed}"
    assert any([await lost(seed, WithoutItsState) for seed in range(100)])


async def test_each_letter_that_came_too_late_is_written_where_what_came_before_is() -> None:
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "south"))
    desk.room.admit(AGENT, 1, Luggage())
    for sequence, settled in ((1, 0), (2, 0), (5, 4)):  # two that its sender gave up on never came
        desk.room.receive("south", codec.encode(replace(letter(sequence, settled), left=0)))
    assert [seen.sequence for _, change in desk.kept for seen in change.seen] == [1, 2, 5] and desk.wire == []


async def test_an_agent_whose_answers_wait_for_nothing_hears_nothing_before_it_is_written() -> None:
    """Nor one whose worker says so after it has said otherwise."""
    desk = Desk()
    for agent in (AGENT, NEAR):
        desk.room.admit(agent, 1, Luggage())
    desk.whereabouts.learn(Located(OTHER, 1, "south"))
    tickets = []
    for sequence in (1, 2):
        desk.room.receive("south", codec.encode(letter(sequence)))
        tickets.append(desk.delivered[-1][1].ticket)
    desk.delivered.clear()
    desk.room.checkpointed(AGENT, Checkpoint(None, ((tickets[0], YES),), ()))
    desk.room.checkpointed(AGENT, Checkpoint(None, ((tickets[1], YES),), (), loose=True))
    desk.room.checkpointed(NEAR, Checkpoint(None, (), (Outgoing(AGENT, "news", b"\xc0", None),)))
    assert desk.delivered == []
    desk.kept[-1][0].set_result(None)
    await turn()
    assert len(desk.delivered) == 1


def test_a_worker_says_on_the_wire_that_its_answers_wait_for_nothing() -> None:
    for loose in (False, True):
        frame = wire.Checkpointed.of(AGENT, Checkpoint(None, ((1, None),), (), loose=loose))
        assert frame.checkpoint().answers_alone == loose
    assert not Checkpoint(None, (), (), heard=(ASKED,), loose=True).answers_alone


async def asking(desk: Desk) -> Luggage:
    luggage = Luggage()
    desk.whereabouts.learn(Located(OTHER, 1, "south"))
    desk.room.admit(AGENT, 1, luggage)
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (Outgoing(OTHER, "hold", b"\xc0", ASKED, then=True),)))
    desk.kept[-1][0].set_result(None)
    await turn()
    return luggage


REPLY = codec.encode(Reply(OTHER, AGENT, 1, "north", True, b"\xc3"))


async def test_a_question_is_open_until_the_state_of_who_asked_has_the_answer() -> None:
    desk = Desk()
    luggage = await asking(desk)
    desk.room.receive("south", REPLY)
    desk.room.receive("south", REPLY)
    assert desk.answers == [(AGENT, ASKED, YES)] and luggage.sent[OTHER].letters
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), heard=(ASKED, ASKED + 1)))
    assert not luggage.sent[OTHER].letters and desk.dropped == [(AGENT, OTHER, 1)]
    desk.room.receive("south", REPLY)
    assert len(desk.answers) == 1


async def test_where_the_agent_went_its_question_is_asked_again_and_answered_there() -> None:
    desk, there = Desk(), Desk("east")
    await asking(desk)
    desk.room.receive("south", REPLY)
    luggage = desk.room.close(AGENT)  # the captured state does not know the answer
    there.whereabouts.learn(Located(OTHER, 1, "south"))
    there.room.admit(AGENT, 2, luggage)
    there.room.resend()
    assert [host for host, _ in there.wire] == ["south"]
    there.room.receive("south", REPLY)
    assert there.answers == [(AGENT, ASKED, YES)]


async def test_an_answer_wakes_an_agent_that_sleeps() -> None:
    desk = Desk()
    luggage = await asking(desk)
    desk.room.close(AGENT)
    desk.room.sleep(AGENT, 1, luggage)
    assert desk.woken == []
    desk.room.receive("south", REPLY)
    assert desk.woken == [AGENT]
    desk.room.admit(AGENT, 1, luggage)
    desk.answers.clear()
    desk.room.receive("south", REPLY)
    assert desk.answers == [(AGENT, ASKED, YES)]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 1e12, "5"])
def test_a_worker_cannot_send_a_letter_with_a_life_that_is_none(seconds: float) -> None:
    fields = ("villain", "deep", "odd", b"\xc0", None, True, False, False)
    good = bytes(wire.encode(wire.Sent(*fields, 5.0, False, False)))
    assert wire.up_reader().feed(good)
    with pytest.raises(PeerFault, match="no frame"):
        wire.up_reader().feed(bytes(wire.encode(wire.Sent(*fields, seconds, False, False))))


@pytest.mark.parametrize(
    "more",
    [
        {"late": (("x" * 300, 1, "south", True, b""),)},
        {"late": (("client", -1, "south", True, b""),)},
        {"heard": (-1,)},
        {"topics": (("t" * 300, True),)},
        {"answers": ((1, "yes", b""),)},
    ],
)
def test_a_worker_cannot_send_a_checkpoint_with_what_no_agent_does(more: dict[str, object]) -> None:
    good = wire.Checkpointed.of("villain", Checkpoint(None, (), ()))
    assert wire.up_reader().feed(bytes(wire.encode(good)))
    bad = {name: getattr(good, name) for name in good.__struct_fields__} | more
    with pytest.raises(PeerFault, match="no frame"):
        wire.up_reader().feed(bytes(wire.encode(wire.Checkpointed(**bad))))

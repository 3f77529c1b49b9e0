"""The life of a letter: deadlines, agents that sleep, questions that outlive a move, topics."""

import pytest
from msgspec.structs import replace

from agentplatform.faults import error_in
from agentplatform.mail import EVERYBODY, MAX_TOPIC_BYTES, Letter, Luggage, Memory, Sent, Standing
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.room import LONG
from agentplatform.mailroom.sender import GRACE, RESTORED_LIFE, Sender
from agentplatform.messages import Answer, Checkpoint, Delivery, Outgoing, Requires
from agentplatform.replay import Replay
from agentplatform.subscriptions import MAX_SUBSCRIBERS, Subscribed, Subscriptions
from agentplatform.whereabouts import Located
from ledger import codec
from ledger.errors import Misuse, OutcomeUnknown, PeerFault, Unavailable
from services.eds.rules import Group
from services.rms.resources import Minima, Needs
from tests.helpers.mail_desk import AGENT, OTHER, Desk, turn

THIRD = "third-0000000000000003"
NOTHING = b"\xc0"


def letter(sequence: int, left: int | None = None, sender: str = OTHER) -> Letter:
    return Letter(sender, 1, sequence, 0, AGENT, "east", "add", NOTHING, left)


def arrive(desk: Desk, *letters: Letter) -> None:
    for each in letters:
        desk.room.receive("east", codec.encode(each))


def sent_to(desk: Desk, host: str) -> list[Letter]:
    return [codec.decode(raw, Letter) for to, raw in desk.wire if to == host]


async def written(desk: Desk) -> None:
    """All that was handed to the disk is durable."""
    for future, _ in desk.kept:
        if not future.done():
            future.set_result(None)
    await turn()


@pytest.fixture
async def desk() -> Desk:
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "east"))
    desk.room.admit(AGENT, 3, Luggage())
    return desk


# At work


async def test_who_asks_why_hears_of_a_message_that_takes_long(desk: Desk) -> None:
    arrive(desk, letter(1), letter(2), letter(3))
    desk.now += LONG - 1
    assert desk.room.long_at_work(AGENT) is None
    desk.now += 30
    assert desk.room.long_at_work(AGENT) == f"it is at 'add' from {OTHER} for 34 s, with 2 more behind it"
    desk.room.answered(AGENT, desk.delivered[0][1].ticket, Answer(True, NOTHING))
    assert desk.room.long_at_work(AGENT) is None  # the next one has just begun
    desk.now += LONG
    assert "1 more" in str(desk.room.long_at_work(AGENT))
    assert desk.room.long_at_work(THIRD) is None


# Deadlines


async def test_a_letter_tells_the_life_it_has_left_and_each_host_takes_off_its_own_time(desk: Desk) -> None:
    """Clocks of two hosts are never compared: the letter says how long, not until when."""
    desk.room.sent(AGENT, Outgoing(OTHER, "add", NOTHING, 7, seconds=30))
    desk.now += 1
    await written(desk)
    assert [each.left for each in sent_to(desk, "east")] == [30_000]
    desk.now += 4
    desk.room.resend()
    assert [each.left for each in sent_to(desk, "east")][1:] == [25_000]
    assert [each.left for each in desk.room.close(AGENT).sent[OTHER].letters] == [25_000]
    desk.room.reopen(AGENT)
    there = Desk("east")
    there.now = 77.0
    there.room.admit(OTHER, 1, Luggage())
    arrive(there, replace(letter(1, 25_000), sender=AGENT, receiver=OTHER))
    assert there.delivered[0][1].seconds == 25
    busy = replace(letter(2, 25_000), sender=AGENT, receiver=OTHER)
    there.room.pause(OTHER)
    arrive(there, busy)
    there.now += 10
    assert [each.left for each in there.room.waiting(OTHER)] == [15_000]


async def test_what_comes_to_its_turn_too_late_is_answered_with_an_error_and_not_handled(desk: Desk) -> None:
    desk.room.pause(AGENT)
    arrive(desk, letter(1, 1_000), letter(2), letter(3, 1_000))
    desk.now += 1
    desk.room.reopen(AGENT)
    assert [delivery.sequence for _, delivery in desk.delivered] == [2], "the third waits for its turn"
    handled = (desk.delivered[0][1].ticket, Answer(True, NOTHING))
    desk.room.checkpointed(AGENT, Checkpoint(None, (handled,), ()))
    assert desk.wire == [], "that the others were not handled is written first"
    await written(desk)
    replies = [codec.decode(raw, list) for _, raw in desk.wire]
    assert [(reply[3], reply[5]) for reply in replies] == [(1, False), (2, True), (3, False)]
    refused = error_in(replies[0][6], AGENT)
    assert isinstance(refused, Unavailable) and "it was not handled" in str(refused)
    assert [seen.sequence for _, change in desk.kept for seen in change.seen] == [1, 2, 3]
    arrive(desk, letter(1, 0))
    assert len(desk.delivered) == 1 and len(desk.wire) == 4, "answered again, from memory"


async def test_who_waits_hears_one_outcome_and_the_receivers_word_is_waited_for_while_there_is_a_link(
    desk: Desk,
) -> None:
    desk.room.sent(AGENT, Outgoing(OTHER, "add", NOTHING, 7, seconds=5))
    await written(desk)
    desk.now += 5 + GRACE / 2
    desk.room.remind()
    assert desk.answers == []
    desk.now += GRACE / 2
    desk.room.remind()
    ((_, call, answer),) = desk.answers
    assert call == 7 and not answer.ok
    assert "last heard of on east, which is up" in str(error_in(answer.body, OTHER))
    desk.room.receive("east", codec.encode(["reply", OTHER, AGENT, 1, "north", True, NOTHING]))
    desk.room.remind()
    assert len(desk.answers) == 1 and desk.dropped == [(AGENT, OTHER, 1)]


async def test_the_error_names_the_host_that_is_offline_and_since_when(desk: Desk) -> None:
    desk.room.sent(AGENT, Outgoing(OTHER, "add", NOTHING, 7, seconds=60))
    desk.room.sent(AGENT, Outgoing(OTHER, "add", NOTHING, 8))
    await written(desk)
    desk.up.discard("east")
    desk.roads.link_changed("east", False)
    desk.now += 59
    desk.room.remind()
    assert desk.answers == [], "a host that is offline is not dead"
    desk.now += 1
    desk.room.remind()
    assert [call for _, call, _ in desk.answers] == [7]
    assert "on east, which is offline for 60 s" in str(error_in(desk.answers[0][2].body, OTHER))
    with pytest.raises(Unavailable, match="offline for 60 s"):
        await desk.room.clients.ask("client-1", OTHER, "add", NOTHING, 0.01)


# Sleep


async def test_a_letter_wakes_an_agent_that_is_deactivated_and_waits_for_it(desk: Desk) -> None:
    arrive(desk, letter(1))
    desk.room.answered(AGENT, desk.delivered[0][1].ticket, Answer(True, NOTHING))
    desk.room.sleep(AGENT, 3, desk.room.close(AGENT))
    assert desk.woken == [] and AGENT not in desk.room.boxes
    luggage = codec.decode(codec.encode(Luggage(senders={OTHER: replies_to_one()})), Luggage)
    arrive(desk, letter(2), letter(3))
    assert set(desk.woken) == {AGENT} and len(desk.delivered) == 1
    desk.room.admit(AGENT, 3, luggage)
    assert [delivery.sequence for _, delivery in desk.delivered[1:]] == [2, 3]
    arrive(desk, letter(1))
    assert len(desk.delivered) == 3, "what it handled before it slept it does not handle again"


def replies_to_one() -> Memory:
    box = Mailbox(Luggage())
    box.open = True
    box.take(letter(1))
    box.next()
    box.handled(Answer(True, NOTHING))
    return box.luggage.senders[OTHER]


async def test_what_waits_when_an_agent_falls_asleep_wakes_it_at_once(desk: Desk) -> None:
    desk.room.pause(AGENT)
    arrive(desk, letter(1))
    desk.room.sleep(AGENT, 3, desk.room.close(AGENT))
    assert desk.woken == [AGENT]
    desk.room.admit(AGENT, 3, Luggage())
    assert [delivery.sequence for _, delivery in desk.delivered] == [1]


async def test_what_a_sleeping_agent_has_sent_is_sent_again_until_it_is_answered(desk: Desk) -> None:
    desk.room.sent(AGENT, Outgoing(OTHER, "add", NOTHING, None))
    await written(desk)
    desk.room.sleep(AGENT, 3, desk.room.close(AGENT))
    desk.wire.clear()
    desk.room.remind()
    assert [each.sequence for each in sent_to(desk, "east")] == [1]
    desk.room.receive("east", codec.encode(["reply", OTHER, AGENT, 1, "north", True, NOTHING]))
    desk.wire.clear()
    desk.room.remind()
    assert desk.wire == [] and desk.dropped == [(AGENT, OTHER, 1)] and desk.woken == []


# Questions


async def test_the_answer_to_a_question_is_given_until_the_agents_state_has_it(desk: Desk) -> None:
    """On whatever host the agent is by then: the letter is asked again there, and answered from memory."""
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (Outgoing(OTHER, "add", NOTHING, 7, then=True, seconds=60),)))
    await written(desk)
    reply = codec.encode(["reply", OTHER, AGENT, 1, "north", True, NOTHING])
    desk.room.receive("east", reply)
    desk.room.receive("east", reply)
    assert desk.answers == [(AGENT, 7, Answer(True, NOTHING))] and desk.dropped == []
    luggage = codec.decode(codec.encode(desk.room.close(AGENT)), Luggage)
    south = Desk("south")
    south.whereabouts.learn(Located(OTHER, 1, "east"))
    south.room.admit(AGENT, 4, luggage)
    south.room.remind()
    assert [(each.sequence, each.epoch) for each in sent_to(south, "east")] == [(1, 4)]
    south.room.receive("east", reply)
    assert south.answers == [(AGENT, 7, Answer(True, NOTHING))]
    south.room.checkpointed(AGENT, Checkpoint(None, (), (), heard=(7,)))
    assert south.dropped == [(AGENT, OTHER, 1)] and luggage.sent[OTHER].letters == []


# Topics and groups


async def test_a_multicast_is_one_numbered_letter_to_each_subscriber_but_the_sender(desk: Desk) -> None:
    desk.room.subscriptions.learn("east", Subscribed(OTHER, 1, ("news",)))
    desk.room.subscriptions.learn("east", Subscribed(THIRD, 0, ("news", "sports")))
    desk.room.checkpointed(
        AGENT, Checkpoint(None, (), (Outgoing("news", "flash", NOTHING, None, topic=True),), topics=(("news", True),))
    )
    (_, change), *_ = desk.kept
    assert [(each.receiver, each.sequence) for each in change.letters] == [(OTHER, 1), (THIRD, 1)]
    assert desk.announced == [Subscribed(AGENT, 3, ("news",))] == desk.room.topics_here()
    assert desk.standings == [(AGENT, Standing(None, ("news",)))], "kept with the same transaction"
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), topics=(("news", False),)))
    assert desk.announced[1:] == [Subscribed(AGENT, 3, ())] and desk.room.topics_here() == []
    assert desk.room.subscriptions.subscribers("news", "") == [OTHER, THIRD]


async def test_subscriptions_travel_and_stay_known_while_their_agent_moves(desk: Desk) -> None:
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), topics=(("news", True),)))
    luggage = codec.decode(codec.encode(desk.room.close(AGENT)), Luggage)
    desk.room.remove(AGENT)
    assert desk.room.subscriptions.subscribers("news", "") == [AGENT] and desk.room.topics_here() == []
    south = Desk("south")
    south.room.admit(AGENT, 4, luggage)
    assert south.announced == [Subscribed(AGENT, 4, ("news",))]
    desk.room.subscriptions.learn("north", Subscribed(AGENT, 3, ("sports",)))
    desk.room.subscriptions.learn("south", south.announced[0])
    desk.room.subscriptions.learn("south", Subscribed(AGENT, 3, ()))
    assert desk.room.subscriptions.subscribers("news", "") == [AGENT], "news of an earlier epoch is none"


async def test_more_topics_than_are_allowed_are_refused_and_the_agent_is_told(desk: Desk) -> None:
    many = tuple((f"topic {number}", True) for number in range(65))
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), topics=many))
    assert "a subscription was refused" in desk.notes[0][1] and desk.announced == []
    with pytest.raises(ValueError, match="bytes in all"):
        Subscribed(AGENT, 0, tuple(f"{number:02}" + "é" * 200 for number in range(MAX_TOPIC_BYTES // 400 + 1)))


def test_the_book_of_subscriptions_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.subscriptions.MAX_FROM_ONE_HOST", MAX_SUBSCRIBERS + 1)
    book = Subscriptions()
    for number in range(MAX_SUBSCRIBERS + 5):
        book.learn("mallory", Subscribed(f"x-{number:016x}", 0, ("news",)))
    with pytest.raises(Misuse, match=f"{MAX_SUBSCRIBERS + 1} agents have subscribed"):
        book.subscribers("news", "")
    book.forget("x-0000000000000000")
    assert len(book.subscribers("news", "")) == MAX_SUBSCRIBERS


async def test_what_an_agent_needs_is_kept_with_its_checkpoint_and_beside_its_topics(desk: Desk) -> None:
    needed = Requires(Needs(least=Minima(memory=7), has=("cv2",)), 3.0)
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), topics=(("news", True),), requires=needed))
    assert desk.standings[-1] == (AGENT, Standing(None, ("news",), needed)) and desk.room.requires(AGENT) == needed
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), topics=(("news", False),)))
    assert desk.standings[-1] == (AGENT, Standing(None, (), needed)), "a subscription leaves it as it is"
    kept = len(desk.standings)
    desk.room.checkpointed(AGENT, Checkpoint(None, (), (), requires=needed))
    assert len(desk.standings) == kept, "nothing new is not written"
    old = codec.decode(codec.encode([None, ["news"]]), Standing)  # as kept before agents could say it
    assert old == Standing(None, ("news",), Requires(Needs()))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e7])
def test_a_task_weight_that_cannot_be_is_refused_from_workers_and_hosts(weight: float) -> None:
    with pytest.raises(PeerFault):
        codec.decode(codec.encode([None, [], [{}, weight]]), Standing, "worker")


async def test_a_group_is_kept_at_once(desk: Desk) -> None:
    desk.room.admit(OTHER, 0, Luggage())
    group = Group("faces", (AGENT, OTHER), (), None)
    await desk.room.group(group)
    assert desk.standings == [(agent, Standing(group, ())) for agent in group.agents]


@pytest.mark.parametrize("name", ["faces", "fewer"])
async def test_an_agent_is_in_one_group(desk: Desk, name: str) -> None:
    desk.room.admit(OTHER, 0, Luggage())
    await desk.room.group(Group("faces", (AGENT, OTHER)))
    await desk.room.group(Group(name, (AGENT,)))
    assert desk.standings[2:] == [(OTHER, Standing(None, ())), (AGENT, Standing(Group(name, (AGENT,)), ()))]


# On the way


async def test_a_letter_that_was_on_its_way_while_its_sender_came_here_is_no_forgery(desk: Desk) -> None:
    late = Letter(AGENT, 2, 1, 0, OTHER, "west", "add", NOTHING)
    desk.room.receive("west", codec.encode(late))
    assert desk.wire == []


async def test_deliveries_say_where_their_answers_go(desk: Desk) -> None:
    arrive(desk, letter(1))
    assert desk.delivered == [(AGENT, Delivery(1, OTHER, "add", NOTHING, 1, "east"))]


async def test_who_has_no_letters_out_costs_nothing_when_others_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a host with thousands of agents, asleep or awake, goes through all of them for each that it starts."""
    desk, looked = Desk(), list[str]()
    unanswered = Sender.unanswered

    def look(sender: Sender, *asked: object) -> object:
        looked.append(sender._agent)
        return unanswered(sender, *asked)  # type: ignore[arg-type]

    monkeypatch.setattr(Sender, "unanswered", look)
    for number in range(20):
        desk.room.admit(f"idle-{number:016x}", 0, Luggage())
        desk.room.sleep(f"asleep-{number:016x}", 0, Luggage())
        desk.room.resend({AGENT})
    assert looked == []
    busy = Luggage(sent={AGENT: Sent(1, [letter(1)])})
    desk.room.sleep(OTHER, 1, busy)
    desk.room.resend({AGENT})
    assert looked == [OTHER]


# After a restore


async def test_a_restored_agent_uses_no_number_of_the_life_that_was_lost(desk: Desk) -> None:
    """Its receivers have seen those, and would take a new letter for a repeat."""
    before = letter(4, sender=AGENT)
    before = replace(before, receiver=OTHER)
    luggage = Luggage(sent={OTHER: Sent(5, [before]), EVERYBODY: Sent(1000)})
    desk.room.admit(AGENT, 3, luggage)
    for receiver in (OTHER, THIRD):
        desk.room.sent(AGENT, Outgoing(receiver, "add", NOTHING, None))
    assert (luggage.sent[OTHER].last, luggage.sent[THIRD].last) == (1001, 1001)
    (_, new), (first,) = luggage.sent[OTHER].letters, luggage.sent[THIRD].letters
    assert (new.settled, first.settled) == (3, 1000)  # nobody waits for the numbers between

    box = Mailbox(Luggage(senders={AGENT: Memory(3, 5)}))
    box.take(replace(new, settled=1000))
    assert [each.sequence for each in box.waiting] == [1001]


async def test_what_had_no_reply_when_the_backup_was_made_is_given_up_in_the_end(desk: Desk) -> None:
    """Its answer may be forgotten: then all that comes after it would wait for ever."""
    before = replace(letter(4, sender=AGENT), receiver=OTHER)
    luggage = Luggage(sent={OTHER: Sent(4, [before]), EVERYBODY: Sent(1000)})
    sender = Sender(AGENT, 3, "north", luggage, Replay(), desk, lambda call, answer: None, lambda: desk.now)  # type: ignore[arg-type]
    desk.now += RESTORED_LIFE
    assert sender.expire(lambda agent: "up", lambda agent: False) == []
    desk.now += GRACE + 1
    assert [each.sequence for each in sender.expire(lambda agent: "up", lambda agent: False)] == [4]
    assert luggage.sent[OTHER].letters == []


async def test_who_hears_nothing_in_the_end_hears_that_nobody_can_know(desk: Desk) -> None:
    told: list[object] = []
    asked = replace(letter(4, sender=AGENT), receiver=OTHER, question=7, left=1000)
    luggage = Luggage(sent={OTHER: Sent(4, [asked])})
    tell = lambda call, answer: told.append((call, type(error_in(answer.body, OTHER))))  # noqa: E731
    sender = Sender(AGENT, 3, "north", luggage, Replay(), desk, tell, lambda: desk.now)  # type: ignore[arg-type]
    desk.now += GRACE + 2
    sender.expire(lambda agent: "up", lambda agent: False)
    assert told == [(7, OutcomeUnknown)]

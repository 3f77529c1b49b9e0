"""Letters are handled once and in order, whatever the network and the hops do to them."""

import asyncio

import pytest
from msgspec.structs import replace

from agentplatform.custody.journal import Journal
from agentplatform.mail import MAX_BODY_BYTES, Letter, Luggage, Sent
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.sender import RESERVED_NUMBERS
from agentplatform.messages import Answer, Checkpoint, Outgoing
from agentplatform.passes import Pass
from agentplatform.whereabouts import Located
from ledger import codec
from ledger.errors import PeerFault, Unavailable
from ledger.memory_disk import MemoryDisk
from tests.helpers.mail_desk import AGENT, OTHER, Desk, turn
from tests.helpers.sealing import seals


def letter(sequence: int, settled: int = 0, sender: str = "client-1") -> Letter:
    return Letter(sender, 0, sequence, settled, AGENT, "north", "add", codec.encode(sequence))


def open_box(luggage: Luggage | None = None) -> Mailbox:
    box = Mailbox(luggage or Luggage())
    box.open = True
    return box


def handle_all(box: Mailbox) -> list[int]:
    handled = []
    while (each := box.next()) is not None:
        handled.append(each.sequence)
        box.handled(Answer(True, b""))
    return handled


def test_a_repeat_is_answered_from_memory_and_not_handled():
    box = open_box()
    box.take(letter(1))
    box.next()
    reply = box.handled(Answer(True, b"one"))
    assert box.take(letter(1)) == reply
    assert handle_all(box) == []


def test_a_gap_is_not_taken_until_the_missing_letter_came():
    box = open_box()
    box.take(letter(2))
    assert handle_all(box) == []
    box.take(letter(1))
    box.take(letter(2))
    assert handle_all(box) == [1, 2]


def test_a_letter_that_waits_already_is_not_queued_twice():
    box = open_box()
    for sequence in (1, 2, 2, 1):
        box.take(letter(sequence))
    assert handle_all(box) == [1, 2]


def test_what_the_sender_gave_up_on_is_skipped_and_never_handled_late():
    box = open_box()
    box.take(letter(2, settled=1))
    box.take(letter(2, settled=1))
    box.take(letter(1))
    assert handle_all(box) == [2]
    box.take(letter(1))
    assert handle_all(box) == []


def test_replies_that_the_sender_has_are_forgotten():
    box = open_box()
    box.take(letter(1))
    handle_all(box)
    box.take(letter(2, settled=1))
    assert box.luggage.senders["client-1"].replies == []


def test_memory_travels_so_a_resend_after_the_hop_is_not_handled_again():
    box = open_box()
    box.take(letter(1))
    handle_all(box)
    box.close()
    elsewhere = open_box(codec.decode(codec.encode(box.luggage), Luggage))
    reply = elsewhere.take(letter(1))
    assert reply is not None and reply.sequence == 1
    assert handle_all(elsewhere) == []


def test_a_letter_in_hand_at_the_freeze_is_the_first_afterwards():
    box = open_box()
    box.take(letter(1))
    box.take(letter(2))
    box.next()
    box.close()
    assert box.handled(Answer(True, b"late")) is None
    box.open = True
    assert handle_all(box) == [1, 2]


def test_the_broken_twin_without_memory_is_caught():
    """The check above can fail: a box that forgets its senders handles the resend."""
    box = open_box()
    box.take(letter(1))
    handle_all(box)
    forgetful = open_box(Luggage())
    forgetful.take(letter(1))
    assert handle_all(forgetful) == [1]


async def test_an_agents_letter_leaves_only_when_it_is_durable():
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "east"))
    desk.room.admit(AGENT, 3, Luggage())
    desk.room.sent(AGENT, Outgoing(OTHER, "hello", b"\xc0", 7))
    await turn()
    assert desk.wire == []
    desk.kept[0][0].set_result(None)
    await turn()
    (host, raw), sent = desk.wire[0], codec.decode(desk.wire[0][1], Letter)
    assert (host, sent.sender, sent.epoch, sent.sequence) == ("east", AGENT, 3, 1)
    desk.room.receive("east", codec.encode(answer_to(sent)))
    assert desk.answers == [(AGENT, 7, Answer(True, b"\x01"))]
    assert desk.dropped == [(AGENT, OTHER, 1)]
    assert raw


@pytest.mark.parametrize("copied", [None, AGENT, OTHER])
async def test_a_letter_within_the_host_goes_ahead_of_the_disk_unless_other_hosts_have_a_copy_of_either_agent(copied):
    """[a copy knows of a letter or a reply that its sender's host lost with the power: the next one is dropped]"""
    desk = Desk()
    desk.copied = {copied}
    for agent in (AGENT, OTHER):
        desk.room.admit(agent, 3, Luggage())
    desk.room.checkpointed(OTHER, Checkpoint(None, ((1, Answer(True, b"\xc0")),), ()))
    desk.room.sent(AGENT, Outgoing(OTHER, "hello", b"\xc0", None))
    await turn()
    assert [agent for agent, _ in desk.delivered] == ([OTHER] if copied is None else [])
    for future, _ in desk.kept:
        future.set_result(None)
    await turn()
    assert [agent for agent, _ in desk.delivered] == [OTHER]


def answer_to(sent: Letter):
    box = Mailbox(Luggage())
    box.open = True
    box.take(sent)
    box.next()
    return box.handled(Answer(True, b"\x01"))


async def test_a_letter_to_an_agent_not_heard_of_waits_for_news_of_it():
    """After a restart nothing is known yet of agents elsewhere; what was sent to them must not be lost."""
    desk = Desk()
    desk.room.admit(AGENT, 3, Luggage())
    desk.room.sent(AGENT, Outgoing(OTHER, "hello", b"\xc0", None))
    desk.room.sent(AGENT, Outgoing("Nobody!", "hello", b"\xc0", None))
    desk.kept[0][0].set_result(None)
    await turn()
    assert desk.wire == [] and len(desk.kept) == 1
    assert "'Nobody!' is neither an agent's id nor a name" in desk.notes[0][1]
    desk.whereabouts.learn(Located(OTHER, 1, "east"))
    desk.room.resend()
    assert [host for host, _ in desk.wire] == ["east"]


async def test_a_letter_whose_write_failed_never_leaves():
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "east"))
    desk.room.admit(AGENT, 3, Luggage())
    desk.room.sent(AGENT, Outgoing(OTHER, "hello", b"\xc0", None))
    desk.kept[0][0].set_exception(Unavailable("the disk is full"))
    await turn()
    assert desk.wire == []


async def test_letters_that_are_not_kept_leave_at_once_and_their_numbers_are_written_ahead():
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "east"))
    desk.room.admit(AGENT, 3, Luggage())
    outgoing = Outgoing(OTHER, "hello", b"\xc0", None, kept=False)
    desk.room.sent(AGENT, outgoing)
    desk.room.sent(AGENT, outgoing)
    await turn()
    assert desk.wire == [] and desk.reserved == [(AGENT, OTHER, 1 + RESERVED_NUMBERS)]
    desk.kept[0][0].set_result(None)
    await turn()
    assert len(desk.wire) == 2
    for _ in range(RESERVED_NUMBERS // 2):
        desk.room.sent(AGENT, outgoing)
    assert len(desk.wire) == 2 + RESERVED_NUMBERS // 2 and len(desk.reserved) == 2  # while the next are being written
    for _ in range(RESERVED_NUMBERS // 2):
        desk.room.sent(AGENT, outgoing)
    assert max(codec.decode(raw, Letter).sequence for _, raw in desk.wire) == desk.reserved[0][2]


async def test_letters_whose_numbers_are_being_written_leave_in_their_order():
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "east"))
    desk.room.admit(AGENT, 3, Luggage())
    outgoing = Outgoing(OTHER, "hello", b"\xc0", None, kept=False)
    for _ in range(RESERVED_NUMBERS + RESERVED_NUMBERS // 2):  # with three writes, and none of them is done
        desk.room.sent(AGENT, outgoing)
    assert len(desk.reserved) == 3
    for future, _ in desk.kept[:3]:
        future.set_result(None)
        await turn()
        desk.room.sent(AGENT, outgoing)
    numbers = [codec.decode(raw, Letter).sequence for _, raw in desk.wire]
    assert numbers == list(range(1, RESERVED_NUMBERS + RESERVED_NUMBERS // 2 + 4))


async def test_a_number_that_was_reserved_is_not_used_again_and_does_not_stop_the_receiver():
    journal = await Journal.open(MemoryDisk(), seals())
    await journal.reserve_numbers(AGENT, OTHER, 1025)
    luggage = Luggage()
    await journal.kept.recall(AGENT, luggage)
    assert luggage.sent == {OTHER: Sent(1025, [])}
    box = open_box()
    box.take(letter(1))
    box.take(letter(luggage.sent[OTHER].last + 1, settled=luggage.sent[OTHER].settled))
    assert handle_all(box) == [1, 1026]


async def test_an_answer_waits_in_the_gateway_until_the_arrival_is_durable():
    desk = Desk()
    durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    desk.room.admit(AGENT, 3, Luggage())
    desk.gateway.hold(AGENT, durable)
    asking = asyncio.ensure_future(desk.room.clients.ask("client-1", AGENT, "add", b"\x01", 5))
    await turn()
    desk.room.answered(AGENT, desk.delivered[0][1].ticket, Answer(True, b"\x02"))
    await turn()
    assert not asking.done()
    durable.set_result(None)
    assert (await asking).body == b"\x02"


async def test_nobody_elsewhere_writes_in_the_name_of_an_agent_that_lives_here():
    desk = Desk()
    desk.room.admit(AGENT, 1, Luggage())
    with pytest.raises(PeerFault, match="lives here"):
        desk.room.receive("east", codec.encode(Letter(AGENT, 1, 1, 0, OTHER, "north", "add", b"\x01")))


def test_a_copy_of_the_sender_that_is_out_of_date_is_not_heard():
    box = open_box()
    box.take(Letter(OTHER, 2, 1, 0, AGENT, "north", "add", b""))
    assert handle_all(box) == [1]
    box.take(Letter(OTHER, 1, 2, 0, AGENT, "east", "add", b""))
    assert handle_all(box) == []
    box.take(Letter(OTHER, 2, 2, 0, AGENT, "north", "add", b""))
    assert handle_all(box) == [2]


def test_the_memory_of_clients_that_come_once_is_bounded():
    box = open_box()
    for number in range(40):
        box.take(letter(1, sender=f"client-{number}"))
        box.next()
        box.handled(Answer(True, bytes(1024 * 1024)))
    kept = [reply for memory in box.luggage.senders.values() for reply in memory.replies]
    assert 1 <= len(kept) <= 8 and kept[-1].receiver == "client-39"
    box.settle("client-39", 1)
    assert len([reply for memory in box.luggage.senders.values() for reply in memory.replies]) == len(kept) - 1


async def test_a_client_that_has_its_answer_says_so():
    desk = Desk()
    desk.room.admit(AGENT, 3, Luggage())
    asking = asyncio.ensure_future(desk.room.clients.ask("client-1", AGENT, "add", b"\x01", 5))
    await turn()
    desk.room.answered(AGENT, desk.delivered[0][1].ticket, Answer(True, b"\x02"))
    await asking
    assert desk.room.boxes[AGENT].luggage.senders["client-1@north"].replies == []


async def test_an_agent_that_floods_is_refused_and_hears_why():
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "east"))
    desk.room.admit(AGENT, 3, Luggage())
    for _ in range(4):
        desk.room.sent(AGENT, Outgoing(OTHER, "hello", bytes(15 * 1024 * 1024), None))
    desk.room.sent(AGENT, Outgoing(OTHER, "hello", bytes(15 * 1024 * 1024), None))
    desk.room.sent(AGENT, Outgoing(OTHER, "hello", bytes(15 * 1024 * 1024), 7))
    assert len(desk.kept) == 4
    assert "without a reply" in desk.notes[0][1] and not desk.answers[0][2].ok


@pytest.mark.parametrize(
    "sent",
    [
        Sent(1, [Letter(OTHER, 0, 1, 0, OTHER, "north", "add", b"")]),
        Sent(1, [Letter(AGENT, 0, 1, 0, AGENT, "north", "add", b"")]),
        Sent(0, [Letter(AGENT, 0, 1, 0, OTHER, "north", "add", b"")]),
        Sent(2, [Letter(AGENT, 0, n, 0, OTHER, "north", "add", b"") for n in (2, 1)]),
    ],
    ids=["of another", "to another", "above the last", "out of order"],
)
def test_luggage_that_cannot_be_the_agents_is_refused(sent: Sent):
    with pytest.raises(PeerFault, match=r"^east: sent luggage"):
        Luggage(sent={OTHER: sent}).check(AGENT, "east")


@pytest.mark.parametrize(
    ("luggage", "says"),
    [
        ([{}, {}, [None, [f"topic {number}" for number in range(65)]]], "at most 64 topics"),
        ([{}, {}, [None, ["x" * 255] * 17]], "at most 4096 bytes"),
        ([{}, {}, [None, [""]]], "of 1 to 256 characters"),
    ],
)
def test_luggage_that_subscribes_to_too_much_is_refused(luggage: object, says: str):
    with pytest.raises(PeerFault, match=f"east.*{says}"):
        codec.decode(codec.encode(luggage), Luggage, "east")


def test_luggage_with_a_trail_of_another_agent_is_refused():
    trail = (Pass(OTHER, 1, "north", "east", bytes(64)),)
    with pytest.raises(PeerFault, match=r"^east: sent luggage of .* with a trail that is none of its own"):
        Luggage(trail=trail).check(AGENT, "east")


@pytest.mark.parametrize(
    "post",
    [
        ["letter", "x" * 257, 0, 1, 0, AGENT, "east", "add", b"", None, None],
        ["letter", OTHER, 0, 1, 0, AGENT, "x" * 257, "add", b"", None, None],
        ["reply", AGENT, OTHER, 1, "x" * 257, True, b""],
        ["settled", "x" * 257, 1, AGENT],
    ],
)
def test_post_with_names_longer_than_any_is_refused(post: list[object]):
    """A mailbox counts the bodies that wait in it, and remembers its senders by their names."""
    with pytest.raises(PeerFault, match=r"^east: .*at most 256 characters"):
        Desk().room.receive("east", codec.encode(post))


async def test_mail_for_a_dead_agent_gets_a_clear_error():
    desk = Desk()
    desk.whereabouts.learn(Located(AGENT, 2, "west", 1_700_000_000_000))
    reply = await desk.room.clients.ask("client-1", AGENT, "add", b"\x01", 5)
    assert not reply.ok and "ended on west at 2023-11-14 22:13:20 UTC" in codec.decode(reply.body, str)


async def test_an_agent_that_does_not_answer_is_named_with_its_place():
    desk = Desk()
    desk.whereabouts.learn(Located(AGENT, 2, "west"))
    with pytest.raises(
        Unavailable, match=r"last heard of on west, which is offline since this host was started.*status"
    ):
        await desk.room.clients.ask("client-1", AGENT, "add", b"\x01", 0.01)


async def test_resend_tells_what_was_given_up_meanwhile():
    desk = Desk()
    desk.whereabouts.learn(Located(AGENT, 2, "west"))
    first = asyncio.ensure_future(desk.room.clients.ask("client-1", AGENT, "a", b"\x01", 60))
    second = asyncio.ensure_future(desk.room.clients.ask("client-1", AGENT, "b", b"\x01", 60))
    await turn()
    first.cancel()
    await turn()
    desk.wire.clear()
    desk.room.resend()
    assert [codec.decode(raw, Letter).settled for _, raw in desk.wire] == [1]
    second.cancel()


UNNUMBERED = codec.encode(["letter", "client-1", 0, 0, 0, AGENT, "north", "add", b""])


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\x91\xa5other", UNNUMBERED])
async def test_garbage_from_a_host_is_named(raw: bytes):
    with pytest.raises(PeerFault, match="east"):
        Desk().room.receive("east", raw)


async def test_a_repeat_of_an_answer_that_is_held_is_held_too():
    desk = Desk()
    durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    desk.room.admit(AGENT, 3, Luggage())
    desk.gateway.hold(AGENT, durable)
    for _ in range(2):
        desk.room.receive("south", codec.encode(replace(letter(1, sender="client-1@south"), origin="south")))
        if desk.delivered:
            desk.room.answered(AGENT, desk.delivered[0][1].ticket, Answer(True, b"\x02"))
    assert desk.wire == []
    durable.set_result(None)
    await turn()
    assert [host for host, _ in desk.wire] == ["south", "south"]


async def test_what_is_sent_again_tells_what_is_settled_by_now_and_is_durable():
    """Else a receiver that was restarted from an older state waits for ever for what it has answered before."""
    desk = Desk()
    desk.whereabouts.learn(Located(OTHER, 1, "east"))
    desk.room.admit(AGENT, 3, Luggage())
    for _ in range(3):
        desk.room.sent(AGENT, Outgoing(OTHER, "hello", b"\xc0", None))
    for future, _ in desk.kept[:2]:
        future.set_result(None)
    await turn()
    first, second = (codec.decode(raw, Letter) for _, raw in desk.wire)
    assert (second.sequence, second.settled) == (2, 0)
    desk.room.receive("east", codec.encode(answer_to(first)))
    desk.wire.clear()
    desk.room.resend()
    (again,) = (codec.decode(raw, Letter) for _, raw in desk.wire)
    assert (again.sequence, again.settled) == (2, 1)


async def test_an_answer_that_is_too_large_becomes_an_error():
    desk = Desk()
    desk.room.admit(AGENT, 3, Luggage())
    asking = asyncio.ensure_future(desk.room.clients.ask("client-1", AGENT, "add", b"\x01", 5))
    await turn()
    desk.room.answered(AGENT, desk.delivered[0][1].ticket, Answer(True, bytes(MAX_BODY_BYTES + 1)))
    reply = await asking
    assert not reply.ok and "at most" in codec.decode(reply.body, str)

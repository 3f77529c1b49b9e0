"""Frames: cut, shared fairly, put together; and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Misuse, PeerFault
from ledger.links import frames
from ledger.links.base import MAX_MESSAGE_BYTES, Channel
from ledger.links.frames import END, FRAME_BYTES, HEADER, Inbox, Outbox

Message = tuple[Channel, bytes]


def drain(outbox: Outbox) -> bytes:
    return b"".join(iter(outbox.take, b""))


def received(raw: bytes, step: int = 1 << 20) -> list[Message]:
    inbox = Inbox("b")
    view = memoryview(raw)
    return [message for at in range(0, len(raw), step) for message in inbox.feed(view[at : at + step])]


sizes = st.one_of(st.integers(0, 20), st.integers(FRAME_BYTES - 2, FRAME_BYTES + 2), st.just(3 * FRAME_BYTES))


@given(st.lists(st.tuples(st.sampled_from(Channel), sizes), max_size=12), st.sampled_from([1 << 20, 70_000, 4097]))
def test_what_goes_in_comes_out_in_order_within_a_channel(plan: list[tuple[Channel, int]], step: int) -> None:
    messages = [(channel, bytes([number]) * size) for number, (channel, size) in enumerate(plan)]
    outbox = Outbox()
    for message in messages:
        outbox.put(*message)
    assert outbox.bytes == sum(size for _, size in plan)
    out = received(drain(outbox), step)
    assert outbox.bytes == 0 and not outbox
    for channel in Channel:
        assert [one for one in out if one[0] is channel] == [one for one in messages if one[0] is channel]


def test_bytes_may_come_one_at_a_time() -> None:
    outbox = Outbox()
    sent = [(Channel.MAIL, b""), (Channel.LEDGER, b"vote"), (Channel.MAIL, b"letter")]
    for message in sent:
        outbox.put(*message)
    assert sorted(received(drain(outbox), step=1)) == sorted(sent)


def test_small_messages_leave_together() -> None:
    outbox = Outbox()
    for _ in range(10):
        outbox.put(Channel.LEDGER, b"vote")
    assert len(received(outbox.take())) == 10


class Unfair(Outbox):
    """A broken twin: a channel keeps the connection until its queue is empty."""

    def _next(self) -> Channel | None:
        return max((channel for channel, queue in self._queues.items() if queue), default=None)


def overtakes(outbox: Outbox, busy: Channel) -> bool:
    outbox.put(busy, bytes(100 * FRAME_BYTES))
    inbox = Inbox("b")
    for _ in range(7):
        assert not list(inbox.feed(memoryview(outbox.take())))
    outbox.put(Channel.LEDGER, b"vote")
    return list(inbox.feed(memoryview(outbox.take()))) == [(Channel.LEDGER, b"vote")]


@pytest.mark.parametrize("busy", [channel for channel in Channel if channel is not Channel.LEDGER])
def test_a_vote_overtakes_a_parcel_at_the_next_frame(busy: Channel) -> None:
    assert overtakes(Outbox(), busy)
    assert not overtakes(Unfair(), busy)


def test_nobody_starves() -> None:
    """While all channels are busy each gets its share: bytes, not frames."""
    outbox = Outbox()
    for channel in Channel:
        outbox.put(channel, bytes(64 * FRAME_BYTES))
    sent = dict.fromkeys(Channel, 0)
    for _ in range(120):
        channel, length = HEADER.unpack(outbox.take()[: HEADER.size])
        sent[Channel(channel & ~END)] += length
    assert [sent[channel] // FRAME_BYTES for channel in Channel] == [40, 20, 10, 10, 10, 10, 20]


def test_a_flood_of_small_messages_leaves_a_parcel_its_share() -> None:
    outbox = Outbox()
    outbox.put(Channel.MAIL, bytes(FRAME_BYTES))
    for _ in range(10_000):
        outbox.put(Channel.LEDGER, bytes(100))
    before = 0
    for channel, message in received(drain(outbox)):
        if channel is Channel.MAIL:
            break
        before += len(message)
    assert before <= frames.SHARES[Channel.LEDGER]


def test_a_message_that_is_too_large_is_not_sent() -> None:
    frames.check_size(bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(Misuse, match="at most 67108864"):
        frames.check_size(bytes(MAX_MESSAGE_BYTES + 1))


def frame(channel: int, payload: bytes, length: int | None = None) -> bytes:
    return HEADER.pack(channel, len(payload) if length is None else length) + payload


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (frame(END, b"", length=FRAME_BYTES + 1), "a frame of 65537 bytes"),
        (frame(END | 9, b"x"), "channel 9, which does not exist"),
        (frame(0, b""), "ends nothing"),
        (frame(0, bytes(60)) + frame(1, bytes(60)) + frame(END, bytes(41)), "more than 100 bytes"),
    ],
)
def test_refused_at_the_header(raw: bytes, reason: str) -> None:
    with pytest.raises(PeerFault, match=f"^b: .*{reason}"):
        list(Inbox("b", limit=100).feed(memoryview(raw)))


def test_the_limit_is_for_each_message() -> None:
    raw = b"".join(frame(END, bytes(100)) for _ in range(3))
    assert len(list(Inbox("b", limit=100).feed(memoryview(raw)))) == 3

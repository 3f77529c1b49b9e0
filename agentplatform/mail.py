"""Letters between agents and clients: numbered for each (sender, receiver), handled once, in order. Pure.

Every letter is answered by a Reply when it was handled (for a one-way message the reply only acknowledges).
The sender's host keeps a letter until its reply is there and sends it again when it may have been lost; the
receiver's mailbox takes only the next number of each sender, and answers a repeat from memory. What a
mailbox must remember travels with the agent as luggage, so all of this holds across hops.
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from agentplatform.messages import Answer, Captured
from ledger.errors import PeerFault
from services.eds.rules import Group

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_KIND = 256  # characters
MAX_BOX_BYTES = 64 * 1024 * 1024  # of bodies that wait in one mailbox; what comes then is sent again later
MAX_OUTBOX_BYTES = 64 * 1024 * 1024  # of bodies that one agent has sent and has no reply to
MAX_OUTBOX_LETTERS = 10_000
MAX_MEMORY_BYTES = 8 * 1024 * 1024  # of replies that one mailbox keeps for repeats
MAX_SENDERS = 10_000  # that one mailbox remembers
AHEAD_LETTERS = 32  # so many are with an agent at once, that it need not wait for the next one
AHEAD_BYTES = 1024 * 1024
LETTER_BYTES = 100  # what a letter or reply counts beside its body


class Letter(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="letter"):
    sender: str  # an agent's id, or "client-..."
    epoch: int  # the sender's; 0 for a client
    sequence: int  # counted from 1 for each (sender, receiver), across epochs
    settled: int  # the sender has the replies of all letters up to this one, or gave up on them
    receiver: str  # an agent's id
    origin: str  # the sender's host: where a client's reply goes
    kind: str
    body: bytes  # MessagePack of plain data

    def __post_init__(self) -> None:
        if not 0 <= self.settled < self.sequence or self.epoch < 0:
            raise ValueError("a letter has a number above what it says is settled, and no epoch below 0")
        if not 1 <= len(self.kind) <= MAX_KIND or len(self.body) > MAX_BODY_BYTES:
            raise ValueError(f"a letter's kind has 1 to {MAX_KIND} characters, its body at most {MAX_BODY_BYTES} bytes")


class Reply(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="reply"):
    sender: str  # the agent that handled the letter
    receiver: str  # who sent it
    sequence: int
    origin: str  # the letter's
    ok: bool
    body: bytes  # the answer, or an encoded error text

    def __post_init__(self) -> None:
        if self.sequence < 1 or len(self.body) > MAX_BODY_BYTES:
            raise ValueError(f"an answer has the number of its letter, and at most {MAX_BODY_BYTES} bytes")


class Settled(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="settled"):
    """A client has the replies of all letters up to `sequence`. A next letter would say so too, but may never come."""

    sender: str
    sequence: int
    receiver: str


Post = Letter | Reply | Settled


class Memory(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a mailbox remembers of one sender."""

    epoch: int = 0  # the highest that it wrote from: a copy that is out of date is not heard
    handled: int = 0  # the highest sequence that was handled
    replies: list[Reply] = msgspec.field(default_factory=list)  # those that the sender may still ask for, in order

    def keep(self, reply: Reply) -> bool:
        """False when there is one to that letter already."""
        known = any(each.sequence == reply.sequence for each in self.replies)
        if not known:
            insort(self.replies, reply, key=lambda each: each.sequence)
        return not known


class Sent(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What an agent has sent to one receiver."""

    last: int = 0  # the highest sequence used
    letters: list[Letter] = msgspec.field(default_factory=list)  # not replied to, by rising sequence

    @property
    def settled(self) -> int:
        """All letters up to this one were replied to."""
        return self.letters[0].sequence - 1 if self.letters else self.last


class Seen(NamedTuple):
    """A letter that was handled, as a checkpoint remembers it. A reply of None was settled."""

    sender: str
    sequence: int
    epoch: int  # the sender's
    reply: Reply | None


class Loose(msgspec.Struct, frozen=True):
    """A letter that left before the state that knows of it (agentplatform.replay)."""

    letter: Letter
    cause: tuple[str, int] | None  # sender and sequence of the message in whose handling it was sent; None: of `run`


class Change(msgspec.Struct, frozen=True):
    """What one checkpoint writes."""

    state: Captured | None  # None: as it was
    seen: Sequence[Seen] = ()
    forgotten: Sequence[tuple[str, int]] = ()  # sender, and up to which number its replies may go
    letters: Sequence[Letter] = ()
    loose: Sequence[Loose] = ()  # those of the letters whose answers the state does not know
    done: Sequence[tuple[str, int]] = ()  # receiver and sequence of letters that are loose no more
    group: Group | None = None


class Luggage(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What the daemon keeps for an agent, and hands to the next host."""

    senders: dict[str, Memory] = msgspec.field(default_factory=dict)  # the one heard least lately first
    sent: dict[str, Sent] = msgspec.field(default_factory=dict)  # by receiver
    group: Group | None = None  # the service group that the EDS decides about as one

    def recall_seen(self, seen: Seen) -> None:
        """Puts back what a checkpoint remembers; of one sender in rising order."""
        memory = self.senders.setdefault(seen.sender, Memory())
        memory.epoch = max(memory.epoch, seen.epoch)
        if seen.sequence > memory.handled:
            memory.handled = seen.sequence
        if seen.reply is not None:
            memory.keep(seen.reply)

    def recall_sent(self, receiver: str, sequence: int, letter: Letter | None) -> None:
        """Puts back a letter that was sent; None: all up to this one were replied to. In rising order."""
        sent = self.sent.setdefault(receiver, Sent())
        sent.last = max(sequence, sent.last)
        if letter is None:
            sent.letters = [each for each in sent.letters if each.sequence > sequence]
        elif all(each.sequence != sequence for each in sent.letters):
            sent.letters.append(letter)
            sent.letters.sort(key=lambda each: each.sequence)

    def check(self, agent: str, host: str) -> None:
        """Raises PeerFault, naming `host`, for luggage that cannot be `agent`'s: its letters leave in our name."""
        for receiver, sent in self.sent.items():
            numbers = [letter.sequence for letter in sent.letters]
            if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > sent.last):
                raise PeerFault(host, f"sent luggage of {agent} whose letters are not numbered in order")
            if any((letter.sender, letter.receiver) != (agent, receiver) for letter in sent.letters):
                raise PeerFault(host, f"sent luggage of {agent} with letters that others wrote, or to others")
        if self.group is not None and agent not in self.group.agents:
            raise PeerFault(host, f"sent luggage of {agent} with a group that it does not belong to")


class Mailbox:
    """The receiving side of one resident agent. It handles one letter at a time; a few more are with it already."""

    def __init__(self, luggage: Luggage) -> None:
        self.luggage = luggage
        self.waiting: deque[Letter] = deque()
        self.in_hand: deque[Letter] = deque()  # with the agent: the one that it handles, and the next ones
        self._in_hand_bytes = 0
        self.open = False  # closed while the agent is frozen
        self._queued: dict[str, int] = {}  # sender -> the highest sequence that waits or is in hand
        self._waiting_bytes = 0
        self._saved: dict[str, int] = {}  # sender -> handled up to here at the last checkpoint; of those heard since
        self._late: list[Reply] = []  # given since the last checkpoint
        self._written = set(luggage.senders)  # senders of whom a checkpoint may have something
        self._forgotten: dict[str, int] = {}  # sender -> replies up to here need not be kept any more
        self._memory_bytes = sum(map(_size, (reply for memory in luggage.senders.values() for reply in memory.replies)))

    def take(self, letter: Letter) -> Reply | None:
        """Queues a letter that is next in its order; a repeat is answered from memory.

        A letter that leaves a gap, or finds no room, is dropped: its sender sends it again.
        """
        memory = self.luggage.senders.get(letter.sender, Memory())
        if letter.epoch < memory.epoch:
            return None
        memory.epoch = letter.epoch
        self.settle(letter.sender, letter.settled)
        if letter.sequence <= memory.handled:
            return next((reply for reply in memory.replies if reply.sequence == letter.sequence), None)
        # What the sender settled without us it gave up on: no need to wait for it.
        last = max(memory.handled, letter.settled, self._queued.get(letter.sender, 0))
        if letter.sequence == last + 1 and self._waiting_bytes + _size(letter) <= MAX_BOX_BYTES:
            self.luggage.senders[letter.sender] = memory
            self.waiting.append(letter)
            self._queued[letter.sender] = letter.sequence
            self._waiting_bytes += _size(letter)
        return None

    def settle(self, sender: str, upto: int) -> None:
        """Forgets the replies that `sender` will not ask for again."""
        memory = self.luggage.senders.get(sender)
        while memory is not None and memory.replies and memory.replies[0].sequence <= upto:
            self._memory_bytes -= _size(memory.replies.pop(0))
            if sender in self._written:
                self._forgotten[sender] = upto

    def next(self) -> Letter | None:
        """The next letter that the agent should have, if it is awake and has not enough."""
        if not self.open or not self.waiting:
            return None
        if self.in_hand and (len(self.in_hand) >= AHEAD_LETTERS or self._in_hand_bytes >= AHEAD_BYTES):
            return None
        letter = self.waiting.popleft()
        self.in_hand.append(letter)
        self._in_hand_bytes += _size(letter)
        return letter

    def handled(self, answer: Answer | None) -> Reply | None:
        """The agent is done with the first letter in hand. None when there is none (the agent answered twice), or when
        it will answer later."""
        if not self.in_hand:
            return None
        letter = self.in_hand.popleft()
        self._in_hand_bytes -= _size(letter)
        self._waiting_bytes -= _size(letter)
        if self._queued[letter.sender] == letter.sequence:
            del self._queued[letter.sender]
        senders = self.luggage.senders
        memory = senders[letter.sender] = senders.pop(letter.sender, Memory(letter.epoch))  # to the end: heard just now
        self._saved.setdefault(letter.sender, memory.handled)
        memory.handled = letter.sequence
        reply = None
        if answer is not None:
            reply = Reply(letter.receiver, letter.sender, letter.sequence, letter.origin, answer.ok, answer.body)
            memory.replies.append(reply)
            self._memory_bytes += _size(reply)
        self._forget_the_silent()
        return reply

    def answered_later(self, reply: Reply) -> bool:
        """The agent answers a letter that it handled before. False for one that it has answered, or never had."""
        memory = self.luggage.senders.get(reply.receiver)
        if memory is None or reply.sequence > memory.handled or not memory.keep(reply):
            return False
        self._late.append(reply)
        self._memory_bytes += _size(reply)
        self._forget_the_silent()
        return True

    def changes(self) -> tuple[list[Seen], list[tuple[str, int]]]:
        """For a checkpoint: what was handled since the last one, and up to where the replies of a sender may go."""
        senders, seen = self.luggage.senders, []
        for sender, saved in self._saved.items():
            if (memory := senders.get(sender)) is None:
                continue
            fresh = memory.replies[bisect_right(memory.replies, saved, key=lambda reply: reply.sequence) :]
            seen += [Seen(sender, reply.sequence, memory.epoch, reply) for reply in fresh]
            if not fresh or fresh[-1].sequence != memory.handled:
                seen.append(Seen(sender, memory.handled, memory.epoch, None))
        written = {(each.sender, each.sequence) for each in seen}
        for reply in self._late:
            memory = senders.get(reply.receiver)
            if memory is not None and reply in memory.replies and (reply.receiver, reply.sequence) not in written:
                seen.append(Seen(reply.receiver, reply.sequence, memory.epoch, reply))
        forgotten = [
            (sender, min(upto, senders[sender].handled - 1) if sender in senders else upto)
            for sender, upto in self._forgotten.items()
        ]
        self._written.update(sender for sender in self._saved if sender in senders)
        self._written.difference_update(sender for sender in self._forgotten if sender not in senders)
        self._saved, self._forgotten, self._late = {}, {}, []
        return seen, forgotten

    def close(self) -> None:
        """The agent is frozen: what it has not answered was not handled, and goes back to the head of the queue."""
        self.open = False
        self.waiting.extendleft(reversed(self.in_hand))
        self.in_hand.clear()
        self._in_hand_bytes = 0

    def _forget_the_silent(self) -> None:
        """Clients come and go without a word: the longest silent lose their replies, and in the end their place."""
        senders = self.luggage.senders
        newest = next(reversed(senders))
        for sender, memory in senders.items():
            if self._memory_bytes <= MAX_MEMORY_BYTES:
                break
            self.settle(sender, memory.handled - 1 if sender == newest else memory.handled)
        silent = next((sender for sender in senders if sender not in self._queued), newest)
        if len(senders) > MAX_SENDERS and silent != newest:
            self.settle(silent, senders[silent].handled)
            if silent in self._written:
                self._forgotten[silent] = senders[silent].handled
            del senders[silent]
            self._saved.pop(silent, None)


def _size(post: Letter | Reply) -> int:
    return LETTER_BYTES + len(post.body)

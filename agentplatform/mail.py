"""Letters between agents and clients: numbered for each (sender, receiver), handled once, in order. Pure.

Every letter is answered by a Reply when it was handled (for a one-way message the reply only acknowledges).
The sender's host keeps a letter until its reply is there and sends it again when it may have been lost; the
receiver's mailbox takes only the next number of each sender, and answers a repeat from memory. What a
mailbox must remember travels with the agent as luggage, so all of this holds across hops.
"""

from collections import deque

import msgspec

from services.eds.rules import Group

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_WAITING_LETTERS = 10_000


class Letter(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="letter"):
    sender: str  # an agent's id, or "client-..."
    epoch: int  # the sender's; 0 for a client
    sequence: int  # counted from 1 for each (sender, receiver), across epochs
    settled: int  # the sender has the replies of all letters up to this one, or gave up on them
    receiver: str  # an agent's id
    origin: str  # the sender's host: where a client's reply goes
    kind: str
    body: bytes  # MessagePack of plain data


class Reply(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="reply"):
    sender: str  # the agent that handled the letter
    receiver: str  # who sent it
    sequence: int
    origin: str  # the letter's
    ok: bool
    body: bytes  # the answer, or an encoded error text


Post = Letter | Reply


class Memory(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a mailbox remembers of one sender."""

    handled: int = 0  # the highest sequence that was handled
    replies: list[Reply] = msgspec.field(default_factory=list)  # those that the sender may still ask for


class Luggage(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What the daemon keeps for an agent, and hands to the next host."""

    senders: dict[str, Memory] = msgspec.field(default_factory=dict)
    sent: dict[str, int] = msgspec.field(default_factory=dict)  # highest sequence used, for each receiver
    outbox: list[Letter] = msgspec.field(default_factory=list)  # sent, not replied to
    group: Group | None = None  # the service group that the EDS decides about as one

    def settled(self) -> dict[str, int]:
        """For each receiver of a letter in the outbox: up to which number all letters to it were replied to."""
        settled: dict[str, int] = {}
        for letter in self.outbox:
            settled[letter.receiver] = min(letter.sequence - 1, settled.get(letter.receiver, letter.sequence))
        return settled


class Mailbox:
    """The receiving side of one resident agent. One letter at a time is with the agent."""

    def __init__(self, luggage: Luggage) -> None:
        self.luggage = luggage
        self.waiting: deque[Letter] = deque()
        self.in_hand: Letter | None = None
        self.open = False  # closed while the agent is frozen

    def take(self, letter: Letter) -> Reply | None:
        """Queues a letter that is next in its order; a repeat is answered from memory.

        A letter that leaves a gap is dropped: its sender sends it again, after the one that is missing.
        """
        memory = self.luggage.senders.setdefault(letter.sender, Memory())
        memory.replies = [reply for reply in memory.replies if reply.sequence > letter.settled]
        if letter.sequence <= memory.handled:
            return next((reply for reply in memory.replies if reply.sequence == letter.sequence), None)
        queued = (other.sequence for other in self._unhandled() if other.sender == letter.sender)
        # What the sender settled without us it gave up on: no need to wait for it.
        last = max(memory.handled, letter.settled, *queued)
        if letter.sequence == last + 1 and len(self.waiting) < MAX_WAITING_LETTERS:
            self.waiting.append(letter)
        return None

    def next(self) -> Letter | None:
        """The letter that the agent should handle now, if it is free and awake."""
        if not self.open or self.in_hand or not self.waiting:
            return None
        self.in_hand = self.waiting.popleft()
        return self.in_hand

    def handled(self, ok: bool, body: bytes) -> Reply | None:
        """The agent is done with the letter in hand; None when there is none (the agent answered twice)."""
        letter, self.in_hand = self.in_hand, None
        if letter is None:
            return None
        reply = Reply(letter.receiver, letter.sender, letter.sequence, letter.origin, ok, body)
        memory = self.luggage.senders[letter.sender]
        memory.handled = letter.sequence
        memory.replies.append(reply)
        return reply

    def close(self) -> None:
        """The agent is frozen: what it has not answered was not handled, and goes back to the head of the queue."""
        self.open = False
        if self.in_hand:
            self.waiting.appendleft(self.in_hand)
            self.in_hand = None

    def _unhandled(self) -> list[Letter]:
        return [*([self.in_hand] if self.in_hand else []), *self.waiting]

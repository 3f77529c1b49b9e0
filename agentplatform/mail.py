"""Letters between agents and clients: numbered for each (sender, receiver), handled once, in order. Pure.

Every letter is answered by a Reply when it was handled (for a one-way message the reply only acknowledges).
The sender's host keeps a letter until its reply is there and sends it again when it may have been lost; the
receiver's mailbox takes only the next number of each sender, and answers a repeat from memory. What a
mailbox must remember travels with the agent as luggage, so all of this holds across hops.
"""

from bisect import insort
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

from agentplatform.messages import RESERVED, Captured, Requires
from agentplatform.passes import MAX_TRAIL, Trail
from ledger.errors import Misuse, PeerFault
from services.eds.rules import Group
from services.rms.resources import Needs

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_KIND = 256  # characters
MAX_NAME = 256  # characters of an agent's id, a client's or a host's name
MAX_OUTBOX_BYTES = 64 * 1024 * 1024  # of bodies that one agent has sent and has no reply to
MAX_OUTBOX_LETTERS = 10_000
MAX_TOPICS = 64  # that one agent subscribes to
MAX_TOPIC_BYTES = 4096  # in all
MAX_NUMBER = 2**62  # of a letter or an epoch: what SQLite and MessagePack hold, with room for the next
EVERYBODY = ""  # in the place of a receiver: numbers up to this one were used, or may have been, to whomever
LETTER_BYTES = 100  # what a letter or reply counts beside its body

Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]


def check(kind: str, body: bytes) -> None:
    """Raises Misuse for what no letter can carry."""
    if not isinstance(kind, str) or not 1 <= len(kind) <= MAX_KIND:
        raise Misuse(f"a message's kind is a text of 1 to {MAX_KIND} characters, not {kind!r:.40}")
    if kind.startswith(RESERVED):
        raise Misuse(f"a message of the kind {kind!r:.40} comes from hosts alone; choose another kind")
    if len(body) > MAX_BODY_BYTES:
        raise Misuse(f"a message has at most {MAX_BODY_BYTES} bytes; this one has {len(body)}")


def check_topics(topics: tuple[str, ...]) -> None:
    """Raises ValueError for more than one agent may subscribe to."""
    if len(topics) > MAX_TOPICS or any(not 1 <= len(topic) <= MAX_KIND for topic in topics):
        raise ValueError(f"an agent subscribes to at most {MAX_TOPICS} topics of 1 to {MAX_KIND} characters")
    if sum(len(topic.encode()) for topic in topics) > MAX_TOPIC_BYTES:
        raise ValueError(f"the topics that an agent subscribes to have at most {MAX_TOPIC_BYTES} bytes in all")


def _check_names(sender: str, receiver: str, origin: str) -> None:
    """Raises ValueError for longer ones than there are: what waits is counted by its body (`size`)."""
    if len(sender) > MAX_NAME or len(receiver) > MAX_NAME or len(origin) > MAX_NAME:
        raise ValueError(f"post has a sender, a receiver and an origin of at most {MAX_NAME} characters")


class Letter(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="letter"):
    sender: str  # an agent's id, or "client-...@host"
    epoch: Number  # the sender's; 0 for a client
    sequence: Number  # counted from 1 for each (sender, receiver), across epochs
    settled: Number  # the sender has the replies of all letters up to this one, or gave up on them
    receiver: str  # an agent's id
    origin: str  # the sender's host: where a client's reply goes
    kind: str
    body: bytes  # MessagePack of plain data
    left: int | None = None  # milliseconds of life when it was sent from the last host; None: no end
    question: int | None = None  # the sender's own number, if its state waits for the answer

    def __post_init__(self) -> None:
        _check_names(self.sender, self.receiver, self.origin)
        if not 0 <= self.settled < self.sequence or self.epoch < 0:
            raise ValueError("a letter has a number above what it says is settled, and no epoch below 0")
        if not 1 <= len(self.kind) <= MAX_KIND or len(self.body) > MAX_BODY_BYTES:
            raise ValueError(f"a letter's kind has 1 to {MAX_KIND} characters, its body at most {MAX_BODY_BYTES} bytes")
        if self.kind.startswith(RESERVED):
            raise ValueError(f"no letter has a kind that begins with {RESERVED!r}: hosts tell their own agents alone")


class Reply(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="reply"):
    sender: str  # the agent that handled the letter
    receiver: str  # who sent it
    sequence: Number
    origin: str  # the letter's
    ok: bool
    body: bytes  # the answer, or an encoded error text

    def __post_init__(self) -> None:
        _check_names(self.sender, self.receiver, self.origin)
        if self.sequence < 1 or len(self.body) > MAX_BODY_BYTES:
            raise ValueError(f"an answer has the number of its letter, and at most {MAX_BODY_BYTES} bytes")


class Settled(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="settled"):
    """A client has the replies of all letters up to `sequence`. A next letter would say so too, but may never come."""

    sender: str
    sequence: Number
    receiver: str

    def __post_init__(self) -> None:
        _check_names(self.sender, self.receiver, "")


Post = Letter | Reply | Settled


class Memory(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a mailbox remembers of one sender."""

    epoch: Number = 0  # the highest that is proved of it: a copy that is out of date is not heard
    handled: Number = 0  # the highest sequence that was handled
    replies: list[Reply] = msgspec.field(default_factory=list)  # those that the sender may still ask for, in order

    def keep(self, reply: Reply) -> bool:
        """False when there is one to that letter already."""
        known = any(each.sequence == reply.sequence for each in self.replies)
        if not known:
            insort(self.replies, reply, key=lambda each: each.sequence)
        return not known


class Sent(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What an agent has sent to one receiver."""

    last: Number = 0  # the highest sequence used
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


class Standing(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an agent belongs to. Kept as soon as it changes, whatever is kept of the agent's state."""

    group: Group | None  # the service group that the EDS decides about as one
    topics: tuple[str, ...]  # that it has subscribed to
    requires: Requires = Requires(Needs())  # where it can run

    def __post_init__(self) -> None:
        check_topics(self.topics)


class Luggage(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What the daemon keeps for an agent, and hands to the next host."""

    senders: dict[str, Memory] = msgspec.field(default_factory=dict)  # the one heard least lately first
    sent: dict[str, Sent] = msgspec.field(default_factory=dict)  # by receiver
    standing: Standing = Standing(None, ())
    trail: Trail = ()  # how it came to its last host but one, or to this one

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
        """Raises PeerFault, naming `host`, for luggage that cannot be `agent`'s: its letters and replies leave in our
        name."""
        for sender, memory in self.senders.items():
            if any((reply.sender, reply.receiver) != (agent, sender) for reply in memory.replies):
                raise PeerFault(host, f"sent luggage of {agent} with replies that others gave, or to others")
        for receiver, sent in self.sent.items():
            numbers = [letter.sequence for letter in sent.letters]
            if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > sent.last):
                raise PeerFault(host, f"sent luggage of {agent} whose letters are not numbered in order")
            if any((letter.sender, letter.receiver) != (agent, receiver) for letter in sent.letters):
                raise PeerFault(host, f"sent luggage of {agent} with letters that others wrote, or to others")
        if len(self.trail) > MAX_TRAIL or any(each.agent != agent for each in self.trail):
            raise PeerFault(host, f"sent luggage of {agent} with a trail that is none of its own")
        if self.standing.group is not None and agent not in self.standing.group.agents:
            raise PeerFault(host, f"sent luggage of {agent} with a group that it does not belong to")


def size(post: Letter | Reply) -> int:
    return LETTER_BYTES + len(post.body)

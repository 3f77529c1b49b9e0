"""What passes between an agent and its host: plain values, on both sides of the worker's wire. Pure."""

from typing import Annotated, Literal

import msgspec

from services.rms.resources import Needs

Mover = Literal["owner", "retraction", "decision", "itself"]
"""Who wants an agent to move: its owner sends it, or calls it back; the EDS decided so; or the agent, by a Ticket."""

Custody = Literal["local", "held"]
"""Who agrees on where the agent runs (docs/custody.md)."""

MAX_WEIGHT = 1e6  # of one agent
CONSENT_BYTES = 64  # the owner's signature for held custody

News = Literal["on_cloned", "on_move_failed", "on_user_moved", "event"]
"""What an agent's host calls while it runs, with a word of its own. Hooks: with the clone's id ("" when none was made,
and no hook is called), the reason, or the host nearest to the user. An event: `handle_message`, with a message whose
kind and body the word has as JSON."""

RESERVED = "eds/"  # how kinds and topics begin of what hosts tell agents; nobody else may send it
MAX_EVENTS = 256  # that wait for one agent; those that come then are not told

PLAIN_DATA = "plain data (None, numbers, text, bytes, lists, dicts with keys of text)"


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """What an agent learns when it starts to run somewhere."""

    host: str
    epoch: int
    source: str | None  # the host that it left; None at creation


class Move(msgspec.Struct, frozen=True, array_like=True):
    """A move that is wanted of an agent. Unless it is the agent itself who wants it, `Agent.may_move` is asked."""

    destination: str
    by: Mover
    why: str  # for people to read


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """A message for an agent. `ticket` is the daemon's number for it; the answer comes back under it."""

    ticket: int
    sender: str  # an agent's id, or "client-..."
    kind: str
    body: bytes  # MessagePack of plain data
    sequence: int = 0  # the letter's
    origin: str = ""  # the letter's
    seconds: float | None = None  # so long its sender will go on waiting, from now; None: for ever


class Later(msgspec.Struct, frozen=True, array_like=True):
    """The ticket of a message that is answered later: where its answer goes. Plain data; give it back with
    `Agent.reply` or `Agent.fail`, on whatever host that is."""

    sender: str
    sequence: int
    origin: str


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """A message that an agent sends. `call` is the agent's own number when it waits for the answer, else None."""

    receiver: str  # an agent's id or name
    kind: str
    body: bytes
    call: int | None
    kept: bool = True  # False: it is lost with its host, and leaves without being written
    loose: bool = False  # it leaves before the state that knows of it
    handling: bool = False  # it was sent in the handling of a message
    seconds: float | None = None  # so long the sender waits for the answer; None: for ever, or for none
    then: bool = False  # the sender keeps `call` in its state: the answer must reach it, on whatever host it is by then
    topic: bool = False  # `receiver` is a topic: one letter to each subscriber, the sender aside


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What came of a message: `ok` and a body of plain data, or not `ok` and an encoded error text as body."""

    ok: bool
    body: bytes


class Requires(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an agent says of the places where it can run, and of how much work it is."""

    needs: Needs
    # Above zero, in the unit of the EDS's threshold: 1 for an agent like most.
    task_weight: Annotated[float, msgspec.Meta(gt=0.0, le=MAX_WEIGHT)] = 1.0


class Captured(msgspec.Struct, frozen=True, array_like=True):
    """A captured state without the pieces of it that the host has already: `head`, and behind it the pieces. Of a large
    one `head` is the table of a file (parcel.freight.Freight), and there are no pieces."""

    head: bytes
    pieces: tuple[bytes, ...]  # their digests, in order
    fresh: tuple[tuple[bytes, bytes], ...]  # digest and bytes of those that the last checkpoint did not have
    file: str | None = None  # the name of that file in the host's spool; "" in a worker, which knows no names


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """What an agent is at a message boundary, and what it did since the last one: kept as one, or not at all."""

    state: Captured | None  # None: as at the last checkpoint
    answers: tuple[tuple[int, Answer | None], ...]  # of deliveries, by their tickets; None: handled, answered later
    letters: tuple[Outgoing, ...]
    calling: tuple[int, ...] = ()  # the agent's numbers of the calls that it waits for
    late: tuple[tuple[Later, Answer], ...] = ()  # answers to messages that were handled before
    heard: tuple[int, ...] = ()  # calls of letters with `then` whose answer the state knows, or waits for no more
    topics: tuple[tuple[str, bool], ...] = ()  # subscribed to (True), or no more
    requires: Requires | None = None  # what it needs from now on; None: as before
    loose: bool = False  # its class has chosen that answers wait for nothing that is written

    @property
    def answers_at_once(self) -> bool:
        """Whether its answers wait for nothing. That their messages were handled is written with the next state: one
        that is older knows no ticket of them, and after a crash they must come again."""
        return self.loose and self.state is None

    @property
    def answers_alone(self) -> bool:
        """Whether such answers are all that is in it."""
        return self.answers_at_once and not any((self.letters, self.heard, self.topics, self.requires))

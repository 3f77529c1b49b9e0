"""Frames between the daemon and a worker: 4 bytes of length (big-endian), then one MessagePack struct.

The daemon takes what a worker sends as hostile: a schema, a limit for every field, and (in pool.py) only what the
agents of that worker may say. A worker trusts its daemon.
"""

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import asdict, astuple

from agentplatform.dataorders import MAX_ANSWER_BYTES, DataOrder
from agentplatform.lifecycle import Event
from agentplatform.messages import (
    CONSENT_BYTES,
    Answer,
    Arrival,
    Captured,
    Checkpoint,
    Custody,
    Delivery,
    Later,
    Move,
    News,
    Outgoing,
    Requires,
)
from agentplatform.parcel.freight import MAX_INLINE_BYTES, Freight
from agentplatform.runners.place import DIGEST_BYTES, MAX_BODY_BYTES, MAX_NAME, MAX_PIECES, MAX_STATE_BYTES, PIECE_BYTES
from agentplatform.ticket import Ticket
from ledger.errors import PeerFault

MAX_FRAME_BYTES = MAX_STATE_BYTES + (64 << 20)  # a checkpoint has letters and an answer beside a state
MAX_TEXT = 16 << 10  # characters of one piece of output; longer ones are cut into pieces
MAX_COUNT = 1 << 18  # of what one checkpoint has of each kind: a frame of single bytes takes 50 times its size
HEAD = 4

Name = Annotated[str, Meta(max_length=MAX_NAME)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Body = Annotated[bytes, Meta(max_length=MAX_BODY_BYTES)]
State = Annotated[bytes, Meta(max_length=MAX_STATE_BYTES)]
Inline = Annotated[bytes, Meta(max_length=MAX_INLINE_BYTES)]
Consent = Annotated[bytes, Meta(max_length=CONSENT_BYTES)]
Number = Annotated[int, Meta(ge=0, le=(1 << 62))]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Digest = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Piece = Annotated[bytes, Meta(min_length=1, max_length=PIECE_BYTES)]
Many = Meta(max_length=MAX_COUNT)


class _Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    pass


# Down: daemon to worker. `ask` numbers a question; the worker's reply carries it back.


class Create(_Frame, frozen=True):
    ask: int
    agent: str
    name: str
    class_name: str
    code: bytes | None  # None: this worker has it
    init: bytes
    arrival: Arrival


class Open(_Frame, frozen=True):
    ask: int
    agent: str
    name: str
    class_name: str
    code: bytes | None
    state: bytes | Freight  # of a Freight the file was lent before: its descriptor waits on the other socket
    key: bytes = b""  # that the file is sealed with; empty: it is not


class Prepare(_Frame, frozen=True):
    """An agent of this code may come: it is opened now, and whether that failed is said when one has come."""

    class_name: str
    code: bytes


class Activate(_Frame, frozen=True):
    agent: str
    arrival: Arrival
    beginning: Event


class Capture(_Frame, frozen=True):
    ask: int
    agent: str
    move: Move


class Deactivate(_Frame, frozen=True):
    ask: int
    agent: str


class Clone(_Frame, frozen=True):
    ask: int
    agent: str


class Snapshot(_Frame, frozen=True):
    ask: int
    agent: str


class Data(_Frame, frozen=True):
    ask: int
    agent: str
    order: DataOrder


class Told(_Frame, frozen=True):
    agent: str
    hook: News
    word: str


class Thaw(_Frame, frozen=True):
    agent: str
    failure: str | None
    arrival: Arrival | None  # for an opened copy, which does not know yet where it is


class Discard(_Frame, frozen=True):
    agent: str


class Dispose(_Frame, frozen=True):
    ask: int
    agent: str


class Deliver(_Frame, frozen=True):
    agent: str
    delivery: Delivery


class Answered(_Frame, frozen=True):
    """The answer to a call that the agent made."""

    agent: str
    call: int
    answer: Answer


class Lent(_Frame, frozen=True):
    """The answer to NeedsFile: the descriptor waits on the other socket, or there is a reason why not."""

    agent: str
    refusal: str | None
    key: bytes = b""  # to seal with what is written; empty: it is not sealed


class Leased(_Frame, frozen=True):
    """To a worker of agents in held custody: they may run until then, on CLOCK_BOOTTIME."""

    until: float


_Asked = Create | Open | Capture | Deactivate | Clone | Snapshot | Data | Dispose
Down = _Asked | Activate | Thaw | Discard | Deliver | Answered | Told | Lent | Leased | Prepare

# Up: worker to daemon.


class Ready(_Frame, frozen=True):
    """Forked, jailed and warm."""

    jail: Name


class Done(_Frame, frozen=True):
    ask: Number
    state: Inline | Freight  # of a Capture; of a Deactivate when it has something to do; of Data; else empty


class Refused(_Frame, frozen=True):
    """A question failed, with the agent's words: Unavailable when `later`, else Misuse."""

    ask: Number
    reason: Text
    later: bool


class WantsToGo(_Frame, frozen=True):
    agent: Name
    destination: Name
    state: Inline | Freight


class NeedsFile(_Frame, frozen=True):
    """The agent is about to be captured, and its state has `size` bytes: too many for a frame."""

    agent: Name
    size: Number


class WantsToEnd(_Frame, frozen=True):
    agent: Name


class WantsToSleep(_Frame, frozen=True):
    agent: Name
    seconds: Seconds | None


class WantsClone(_Frame, frozen=True):
    agent: Name


class WantsCustody(_Frame, frozen=True):
    agent: Name
    custody: Custody
    consent: Consent


class Books(_Frame, frozen=True):
    """The agent called `dispatch` with terms; it runs on."""

    agent: Name
    ticket: Ticket


class Sent(_Frame, frozen=True):
    agent: Name
    receiver: Name
    kind: Name
    body: Body
    call: Number | None
    kept: bool
    loose: bool
    handling: bool
    seconds: Seconds | None
    then: bool
    topic: bool

    def outgoing(self) -> Outgoing:
        _, *fields = astuple(self)
        return Outgoing(*fields)


class Handled(_Frame, frozen=True):
    agent: Name
    ticket: Number
    ok: bool
    body: Body


class Letter(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Of a checkpoint; see messages.Outgoing."""

    receiver: Name
    kind: Name
    body: Body
    call: Number | None
    handling: bool
    seconds: Seconds | None
    then: bool
    topic: bool


class Checkpointed(_Frame, frozen=True):
    """See messages.Checkpoint and messages.Captured."""

    agent: Name
    head: State | None  # None: the state is as it was
    pieces: Annotated[tuple[Digest, ...], Meta(max_length=MAX_PIECES)]
    fresh: Annotated[tuple[tuple[Digest, Piece], ...], Meta(max_length=MAX_PIECES)]
    answers: Annotated[tuple[tuple[Number, bool | None, Body], ...], Many]  # None: later
    letters: Annotated[tuple[Letter, ...], Many]
    calling: Annotated[tuple[Number, ...], Many]
    late: Annotated[tuple[tuple[Name, Number, Name, bool, Body], ...], Many]
    heard: Annotated[tuple[Number, ...], Many]
    topics: Annotated[tuple[tuple[Name, bool], ...], Many]
    filed: bool  # the state is in the file that was lent for it, and `head` is its table
    requires: Requires | None = None
    loose: bool = False

    @classmethod
    def of(cls, agent: str, checkpoint: Checkpoint) -> "Checkpointed":
        state = checkpoint.state or Captured(b"", (), ())
        return cls(
            agent,
            None if checkpoint.state is None else state.head,
            state.pieces,
            state.fresh,
            tuple(
                (ticket, *((None, b"") if each is None else (each.ok, each.body)))
                for ticket, each in checkpoint.answers
            ),
            tuple(
                Letter(**{name: getattr(each, name) for name in Letter.__struct_fields__})
                for each in checkpoint.letters
            ),
            checkpoint.calling,
            tuple((*astuple(later), answer.ok, answer.body) for later, answer in checkpoint.late),
            checkpoint.heard,
            checkpoint.topics,
            state.file is not None,
            checkpoint.requires,
            checkpoint.loose,
        )

    def checkpoint(self) -> Checkpoint:
        """Without the name of the file that it may speak of."""
        state = None if self.head is None else Captured(self.head, self.pieces, self.fresh)
        answers = tuple((ticket, None if ok is None else Answer(ok, body)) for ticket, ok, body in self.answers)
        letters = tuple(Outgoing(**asdict(letter)) for letter in self.letters)
        late = tuple((Later(sender, number, host), Answer(ok, body)) for sender, number, host, ok, body in self.late)
        return Checkpoint(
            state, answers, letters, self.calling, late, self.heard, self.topics, self.requires, self.loose
        )


class Printed(_Frame, frozen=True):
    agent: Name
    stream: Name
    text: Text


_Wish = WantsToGo | WantsToSleep | WantsToEnd | WantsClone | WantsCustody | Books
FromAgent = _Wish | NeedsFile | Checkpointed | Sent | Handled | Printed
Up = Ready | Done | Refused | FromAgent

_walker = msgspec.msgpack.Decoder(msgspec.Raw)
_seconds = msgspec.msgpack.Decoder(Seconds)
_encoder = msgspec.msgpack.Encoder()
T = TypeVar("T")


def encode(frame: Down | Up) -> bytearray:
    """The frame with its length before it. Raises PeerFault when it is larger than the other side would take."""
    raw = bytearray(HEAD)
    _encoder.encode_into(frame, raw, HEAD)
    size = len(raw) - HEAD
    if size > MAX_FRAME_BYTES:
        raise PeerFault("this side", f"has a {type(frame).__name__} of {size} bytes; at most {MAX_FRAME_BYTES} go")
    raw[:HEAD] = size.to_bytes(HEAD, "big")
    return raw


def weight(frame: FromAgent) -> int:
    """About the bytes that it takes in memory."""
    match frame:
        case Sent() | Handled():
            return 2048 + len(frame.body)
        case WantsToGo():
            return 2048 + len(frame.state.digests if isinstance(frame.state, Freight) else frame.state)
        case Checkpointed():
            numbers = (frame.calling, frame.heard, frame.topics)
            parts = (frame.answers, frame.letters, frame.late, frame.pieces, frame.fresh, *numbers)
            small = 200 * sum(map(len, parts))
            bodies = sum(len(body) for _, _, body in frame.answers) + sum(len(late[4]) for late in frame.late)
            bodies += sum(len(letter.body) for letter in frame.letters)
            return 2048 + small + bodies + len(frame.head or b"") + sum(len(piece) for _, piece in frame.fresh)
    return 2048


def seconds(state: bytes | Freight) -> float | None:
    """What the answer to a Deactivate says. Raises PeerFault for anything else."""
    if isinstance(state, Freight):
        raise PeerFault("worker", "sent a file where a time was asked for")
    try:
        return _seconds.decode(state) if state else None
    except msgspec.DecodeError as error:
        raise PeerFault("worker", f"sent bytes that are no time: {error}") from None


def data(state: bytes | Freight) -> bytes:
    """What the answer to Data brings. Raises PeerFault for anything that no honest worker sends."""
    if isinstance(state, Freight) or not 0 < len(state) <= MAX_ANSWER_BYTES or not is_plain(state):
        raise PeerFault("worker", "sent something else than plain data where its agent's data was asked for")
    return state


def is_plain(body: bytes) -> bool:
    """Whether it is one MessagePack value, not too deep. It is walked, not decoded: that could take 70 times its size
    in memory. So a text in it may still be no UTF-8, and a key of a map a list; who decodes it hears so."""
    try:
        _walker.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class FrameReader(Generic[T]):
    """Cuts a stream of bytes into frames."""

    def __init__(self, decode: Callable[[memoryview], T], limit: int = MAX_FRAME_BYTES) -> None:
        self._decode, self._limit = decode, limit
        self._rest = bytearray()

    def feed(self, data: bytes, most: int | None = None) -> list[T]:
        """The frames that `data` completes; `most` of them, then the others wait for the next call. Raises PeerFault
        at the first that is too large or unreadable."""
        frames: list[T] = []
        at = 0
        whole: bytes | bytearray = data
        if self._rest:
            self._rest += data
            whole = self._rest
        with memoryview(whole) as view:
            while len(view) - at >= HEAD and len(frames) != most:
                size = int.from_bytes(view[at : at + HEAD], "big")
                if size > self._limit:
                    raise PeerFault("worker", f"announced a frame of {size} bytes; at most {self._limit} are taken")
                end = at + HEAD + size
                if end > len(view):
                    break
                frames.append(self._read(view[at + HEAD : end]))
                at = end
            if whole is not self._rest:  # as a rule nothing was left, and nothing is
                self._rest += view[at:]
                return frames
        del self._rest[:at]
        return frames

    def _read(self, raw: memoryview) -> T:
        try:
            return self._decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise PeerFault("worker", f"sent bytes that are no frame: {error}") from None
        finally:
            raw.release()


_down: Any = Down
_up: Any = Up


def down_reader() -> FrameReader[Down]:
    return FrameReader(msgspec.msgpack.Decoder(_down).decode)


def up_reader() -> FrameReader[Up]:
    return FrameReader(msgspec.msgpack.Decoder(_up).decode)

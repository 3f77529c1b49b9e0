"""Frames between the daemon and a worker: 4 bytes of length (big-endian), then one MessagePack struct.

The daemon takes what a worker sends as hostile: a schema, a limit for every field, and (in pool.py) only what the
agents of that worker may say. A worker trusts its daemon.
"""

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from agentplatform.messages import Answer, Arrival, Delivery
from agentplatform.runners.place import MAX_BODY_BYTES, MAX_NAME, MAX_STATE_BYTES
from ledger.errors import PeerFault

MAX_FRAME_BYTES = MAX_STATE_BYTES + (1 << 20)
MAX_TEXT = 16 << 10  # characters of one piece of output; longer ones are cut into pieces
HEAD = 4

Name = Annotated[str, Meta(max_length=MAX_NAME)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Body = Annotated[bytes, Meta(max_length=MAX_BODY_BYTES)]
State = Annotated[bytes, Meta(max_length=MAX_STATE_BYTES)]
Number = Annotated[int, Meta(ge=0, le=(1 << 62))]


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
    state: bytes


class Activate(_Frame, frozen=True):
    agent: str
    arrival: Arrival


class Capture(_Frame, frozen=True):
    ask: int
    agent: str
    destination: str


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


Down = Create | Open | Activate | Capture | Thaw | Discard | Dispose | Deliver | Answered

# Up: worker to daemon.


class Ready(_Frame, frozen=True):
    """Forked, jailed and warm."""

    jail: Name


class Done(_Frame, frozen=True):
    ask: Number
    state: State  # of a Capture; else empty


class Refused(_Frame, frozen=True):
    """A question failed, with the agent's words: Unavailable when `later`, else Misuse."""

    ask: Number
    reason: Text
    later: bool


class WantsToGo(_Frame, frozen=True):
    agent: Name
    destination: Name
    state: State


class WantsToEnd(_Frame, frozen=True):
    agent: Name


class Sent(_Frame, frozen=True):
    agent: Name
    receiver: Name
    kind: Name
    body: Body
    call: Number | None


class Handled(_Frame, frozen=True):
    agent: Name
    ticket: Number
    ok: bool
    body: Body


class Printed(_Frame, frozen=True):
    agent: Name
    stream: Name
    text: Text


FromAgent = WantsToGo | WantsToEnd | Sent | Handled | Printed
Up = Ready | Done | Refused | FromAgent

_walker = msgspec.msgpack.Decoder(msgspec.Raw)
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
            return 2048 + len(frame.state)
    return 2048


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
        self._rest += data
        frames: list[T] = []
        at = 0
        with memoryview(self._rest) as view:
            while len(view) - at >= HEAD and len(frames) != most:
                size = int.from_bytes(view[at : at + HEAD], "big")
                if size > self._limit:
                    raise PeerFault("worker", f"announced a frame of {size} bytes; at most {self._limit} are taken")
                end = at + HEAD + size
                if end > len(view):
                    break
                frames.append(self._read(view[at + HEAD : end]))
                at = end
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

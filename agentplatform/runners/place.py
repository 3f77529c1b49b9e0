"""What an agent may ask of where it lives: the other side of `self.send`, `self.call`, `self.dispatch`."""

import asyncio
import itertools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from agentplatform.lifecycle import State
from agentplatform.messages import Answer, Arrival, Outgoing
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable

MAX_BODY_BYTES = 16 << 20  # one message; larger things are better kept than sent
MAX_STATE_BYTES = 256 << 20  # one agent; a parcel goes in one piece for now
PIECE_BYTES = 256 << 10  # of a state that is larger: so much is kept, or found unchanged, at a time
MAX_PIECES = (MAX_STATE_BYTES // PIECE_BYTES) + (1 << 16)  # a buffer begins a piece of its own
DIGEST_BYTES = 32
MAX_NAME = 256  # characters of a receiver, a kind or a host
ACTING = frozenset({State.CREATING, State.RUNNING, State.FREEZING, State.DISPOSING})


handling: ContextVar[bool] = ContextVar("handling", default=False)
"""Whether the code that runs handles a message, rather than being a part of `run`."""


class AgentPlace:
    """The `Place` of one agent (see agentplatform.agent)."""

    def __init__(self, agent: str, name: str, post: Callable[[Outgoing], None], wake: Callable[[], None]) -> None:
        self.id, self.name = agent, name
        self.state = State.INERT
        self.wish: str | None = None  # the host that the agent asked to go to
        self.wants_end = False
        self.arrival: Arrival | None = None
        self._send, self._wake = post, wake
        self._calls: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)

    @property
    def host(self) -> str:
        return self._arrived().host

    @property
    def epoch(self) -> int:
        return self._arrived().epoch

    def dispatch(self, host: str) -> None:
        self._check("go")
        _check_name("a host", host)
        if self.state in (State.FREEZING, State.DISPOSING):
            raise Misuse(f"{self.id} is {self.state}; it cannot also go to {host}")
        self.wish = host
        self._wake()

    def dispose(self) -> None:
        self._check("end")
        self.wants_end = True
        self._wake()

    def send(self, receiver: str, kind: str, body: Any) -> None:
        self._check("send")
        self._post(receiver, kind, body, None)

    async def call(self, receiver: str, kind: str, body: Any, seconds: float) -> Any:
        self._check("call")
        if self.state is State.CREATING:
            raise Misuse(f"{self.id} is not created yet; what it sends leaves after on_creation: call from `run`")
        number = next(self._numbers)
        waiting = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            self._post(receiver, kind, body, number)
            answer = await asyncio.wait_for(waiting, seconds)
        except TimeoutError:
            raise Unavailable(f"{receiver} did not answer {kind!r} within {seconds:g} s", retry_after=seconds) from None
        finally:
            del self._calls[number]
        if not answer.ok:
            raise PeerFault(receiver, codec.decode(answer.body, str))
        return codec.decode(answer.body, object)

    def answer(self, call: int, answer: Answer) -> None:
        waiting = self._calls.get(call)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    @property
    def calling(self) -> tuple[int, ...]:
        """The calls that wait for an answer: the code behind them has not run."""
        return tuple(self._calls)

    def leave(self) -> None:
        """The agent is captured or ended: whoever still waits for an answer here waits in vain."""
        self.wish = None
        for waiting in self._calls.values():
            waiting.cancel()

    def _post(self, receiver: str, kind: str, body: Any, call: int | None) -> None:
        _check_name("a receiver", receiver)
        _check_name("a message's kind", kind)
        body = plain(body, f"a {kind!r} message")
        self._send(Outgoing(receiver, kind, body, call, handling=handling.get()))

    def _arrived(self) -> Arrival:
        if self.arrival is None:
            raise Misuse(f"{self.id} is on no host yet")
        return self.arrival

    def _check(self, act: str) -> None:
        if self.state not in ACTING:
            raise Misuse(f"{self.id} is {self.state} here, so it cannot {act}; a task that it left behind asked for it")


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise Misuse(f"{what} is a text of 1 to {MAX_NAME} printable characters, not {name!r:.60}")


def plain(value: Any, what: str) -> bytes:
    """`value` as bytes. Raises Misuse, naming `what`, when it is not plain data or too large."""
    try:
        raw = codec.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Misuse(f"{what} must be plain data (None, numbers, text, bytes, lists, dicts): {error}") from None
    if len(raw) > MAX_BODY_BYTES:
        raise Misuse(f"{what} has {len(raw)} bytes; at most {MAX_BODY_BYTES} go into one message")
    return raw

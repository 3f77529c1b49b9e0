"""What an agent may ask of where it lives: the other side of `self.send`, `self.call`, `self.dispatch`."""

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, get_args

import msgspec

from agentplatform.agenda import MAX_SECONDS, Question, is_time
from agentplatform.data import Data
from agentplatform.faults import error_body
from agentplatform.kinds import DIRECTORY, EDS, Found, Query
from agentplatform.lifecycle import State
from agentplatform.messages import (
    CONSENT_BYTES,
    PLAIN_DATA,
    RESERVED,
    Answer,
    Arrival,
    Custody,
    Later,
    Outgoing,
    Requires,
)
from agentplatform.replies import FutureReply
from agentplatform.runners import shared
from agentplatform.runners.errands import QUESTIONS_FROM, Errand, Errands
from agentplatform.runners.wishes import Clone, OtherCustody, Sleep, Wish, Wishes
from agentplatform.ticket import Ticket
from ledger import codec
from ledger.errors import Misuse, PlatformError
from services.rms.resources import Needs

MAX_BODY_BYTES = 16 << 20  # one message; larger things are better kept than sent
MAX_STATE_BYTES = 256 << 20  # one agent; a parcel goes in one piece for now
PIECE_BYTES = 256 << 10  # of a state that is larger: so much is kept, or found unchanged, at a time
MAX_PIECES = (MAX_STATE_BYTES // PIECE_BYTES) + (1 << 16)  # a buffer begins a piece of its own
DIGEST_BYTES = 32
FIND_SECONDS = 30.0  # within which a host finds services: it asks nobody
MAX_REPORT = 1e15  # on either side of zero, as services.eds.events takes it
MAX_NAME = 256  # characters of a receiver, a kind or a host
ACTING = frozenset({State.CREATING, State.RUNNING, State.FREEZING, State.CLONING, State.DISPOSING})


handling: ContextVar[bool] = ContextVar("handling", default=False)
"""Whether the code that runs handles a message, rather than being a part of `run`."""


class Acts(Protocol):
    """What an agent does at its place goes here, to be kept (runners.checkpoints)."""

    def post(self, outgoing: Outgoing) -> None: ...

    def asked(self, outgoing: Outgoing) -> None: ...

    def late(self, later: Later, answer: Answer) -> None: ...

    def heard(self, number: int) -> None: ...

    def subscribed(self, topic: str, on: bool) -> None: ...

    def required(self, needed: Requires) -> None: ...

    def changed(self) -> None: ...

    def wanted(self) -> None: ...


class AgentPlace:
    """The `Place` of one agent (see agentplatform.agent)."""

    def __init__(
        self,
        agent: str,
        name: str,
        acts: Acts,
        wake: Callable[[], None],
        queue: Callable[[Errand], None],
        readable: Sequence[Path] = (),
    ) -> None:
        """`queue` takes what is to be done at a message boundary. `readable`: folders of files for agents."""
        self.id, self.name = agent, name
        self.state = State.INERT
        self.wishes = Wishes(wake)
        self.wants_end = False
        self.arrival: Arrival | None = None
        self.errands = Errands(queue, acts.changed)
        self._acts, self._wake, self._readable = acts, wake, readable
        self.keep(Data())
        self._calls: dict[int, FutureReply] = {}
        self._numbers = itertools.count(1)

    @property
    def host(self) -> str:
        return self._arrived().host

    @property
    def epoch(self) -> int:
        return self._arrived().epoch

    def keep(self, data: Data) -> None:
        """This is what the agent keeps."""
        self.data = data
        data.live(self._change_data, self.errands.now)

    def dispatch(self, where: str | Ticket) -> None:
        self._check("go")
        ticket = Ticket.to(where)
        _check_name("a host", ticket.host)
        self._want(ticket, f"go to {ticket.host}")

    def deactivate(self, seconds: float | None) -> None:
        self._check("be deactivated")
        if seconds is not None:
            _check_seconds(seconds)
        self._want(Sleep(None if seconds is None else float(seconds)), "be deactivated")

    def clone(self) -> None:
        self._check("clone itself")
        self._want(Clone(), "be cloned")

    def change_custody(self, custody: Custody, consent: bytes) -> None:
        self._check("change its custody")
        if custody not in get_args(Custody) or (consent and (custody != "held" or len(consent) != CONSENT_BYTES)):
            raise Misuse(f"{custody!r} is no custody ('local', 'held'), or {len(consent)} bytes are no consent to it")
        self._want(OtherCustody(custody, bytes(consent)), "change its custody")

    def snapshot(self) -> None:
        self._check("write a snapshot")
        self._refuse_when_leaving("write a snapshot")
        self._acts.wanted()

    def immovable(self) -> AbstractContextManager[None]:
        return self.wishes.immovable()

    def shared_file(self, name: str) -> Path:
        return shared.find(name, self._readable)

    def dispose(self) -> None:
        self._check("end")
        self.wants_end = True
        self._wake()

    def send(self, receiver: str, kind: str, body: Any) -> None:
        self._check("send")
        self._post(receiver, kind, body, None)

    async def call(self, receiver: str, kind: str, body: Any, seconds: float) -> Any:
        reply = self._open(receiver, kind, body, seconds)
        try:
            return await reply.alone()
        finally:
            self._calls.pop(reply.number).cancel()

    async def find(self, query: Query) -> list[Found]:
        reply = self._expect(DIRECTORY, "find", FIND_SECONDS)
        self._acts.asked(Outgoing(DIRECTORY, "find", codec.encode(query), reply.number, kept=False))
        try:
            return msgspec.convert(await reply.alone(), list[Found])
        finally:
            self._calls.pop(reply.number).cancel()

    def future(self, receiver: str, kind: str, body: Any, seconds: float) -> FutureReply:
        reply = self._open(receiver, kind, body, seconds)
        reply.add_done_callback(lambda reply: self._calls.pop(reply.number, None))
        return reply

    def ask(self, receiver: str, kind: str, body: Any, seconds: float, then: str) -> int:
        self._check("ask")
        _check_seconds(seconds)
        return self._ask(kind, body, Question(receiver, kind, None, seconds, then, None))

    def delegate(self, later: Later, receiver: str, kind: str, body: Any, seconds: float | None) -> None:
        self._check("delegate a message")
        self._ask(kind, body, Question(receiver, kind, None, seconds, "", later))

    def reply(self, later: Later, value: Any) -> None:
        self._answer_late(later, Answer(True, plain(value, "the answer")))

    def fail(self, later: Later, error: PlatformError | str) -> None:
        self._answer_late(later, Answer(False, error_body(error)))

    def _answer_late(self, later: Later, answer: Answer) -> None:
        self._check("answer")
        if not isinstance(later, Later):
            raise Misuse(f"a message's ticket is needed (`message.later`), not {later!r:.60}")
        self._acts.late(later, answer)

    def after(self, seconds: float, kind: str, body: Any, every: bool) -> int:
        self._check("set a timer")
        _check_name("a message's kind", kind)
        return self.errands.after(seconds, kind, plain(body, f"a timer's {kind!r} message"), every)

    def cancel(self, timer: int) -> bool:
        self._check("cancel a timer")
        return self.errands.cancel(timer)

    def subscribe(self, topic: str, on: bool) -> None:
        self._check("subscribe")
        _check_name("a topic", topic)
        self._acts.subscribed(topic, on)

    def require(self, needs: Needs, task_weight: float) -> None:
        self._check("say what it needs")
        self._acts.required(requires(needs, task_weight))

    def multicast(self, topic: str, kind: str, body: Any) -> None:
        self._check("send")
        _check_name("a topic", topic)
        _check_free("a topic", topic)
        self._post(topic, kind, body, None, topic=True)

    def answer(self, call: int, answer: Answer) -> None:
        if call >= QUESTIONS_FROM:
            if not self.errands.heard(call, answer):
                self._acts.heard(call)  # the host need not bring it again
        elif (reply := self._calls.get(call)) is not None:
            reply.answered(answer)

    @property
    def calling(self) -> tuple[int, ...]:
        """The calls that wait for an answer: the code behind them has not run."""
        return tuple(self._calls)

    def leave(self) -> None:
        """The agent is captured or ended: whoever still waits for an answer here waits in vain."""
        self.wishes.clear()
        self.errands.stop()
        for reply in self._calls.values():
            reply.cancel()

    def _open(self, receiver: str, kind: str, body: Any, seconds: float) -> FutureReply:
        _check_seconds(seconds)
        reply = self._expect(receiver, kind, seconds)
        try:
            self._post(receiver, kind, body, reply.number, seconds)
        except Misuse:
            self._calls.pop(reply.number).cancel()
            raise
        return reply

    def _expect(self, receiver: str, kind: str, seconds: float) -> FutureReply:
        self._check("call")
        if self.state is State.CREATING:
            raise Misuse(f"{self.id} is not created yet; what it sends leaves after on_creation: call from `run`")
        number = next(self._numbers)
        reply = self._calls[number] = FutureReply(receiver, kind, number)
        reply.expire_in(seconds)
        return reply

    def _ask(self, kind: str, body: Any, question: Question) -> int:
        body = self._checked(question.receiver, kind, body)
        number = self.errands.ask(question)
        self._acts.post(
            Outgoing(
                question.receiver, kind, body, number, handling=handling.get(), seconds=question.seconds, then=True
            )
        )
        return number

    def _post(
        self, receiver: str, kind: str, body: Any, call: int | None, seconds: float | None = None, topic: bool = False
    ) -> None:
        body = self._checked(receiver, kind, body)
        self._acts.post(Outgoing(receiver, kind, body, call, handling=handling.get(), seconds=seconds, topic=topic))

    def report(self, kind: str, value: float) -> None:
        self._check("report")
        _check_name("a report's kind", kind)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_REPORT:
            raise Misuse(f"what is reported is a number up to {MAX_REPORT:g}, not {value!r:.40}")
        self._acts.post(Outgoing(EDS, kind, codec.encode(float(value)), None, handling=handling.get()))

    def _checked(self, receiver: str, kind: str, body: Any) -> bytes:
        _check_name("a receiver", receiver)
        _check_name("a message's kind", kind)
        _check_free("a message's kind", kind)
        return plain(body, f"a {kind!r} message")

    def _want(self, wish: Wish, what: str) -> None:
        self._refuse_when_leaving(what)
        self.wishes.add(wish)

    def _refuse_when_leaving(self, what: str) -> None:
        if self.state in (State.FREEZING, State.DISPOSING):
            raise Misuse(f"{self.id} is {self.state}; it cannot also {what}")

    def _arrived(self) -> Arrival:
        if self.arrival is None:
            raise Misuse(f"{self.id} is on no host yet")
        return self.arrival

    def _change_data(self) -> None:
        self._check("change self.data")
        self._acts.changed()

    def _check(self, act: str) -> None:
        if self.state not in ACTING:
            raise Misuse(f"{self.id} is {self.state} here, so it cannot {act}; a task that it left behind asked for it")


def not_held(size: int) -> str:
    """Why a state of so many bytes is refused in held custody."""
    return (
        f"its state has {size} bytes; of an agent in held custody at most {MAX_STATE_BYTES} are taken, for its holders "
        "take it in one piece"
    )


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise Misuse(f"{what} is a text of 1 to {MAX_NAME} printable characters, not {name!r:.60}")


def _check_free(what: str, name: str) -> None:
    if name.startswith(RESERVED):
        raise Misuse(f"{what} that begins with {RESERVED!r} is for what hosts tell agents: not {name!r:.60}")


def _check_seconds(seconds: float) -> None:
    if not is_time(seconds):
        raise Misuse(f"a timeout is a number of seconds above 0, at most {MAX_SECONDS:g}, not {seconds!r:.40}")


def requires(needs: Needs, task_weight: float) -> Requires:
    """Raises Misuse for what nobody can need."""
    if not isinstance(needs, Needs):
        raise Misuse(f"an agent's needs are Needs(..), not {needs!r:.60}")
    try:
        return msgspec.convert(msgspec.to_builtins(Requires(needs, task_weight)), Requires)
    except (ValueError, TypeError) as error:  # a struct's fields may hold anything
        raise Misuse(f"an agent cannot need that: {error}") from None


def plain(value: Any, what: str, most: int = MAX_BODY_BYTES) -> bytes:
    """`value` as bytes. Raises Misuse, naming `what`, when it is not plain data or too large."""
    try:
        raw = codec.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Misuse(f"{what} must be {PLAIN_DATA}: {error}") from None
    if len(raw) > most:
        raise Misuse(f"{what} has {len(raw)} bytes; at most {most} go into one message")
    return raw

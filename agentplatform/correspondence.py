"""What an agent says and hears: its messages, the answers to them, topics, and timers, which are messages to itself.

All of it is part of `Agent` (agentplatform.agent). A message's body is plain data: None, numbers, text, bytes, lists,
dictionaries.
"""

from time import monotonic
from typing import Any, Protocol, overload

import msgspec

from agentplatform.messages import Later
from agentplatform.replies import FutureReply
from ledger.errors import Misuse, PlatformError, Unavailable

CALL_SECONDS = 30.0  # how long an answer is waited for unless told otherwise


class Message(msgspec.Struct, frozen=True):
    """What an agent is told. `body` is plain data: None, numbers, text, bytes, lists, dictionaries."""

    kind: str
    body: Any
    sender: str  # the id of the agent that sent it, or "client-..."; the agent's own id for a timer's
    later: Later | None = None
    """The ticket for an answer that comes later: a handler that returns it has not answered yet."""
    until: float | None = None  # of `deadline`, by this process's clock

    @property
    def deadline(self) -> float | None:
        """Seconds that its sender will still wait for the answer, counted here since it came; None: for ever, or for
        none. One that has none left when its turn comes is not handled."""
        return None if self.until is None else self.until - monotonic()


class Post(Protocol):
    """The part of an agent's place that it corresponds by (see agentplatform.agent.Place)."""

    @property
    def id(self) -> str: ...

    def send(self, receiver: str, kind: str, body: Any) -> None: ...

    async def call(self, receiver: str, kind: str, body: Any, seconds: float) -> Any: ...

    def future(self, receiver: str, kind: str, body: Any, seconds: float) -> FutureReply: ...

    def ask(self, receiver: str, kind: str, body: Any, seconds: float, then: str) -> int: ...

    def delegate(self, later: Later, receiver: str, kind: str, body: Any, seconds: float | None) -> None: ...

    def reply(self, later: Later, value: Any) -> None: ...

    def fail(self, later: Later, error: PlatformError | str) -> None: ...

    def subscribe(self, topic: str, on: bool) -> None: ...

    def report(self, kind: str, value: float) -> None: ...

    def multicast(self, topic: str, kind: str, body: Any) -> None: ...

    def after(self, seconds: float, kind: str, body: Any, every: bool) -> int: ...

    def cancel(self, timer: int) -> bool: ...


class Correspondence:
    """What an agent may do with messages and timers."""

    __slots__ = ()

    def send(self, receiver: str, kind: str, body: Any = None) -> None:
        """Sends a message to an agent, wherever it is, and does not wait. `body` is plain data.

        To an id, or to a name; a name that this host knows nothing of (as just after its start) is refused, with a
        note in the agent's log.
        """
        self._mae_where().send(receiver, kind, body)

    async def call(
        self,
        receiver: str,
        kind: str,
        body: Any = None,
        timeout: float = CALL_SECONDS,  # noqa: ASYNC109 - agents read easier with it than with asyncio.timeout
    ) -> Any:
        """Sends a message and waits for the answer, at most `timeout` seconds, which the receiver is told.

        Raises PeerFault with the receiver's error, Unavailable when it says so (a busy service), or no answer came in
        time. While a handler waits
        here the agent takes no other message: two agents that call each other from their handlers wait in vain.
        """
        return await self._mae_where().call(receiver, kind, body, timeout)

    @overload
    def future(self, receiver: str, kind: str, body: Any = ..., *, timeout: float = ...) -> FutureReply: ...

    @overload
    def future(self, receiver: str, kind: str, body: Any = ..., *, timeout: float = ..., then: str) -> int: ...

    def future(
        self, receiver: str, kind: str, body: Any = None, *, timeout: float = CALL_SECONDS, then: str | None = None
    ) -> FutureReply | int:
        """Sends a message and goes on; the answer comes within `timeout` seconds, or not at all.

        Returns a FutureReply, which ends when the agent moves (see agentplatform.replies). With `then`, the name of a
        method of this agent, the answer comes there instead, exactly once, as a FutureReply that is done:
        `then(reply)` is called at a message boundary, on whatever host the agent is by then, also after a crash or a
        restart, and also when there is no answer (`reply.result()` raises why). Returns `reply.number` then.
        """
        if then is None:
            return self._mae_where().future(receiver, kind, body, timeout)
        if not isinstance(then, str) or not callable(getattr(self, then, None)):
            raise Misuse(f"{type(self).__name__} has no method {then!r:.60} to take the answer of {receiver!r:.60}")
        return self._mae_where().ask(receiver, kind, body, timeout, then)

    def reply(self, later: Later, value: Any = None) -> None:
        """Answers a message whose handler returned its ticket, `message.later`, before. On whatever host; the ticket is
        plain data, to be kept in an attribute. A second answer to one message is dropped."""
        self._mae_where().reply(later, value)

    def fail(self, later: Later, reason: str | PlatformError, retry_after: float | None = None) -> None:
        """As `reply`, with an error for who asked. `retry_after`, in seconds: it was not done, and may be asked again
        then; who asked gets Unavailable, as by an `Unavailable` that is given as the reason."""
        error = reason if isinstance(reason, PlatformError) else str(reason)
        if retry_after is not None:
            error = Unavailable(str(reason), retry_after)
        self._mae_where().fail(later, error)

    def delegate(self, message: Message, receiver: str, kind: str | None = None, body: Any = None) -> Later:
        """Lets another agent answer: `return self.delegate(message, "other")` in a handler.

        `receiver` gets the message, or one of another `kind` and `body`, with what is left of its deadline; its answer,
        or its error, goes to who asked here. That holds while this agent moves, and across a crash.
        """
        if not isinstance(message, Message):
            raise Misuse(f"what is delegated is the message that the handler got, not {message!r:.60}")
        if message.later is None:
            raise Misuse(f"nobody waits for an answer to the timer's message {message.kind!r}; use send")
        seconds = None if message.deadline is None else max(0.0, message.deadline)
        asked = (message.kind, message.body) if kind is None else (kind, body)
        self._mae_where().delegate(message.later, receiver, *asked, seconds)
        return message.later

    def subscribe(self, topic: str) -> None:
        """From now on the agent gets what is multicast to `topic`, wherever it goes, until it unsubscribes.

        Topics that begin with "eds/" are events that hosts tell of themselves, such as "eds/overload": a message of
        that kind, with the event's fields as its body, from "eds@" and the host where the agent is. It is news: who is
        on the way just then misses it (docs/agents.md).
        """
        self._mae_where().subscribe(topic, True)

    def unsubscribe(self, topic: str) -> None:
        self._mae_where().subscribe(topic, False)

    def report(self, kind: str, value: float = 1.0) -> None:
        """Tells the EDS of this host how the agent fares, as in `self.report("frames-dropped", 12.0)`. What follows is
        said by the host's triggers of the measure "told:" and that kind (docs/decisions.md); without one, nothing.
        It leaves at the next message boundary. Of more than 10 a second the rest is dropped."""
        self._mae_where().report(kind, value)

    def multicast(self, topic: str, kind: str, body: Any = None) -> None:
        """Sends a message to each other agent that has subscribed to `topic`, as far as this host has heard of it."""
        self._mae_where().multicast(topic, kind, body)

    def after(self, seconds: float, kind: str, body: Any = None) -> int:
        """In so many seconds the agent gets a message from itself. Returns the timer's number, for `cancel`.

        The timer is part of the agent's state. A host that was down then lets it ring when it is up again; on
        another host it has as long to go as it had when the agent left. What handles it is kept as the handling of any
        message: across a crash it rings once.
        """
        return self._mae_where().after(seconds, kind, body, every=False)

    def every(self, seconds: float, kind: str, body: Any = None) -> int:
        """As `after`, again and again, at least 0.01 s apart. What it missed is skipped: it rings once at a time."""
        return self._mae_where().after(seconds, kind, body, every=True)

    def cancel(self, timer: int) -> bool:
        """Whether there was such a timer. From now on it does not ring."""
        return self._mae_where().cancel(timer)

    def _mae_where(self) -> Post:
        raise NotImplementedError

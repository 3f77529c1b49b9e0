"""Answers that come later: FutureReply for one, ReplySet for many (the names are Aglets')."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import Any, NoReturn

from agentplatform.faults import error_in
from agentplatform.messages import Answer
from ledger import codec
from ledger.errors import Misuse, OutcomeUnknown, PlatformError


class FutureReply:
    """The answer to a message that was sent with `Agent.future`: await it, or ask `done()` and `result()`.

    It is no part of the agent's state, and ends when the agent moves: then it raises `asyncio.CancelledError` for who
    waits. An answer that must find the agent elsewhere, or after a restart, is asked for with `then`.
    """

    def __init__(self, receiver: str, kind: str, number: int) -> None:
        self.receiver, self.kind, self.number = receiver, kind, number
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._late = ""
        self._bell: asyncio.TimerHandle | None = None

    def done(self) -> bool:
        """Whether the answer is there, or will not come any more."""
        return self._answer.done()

    def result(self) -> Any:
        """The answer, which must be there. Raises PeerFault with the receiver's error, Unavailable when it says to come
        again later, its kind OutcomeUnknown when no answer came in time, Misuse while it may still come."""
        if not self._answer.done():
            raise Misuse(f"{self.receiver} has not answered {self.kind!r} yet; await it, or look at done() first")
        if self._answer.cancelled():
            raise OutcomeUnknown(
                f"the agent left before {self.receiver} answered {self.kind!r}; if it was handled, the answer is lost"
            )
        if self._late:
            raise OutcomeUnknown(self._late)
        answer = self._answer.result()
        if not answer.ok:
            raise error_in(answer.body, self.receiver)
        return codec.decode(answer.body, object)

    @property
    def error(self) -> str:
        """What `result` would say; empty when there is an answer."""
        try:
            self.result()
        except PlatformError as error:
            return str(error)
        return ""

    def add_done_callback(self, call: Callable[["FutureReply"], object]) -> None:
        """`call(self)` runs soon after the answer has come; at once, soon, when it is there. Not in a handler's turn:
        what it changes is kept with the next message."""
        self._answer.add_done_callback(lambda _: call(self))

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._answer.done():
            yield from asyncio.shield(self._answer).__await__()
        return self.result()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"the reply of {self.receiver} to {self.kind!r} is awaited here and cannot be kept: leave it out of the "
            "attributes, or ask with future(.., then=..)"
        )

    # For the platform

    async def alone(self) -> Any:
        """As awaiting it, if nobody else does: it ends with who waits."""
        await self._answer
        return self.result()

    def answered(self, answer: Answer) -> None:
        self._silence()
        if not self._answer.done():
            self._answer.set_result(answer)

    def expire_in(self, seconds: float) -> None:
        self._bell = asyncio.get_running_loop().call_later(seconds, self.expired, seconds)

    def expired(self, seconds: float) -> None:
        if not self._answer.done():
            self._late = f"{self.receiver} did not answer {self.kind!r} within {seconds:g} s"
            self._answer.set_result(Answer(False, b""))

    def cancel(self) -> None:
        self._silence()
        self._answer.cancel()

    def _silence(self) -> None:
        if self._bell is not None:
            self._bell.cancel()


class ReplySet:
    """Replies to several messages, taken as they come.

    replies = ReplySet(self.future(worker, "sum", part) for part in parts)
    async for reply in replies:
        total += reply.result()
    """

    def __init__(self, replies: Iterable[FutureReply] = ()) -> None:
        self._replies: list[FutureReply] = []
        self._came: asyncio.Queue[FutureReply] = asyncio.Queue()
        self._taken = 0
        for reply in replies:
            self.add(reply)

    def add(self, reply: FutureReply) -> None:
        self._replies.append(reply)
        reply.add_done_callback(self._came.put_nowait)

    def __len__(self) -> int:
        """All that were added."""
        return len(self._replies)

    @property
    def open(self) -> int:
        """How many are not there yet."""
        return sum(not reply.done() for reply in self._replies)

    async def first(self) -> FutureReply:
        """The next reply that comes and was not taken before. Raises Misuse when there is none to come."""
        if self._taken == len(self._replies):
            raise Misuse("all replies of this set were taken; add another one first")
        self._taken += 1
        try:
            return await self._came.get()
        except asyncio.CancelledError:
            self._taken -= 1
            raise

    async def all(self) -> list[FutureReply]:
        """All replies, when they are there, in the order in which they were added; those too that failed."""
        for reply in self._replies:
            await asyncio.wait([reply._answer])
        return list(self._replies)

    async def __aiter__(self) -> AsyncIterator[FutureReply]:
        while self._taken < len(self._replies):
            yield await self.first()

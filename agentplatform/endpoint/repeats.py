"""Requests that come twice: what was said to an Idempotency-Key is said again, and nothing is done twice.

An answer is kept for KEPT seconds, and not forgotten before for want of room: then new keys are refused instead. It is
not written down: who repeats a request after the endpoint was started again must know that (its incarnation).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agentplatform.endpoint.outcome import Outcome, late
from ledger.errors import Misuse, Unavailable

KEPT = 120.0  # seconds
MAX_KEPT = 50_000  # answers
MAX_BYTES = 64 << 20  # of their bodies
MAX_WAITING = 64  # requests that wait for the outcome of another one
ENTRY_BYTES = 300  # that an entry takes beside the body


class _Kept(NamedTuple):
    asked: bytes  # digest of what was asked
    outcome: "asyncio.Future[Outcome]"


class Repeats:
    def __init__(self, clock: Callable[[], float], most: int = MAX_KEPT, room: int = MAX_BYTES) -> None:
        self._clock, self._most, self._room = clock, most, room
        self._open: dict[bytes, _Kept] = {}
        self._done: OrderedDict[bytes, tuple[float, _Kept, int]] = OrderedDict()  # the oldest first
        self._bytes = 0
        self._waiting = 0

    async def once(self, key: bytes, asked: bytes, do: Callable[[], Awaitable[Outcome]]) -> tuple[Outcome, bool]:
        """What `do` gives, or gave when `key` came first, and whether that is so. An outcome that says that nothing was
        done (not `final`) is not kept. Raises Misuse when the key came with something else, Unavailable when no more
        can be kept, or wait."""
        self._forget()
        known = self._open.get(key) or (self._done[key][1] if key in self._done else None)
        if known is not None:
            if known.asked != asked:
                raise Misuse("this Idempotency-Key came with another request; each request has a key of its own")
            return await self._outcome(known.outcome), True
        if len(self._done) + len(self._open) >= self._most or self._bytes >= self._room:
            raise Unavailable("too many answers are kept for their Idempotency-Keys; come again", retry_after=1.0)
        self._open[key] = _Kept(asked, asyncio.get_running_loop().create_future())
        try:
            outcome = await do()
        except BaseException:
            self._keep(key, late("the first request with this key was broken off: nobody can know its outcome"))
            raise
        self._keep(key, outcome)
        return outcome, False

    def _keep(self, key: bytes, outcome: Outcome) -> None:
        kept = self._open.pop(key)
        kept.outcome.set_result(outcome)
        if outcome.final:
            size = len(outcome.body) + ENTRY_BYTES
            self._done[key] = self._clock() + KEPT, kept, size
            self._bytes += size

    async def _outcome(self, outcome: "asyncio.Future[Outcome]") -> Outcome:
        if outcome.done():
            return outcome.result()
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many wait for requests that came before, with the same keys", retry_after=1.0)
        self._waiting += 1
        try:
            return await asyncio.shield(outcome)
        finally:
            self._waiting -= 1

    def _forget(self) -> None:
        now = self._clock()
        while self._done:
            key, (until, _, size) = next(iter(self._done.items()))
            if until > now:
                return
            del self._done[key]
            self._bytes -= size

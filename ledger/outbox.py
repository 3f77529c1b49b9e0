"""Durable before visible: acts wait in order behind the writes that they promise."""

import asyncio
from collections import deque
from collections.abc import Callable

from ledger.errors import Unavailable

Act = Callable[[], None]


class Outbox:
    """A queue of writes and acts. An act is done once every write ahead of it is durable; after a failed one, never."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        """`failed` hears once of the first write that fails; nothing is done any more from then on."""
        self._failed = failed
        self._queue: deque[asyncio.Future[None] | Act] = deque()
        self._open = True
        self._busy = False  # an act that puts another one must not overtake itself

    def behind(self, write: "asyncio.Future[None]") -> None:
        """What is put from now on waits for `write` too."""
        self._queue.append(write)
        write.add_done_callback(self._written)

    def put(self, act: Act) -> None:
        self._queue.append(act)
        self._go_on()

    def close(self) -> None:
        """Forgets what waits, and does nothing any more."""
        self._open = False
        self._queue.clear()

    def _written(self, write: "asyncio.Future[None]") -> None:
        _error(write)  # once closed nobody else asks for it, and asyncio would report that
        self._go_on()

    def _go_on(self) -> None:
        if not self._busy:
            self._busy = True
            try:
                self._work()
            finally:
                self._busy = False

    def _work(self) -> None:
        while self._open and self._queue:
            first = self._queue[0]
            if isinstance(first, asyncio.Future):
                if not first.done():
                    return
                if (error := _error(first)) is not None:
                    self.close()
                    self._failed(error)
                    return
            self._queue.popleft()
            if not isinstance(first, asyncio.Future):
                first()


def _error(write: "asyncio.Future[None]") -> BaseException | None:
    if write.cancelled():
        return Unavailable("the write was given up before it was durable")
    return write.exception()

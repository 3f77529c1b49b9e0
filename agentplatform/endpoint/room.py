"""The memory that bodies of requests may take, all together. Pure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ledger.errors import Unavailable


class Room:
    """Bytes count from when they come until the request has its answer: who trickles holds no more than it sent."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._strangers = 0

    @contextmanager
    def share(self, trusted: bool) -> Iterator[Callable[[int], None]]:
        """For one request: call what is given with the number of each part's bytes; that raises Unavailable when there
        is no room for them. Strangers have half of it."""
        mine = 0

        def take(more: int) -> None:
            nonlocal mine
            strangers = 0 if trusted else more
            if self._used + more > self._most or self._strangers + strangers > self._most // 2:
                raise Unavailable("too much is asked at once for the memory of this host", retry_after=1.0)
            mine += more
            self._used += more
            self._strangers += strangers

        try:
            yield take
        finally:
            self._used -= mine
            self._strangers -= 0 if trusted else mine

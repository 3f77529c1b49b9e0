"""Peers' transactions on their way into the mempool, verified in slices: votes never wait long behind signatures."""

from collections import deque
from collections.abc import Callable, Sequence

SLICE = 64  # transactions, about 4 ms of verification; then the loop gets its turn
MAX_QUEUED = 8192  # transactions of one peer; who sends more sends it again

Take = Callable[[str, list[bytes]], None]
Later = Callable[[Callable[[], None]], object]


class Intake:
    def __init__(self, take: Take, later: Later) -> None:
        """`take(sender, slice)` verifies and keeps; `later` runs a callback in another turn of the loop (call_soon)."""
        self._take = take
        self._later = later
        self._queues: dict[str, deque[bytes]] = {}  # of those who have something waiting, in the order of their turns
        self._busy = False

    def room(self, sender: str) -> int:
        """How many of `sender`'s transactions are not dropped."""
        return MAX_QUEUED - len(self._queues.get(sender, ()))

    def put(self, sender: str, transactions: Sequence[bytes]) -> None:
        """A few are taken at once when nothing waits; many wait, and their senders take turns."""
        fitting = transactions[: self.room(sender)]
        self._queues.setdefault(sender, deque()).extend(fitting)
        if not self._busy:
            self._busy = True
            self._work()

    def clear(self) -> None:
        self._queues.clear()

    def _work(self) -> None:
        if self._queues:
            sender = next(iter(self._queues))
            queue = self._queues.pop(sender)
            taken = [queue.popleft() for _ in range(min(SLICE, len(queue)))]
            if queue:
                self._queues[sender] = queue
            self._take(sender, taken)
        if self._queues:
            self._later(self._work)
        else:
            self._busy = False

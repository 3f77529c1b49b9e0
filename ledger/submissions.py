"""Transactions that this host submitted and that are not final yet, with those who wait for them."""

import asyncio
from collections.abc import Callable

from ledger.block import Block
from ledger.errors import Misuse, Unavailable
from ledger.transaction import transaction_id


class Submissions:
    def __init__(self) -> None:
        self._waiting: dict[bytes, tuple[bytes, asyncio.Future[int]]] = {}  # id -> transaction, height

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def find(self, raw: bytes) -> "asyncio.Future[int] | None":
        _, future = self._waiting.get(transaction_id(raw), (raw, None))
        return future

    def add(self, raw: bytes) -> "asyncio.Future[int]":
        """Gives the height when the transaction is final."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_heard)
        self._waiting[transaction_id(raw)] = (raw, future)
        return future

    def transactions(self) -> list[bytes]:
        return [raw for raw, _ in self._waiting.values()]

    def final(self, block: Block) -> None:
        for raw in block.transactions:
            _, future = self._waiting.pop(transaction_id(raw), (raw, None))
            if future is not None and not future.done():
                future.set_result(block.header.height)

    def refuse(self, refusal: Callable[[bytes], str | None]) -> list[bytes]:
        """Those that `refusal` gives a reason against are told so, not left to wait; returns them."""
        refused = []
        for digest, (raw, future) in list(self._waiting.items()):
            if (reason := refusal(raw)) is not None:
                refused.append(raw)
                del self._waiting[digest]
                if not future.done():
                    future.set_exception(Misuse(f"the transaction can no longer run: {reason}"))
        return refused

    def give_up(self, reason: Unavailable) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(reason)


def _heard(future: "asyncio.Future[int]") -> None:
    """A refusal that nobody waits for any more is no error of the loop."""
    if not future.cancelled():
        future.exception()

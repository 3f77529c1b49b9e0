"""Transactions that this host submitted and that are not final yet, with those who wait for them."""

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from ledger.block import Block
from ledger.errors import Misuse, PlatformError, Unavailable
from ledger.transaction import Transaction


class NonceLost(Unavailable):
    """The transaction can never run under its nonce; what it asks for may be signed anew, with the next one."""


class Submission(NamedTuple):
    raw: bytes
    transaction: Transaction
    height: "asyncio.Future[int]"  # when it is final


class Submissions:
    def __init__(self) -> None:
        self._waiting: dict[bytes, Submission] = {}  # by their bytes

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def find(self, raw: bytes) -> Submission | None:
        return self._waiting.get(raw)

    def add(self, raw: bytes, transaction: Transaction) -> Submission:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_heard)
        submission = Submission(raw, transaction, future)
        self._waiting[raw] = submission
        return submission

    def raws(self) -> list[bytes]:
        return [submission.raw for submission in self._waiting.values()]

    def next_to_repeat(self, most: int) -> list[bytes]:
        """Those that were sent the longest ago. They count as sent again now."""
        raws = list(islice(self._waiting, most))
        for raw in raws:
            self._waiting[raw] = self._waiting.pop(raw)
        return raws

    def final(self, block: Block) -> None:
        for raw in block.transactions:
            submission = self._waiting.pop(raw, None)
            if submission is not None and not submission.height.done():
                submission.height.set_result(block.header.height)

    def review(
        self, next_nonce: Callable[[bytes], int], refusal: Callable[[Transaction], str | None]
    ) -> list[Transaction]:
        """After a block: those that can no longer run are told so, not left to wait; returns them.

        One that its contract refuses leaves a gap, so those that the account sent after it lose their nonces too.
        """
        lost: list[Transaction] = []
        gaps: set[bytes] = set()
        for submission in sorted(self._waiting.values(), key=lambda each: each.transaction.nonce):
            transaction = submission.transaction
            expected = next_nonce(transaction.account)
            error: PlatformError | None = None
            if transaction.nonce < expected:
                error = NonceLost(f"another transaction of the key used nonce {transaction.nonce}; sign this again")
            elif transaction.account in gaps:
                error = NonceLost("an earlier transaction of this key was refused; sign this one again")
            elif transaction.nonce == expected and (reason := refusal(transaction)) is not None:
                error = Misuse(f"the transaction can no longer run: {reason}")
                gaps.add(transaction.account)
            if error is not None:
                lost.append(transaction)
                self._end(submission, error)
        return lost

    def give_up(self, reason: Unavailable) -> None:
        for submission in list(self._waiting.values()):
            self._end(submission, reason)

    def _end(self, submission: Submission, error: PlatformError) -> None:
        del self._waiting[submission.raw]
        if not submission.height.done():
            submission.height.set_exception(error)


def _heard(future: "asyncio.Future[int]") -> None:
    """A refusal that nobody waits for any more is no error of the loop."""
    if not future.cancelled():
        future.exception()

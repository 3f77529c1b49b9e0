"""Transactions that wait for a block: bounded, each verified once, in the order of nonces for each account. Pure.

When there is no room, the account that has most waiting gives way to one that has less: it loses its last nonces,
but never its only one. So whoever fills the mempool, also with what can never run, keeps out nobody who wants less.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from ledger.errors import Misuse, Unavailable
from ledger.transaction import Transaction, open_signed

MAX_WAITING = 4096  # transactions
MAX_WAITING_BYTES = 16 * 1024 * 1024
MAX_AHEAD = 128  # how far beyond its account's next nonce a transaction is kept: so many wait for each account
MAX_VERIFIED_BYTES = 16 * 1024 * 1024  # of transactions whose verification is remembered


class Waiting(msgspec.Struct, frozen=True, gc=False):
    raw: bytes
    transaction: Transaction


class Verified:
    """Opens transactions and remembers, by all signed bytes, those that were good."""

    def __init__(self, chain: bytes, max_bytes: int = MAX_VERIFIED_BYTES) -> None:
        self._chain = chain
        self._room = max_bytes
        self._known: OrderedDict[bytes, Transaction] = OrderedDict()

    def open(self, raw: bytes, sender: str) -> Transaction:
        """Like `transaction.open_signed`, once for each transaction."""
        transaction = self._known.get(raw)
        if transaction is not None:
            self._known.move_to_end(raw)
            return transaction
        transaction = open_signed(raw, self._chain, sender)
        self._known[raw] = transaction
        self._room -= len(raw)
        while self._room < 0:
            self._room += len(self._known.popitem(last=False)[0])
        return transaction


class Mempool:
    def __init__(self, chain: bytes, max_waiting: int = MAX_WAITING, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self.verified = Verified(chain)
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._accounts: dict[bytes, dict[int, Waiting]] = {}
        self._sizes: dict[bytes, int] = {}  # account -> bytes of what it has waiting
        self._raws: set[bytes] = set()
        self.bytes = 0  # of what waits

    def __len__(self) -> int:
        return len(self._raws)

    def __contains__(self, raw: bytes) -> bool:
        return raw in self._raws

    def add(self, raw: bytes, transaction: Transaction, next_nonce: int) -> None:
        """Takes a verified transaction of an account whose next nonce is `next_nonce`.

        One that comes later with the same nonce takes the place of the earlier: both are the account's will, and
        a transaction that can never run must not hold its account up. Raises Misuse for what need not be
        sent again, Unavailable when there is no room now.
        """
        if raw in self._raws:
            raise Misuse("the transaction waits already; there is nothing more to do")
        nonce = transaction.nonce
        if nonce < next_nonce:
            raise Misuse(f"nonce {nonce} is used up; the account's next is {next_nonce}: sign it with that")
        if nonce >= next_nonce + MAX_AHEAD:
            raise Unavailable(
                f"nonce {nonce} is too far ahead: the account's next is {next_nonce}, and {MAX_AHEAD} are kept;"
                " send the ones before it first"
            )
        account = transaction.account
        replaced = self.find(account, nonce)
        if replaced is not None:
            self.remove(replaced)
        try:
            self._make_room(account, len(raw))
        except Unavailable:
            if replaced is not None:
                self._keep(replaced)
            raise
        self._keep(Waiting(raw, transaction))

    def _keep(self, waiting: Waiting) -> None:
        account, size = waiting.transaction.account, len(waiting.raw)
        self._accounts.setdefault(account, {})[waiting.transaction.nonce] = waiting
        self._sizes[account] = self._sizes.get(account, 0) + size
        self._raws.add(waiting.raw)
        self.bytes += size

    def _make_room(self, account: bytes, size: int) -> None:
        """For one more of `account`. Raises Unavailable, and changes nothing, unless others have more than it would."""
        own, own_size = len(self._accounts.get(account, ())) + 1, self._sizes.get(account, 0) + size
        gone: list[Waiting] = []
        while len(self._raws) >= self._max_waiting or self.bytes + size > self._max_bytes:
            if len(self._raws) >= self._max_waiting:
                queue = max(self._accounts.values(), key=len, default={})
                has_more = len(queue) > own
            else:
                several = [each for each, queue in self._accounts.items() if len(queue) > 1]
                most = max(several, key=self._sizes.__getitem__, default=account)
                queue = self._accounts.get(most, {})
                has_more = most != account and self._sizes[most] > own_size
            if not has_more:
                for waiting in gone:
                    self._keep(waiting)
                waits = f"{len(self._raws)} transactions wait, {own - 1} of this account"
                raise Unavailable(f"the mempool is full ({waits}); try again", retry_after=1.0)
            gone.append(queue[max(queue)])
            self.remove(gone[-1])

    def remove(self, waiting: Waiting) -> None:
        account = waiting.transaction.account
        queue = self._accounts[account]
        del queue[waiting.transaction.nonce]
        self._sizes[account] -= len(waiting.raw)
        if not queue:
            del self._accounts[account], self._sizes[account]
        self._raws.remove(waiting.raw)
        self.bytes -= len(waiting.raw)

    def find(self, account: bytes, nonce: int) -> Waiting | None:
        return self._accounts.get(account, {}).get(nonce)

    def next_free(self, account: bytes, next_nonce: int) -> int:
        """The first nonce from `next_nonce` on that no waiting transaction of the account has."""
        queue = self._accounts.get(account, {})
        while next_nonce in queue:
            next_nonce += 1
        return next_nonce

    def forget_used(self, next_nonce: Callable[[bytes], int]) -> None:
        """Drops what can never run again, after a block changed the accounts' nonces."""
        for account in list(self._accounts):
            expected = next_nonce(account)
            for nonce in [nonce for nonce in self._accounts[account] if nonce < expected]:
                self.remove(self._accounts[account][nonce])

    def heads(self, next_nonce: Callable[[bytes], int]) -> Iterator[Waiting]:
        """Of each account what has its next nonce."""
        found = (self.find(account, next_nonce(account)) for account in self._accounts)
        return (waiting for waiting in found if waiting is not None)

    def in_turn(self, next_nonce: Callable[[bytes], int]) -> Iterator[Waiting]:
        """What can run by its nonce; one of each account in turn, so that none crowds out the others."""
        turns = [(account, next_nonce(account)) for account in self._accounts]
        while turns:
            still = []
            for account, nonce in turns:
                if waiting := self.find(account, nonce):
                    yield waiting
                    still.append((account, nonce + 1))
            turns = still

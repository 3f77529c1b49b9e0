"""The mempool under random offers and blocks, against a naive model; and broken ones, which this finds."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ledger.chain import Chain
from ledger.contracts import accounts
from ledger.errors import Misuse, Unavailable
from ledger.mempool import MAX_AHEAD, Mempool, Waiting
from ledger.transaction import Transaction
from tests.helpers.founders import call, decide, genesis, identity

CHAIN = bytes(32)
ACCOUNTS = [bytes([number]) * 32 for number in range(5)]
LARGEST = 124  # bytes
QUICK = settings(
    derandomize=True, database=None, deadline=None, max_examples=30, stateful_step_count=40,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONG = settings(QUICK, max_examples=200, stateful_step_count=60)


class Pool(RuleBasedStateMachine):
    kind: ClassVar[type[Mempool]] = Mempool

    @initialize(waiting=st.sampled_from([3, 8, 200]), size=st.sampled_from([300, 1000, 10**6]))
    def start(self, waiting: int, size: int) -> None:
        self.max_waiting, self.max_bytes = waiting, size
        self.pool = self.kind(CHAIN, waiting, size)
        self.model: dict[bytes, dict[int, bytes]] = {account: {} for account in ACCOUNTS}
        self.next = dict.fromkeys(ACCOUNTS, 0)
        self.number = 0

    def count(self, account: bytes) -> int:
        return len(self.model[account])

    def size(self, account: bytes) -> int:
        return sum(map(len, self.model[account].values()))

    @rule(
        account=st.sampled_from(ACCOUNTS),
        ahead=st.one_of(st.integers(-1, 6), st.sampled_from([MAX_AHEAD - 1, MAX_AHEAD])),
        size=st.integers(4, LARGEST - 4),
    )
    def offer(self, account: bytes, ahead: int, size: int) -> None:
        self.number += 1
        self._offer(account, max(0, self.next[account] + ahead), self.number.to_bytes(4, "big") + bytes(size))

    @rule(account=st.sampled_from(ACCOUNTS), first=st.integers(0, 1), count=st.integers(2, 60), size=st.integers(4, 60))
    def flood(self, account: bytes, first: int, count: int, size: int) -> None:
        """Without the first one none of them can run."""
        for ahead in range(first, count):
            self.offer(account, ahead, size)

    @rule(account=st.sampled_from(ACCOUNTS), which=st.integers(0, 200))
    def again(self, account: bytes, which: int) -> None:
        waiting = sorted(self.model[account].items())
        if waiting:
            nonce, raw = waiting[which % len(waiting)]
            with pytest.raises(Misuse, match="waits already"):
                self.pool.add(raw, transaction(account, nonce), self.next[account])

    def _offer(self, account: bytes, nonce: int, raw: bytes) -> None:
        expected = self.next[account]
        mine = {other: content for other, content in self.model[account].items() if other != nonce}
        try:
            self.pool.add(raw, transaction(account, nonce), expected)
        except Misuse as refusal:
            assert nonce < expected and "used up" in str(refusal)
        except Unavailable as refusal:
            if nonce >= expected + MAX_AHEAD:
                assert "too far ahead" in str(refusal)
                return
            assert "is full" in str(refusal) and refusal.retry_after
            self._nobody_had_more(account, len(mine) + 1, sum(map(len, mine.values())) + len(raw))
        else:
            assert expected <= nonce < expected + MAX_AHEAD
            self.model[account] = {**mine, nonce: raw}
            self._somebody_gave_way(account)

    def _nobody_had_more(self, account: bytes, count: int, size: int) -> None:
        """It is kept out for want of room, and by none that has much more."""
        others = [other for other in ACCOUNTS if other != account]
        too_many = sum(map(self.count, others)) + count > self.max_waiting
        too_large = sum(map(self.size, others)) + size > self.max_bytes
        assert too_many or too_large
        if not too_large:
            assert all(self.count(other) <= count for other in others), "kept out by one that has more"
        if not too_many:
            several = [other for other in others if self.count(other) > 1]
            assert all(self.size(other) <= size + LARGEST for other in several), "kept out by one that has more"

    def _somebody_gave_way(self, account: bytes) -> None:
        """Only as many as was needed, of those who had more, and their last nonces."""
        lost = False
        for other in ACCOUNTS:
            kept = {nonce: raw for nonce, raw in self.model[other].items() if raw in self.pool}
            gone = self.model[other].keys() - kept.keys()
            if gone:
                lost = True
                assert other != account and kept
                assert all(nonce < each for nonce in kept for each in gone)
                last = len(self.model[other][min(gone)])
                fewer = len(kept) + 1 > self.count(account)
                assert fewer or sum(map(len, kept.values())) + last > self.size(account)
                self.model[other] = kept
        if lost:
            total = sum(map(self.size, ACCOUNTS))
            assert len(self.pool) == self.max_waiting or total + 2 * LARGEST > self.max_bytes

    @rule(runs=st.lists(st.integers(0, 4), min_size=5, max_size=5))
    def block(self, runs: list[int]) -> None:
        """The first of each account's turn run; also some that were never here."""
        for account, count in zip(ACCOUNTS, runs, strict=True):
            self.next[account] += count
            self.model[account] = {n: raw for n, raw in self.model[account].items() if n >= self.next[account]}
        self.pool.forget_used(self.next.__getitem__)

    @rule(account=st.sampled_from(ACCOUNTS), which=st.integers(0, 200))
    def drop(self, account: bytes, which: int) -> None:
        waiting = sorted(self.model[account])
        if waiting:
            found = self.pool.find(account, waiting[which % len(waiting)])
            assert found is not None and found.raw == self.model[account].pop(found.transaction.nonce)
            self.pool.remove(found)

    @invariant()
    def it_is_what_was_put_in(self) -> None:
        assert len(self.pool) == sum(map(self.count, ACCOUNTS)) <= self.max_waiting
        assert self.pool.bytes == sum(map(self.size, ACCOUNTS)) <= self.max_bytes
        for account, queue in self.model.items():
            assert len(queue) <= MAX_AHEAD
            assert all(raw in self.pool for raw in queue.values())
            free = self.pool.next_free(account, self.next[account])
            assert free not in queue and all(nonce in queue for nonce in range(self.next[account], free))

    @invariant()
    def turns_are_fair(self) -> None:
        """One of each account that can run, then a second of each that has a second one, and so on."""
        turns = [(each.transaction.account, each.raw) for each in self.pool.in_turn(self.next.__getitem__)]
        place = 0
        for ahead in range(MAX_AHEAD + 1):
            ready = {
                (account, queue[self.next[account] + ahead])
                for account, queue in self.model.items()
                if all(self.next[account] + before in queue for before in range(ahead + 1))
            }
            assert set(turns[place : place + len(ready)]) == ready
            place += len(ready)
            if not ready:
                break
        assert place == len(turns)


def transaction(account: bytes, nonce: int) -> Transaction:
    return Transaction(CHAIN, account, nonce, "accounts", b"")


def test_random_lives_of_a_mempool() -> None:
    run_state_machine_as_test(Pool, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_of_them() -> None:
    run_state_machine_as_test(Pool, settings=LONG)


# Broken ones


class FirstComeFirstServed(Mempool):
    """Whoever came first stays, however much he has."""

    def _make_room(self, account: bytes, size: int) -> None:
        if len(self) >= self._max_waiting or self.bytes + size > self._max_bytes:
            raise Unavailable("the mempool is full", retry_after=1.0)


class Endless(Mempool):
    def _make_room(self, account: bytes, size: int) -> None:
        pass


class PushesOut(Mempool):
    """Whoever comes last stays."""

    def _make_room(self, account: bytes, size: int) -> None:
        while self._raws and (len(self) >= self._max_waiting or self.bytes + size > self._max_bytes):
            queue = next(iter(self._accounts.values()))
            self.remove(queue[max(queue)])


class Forgetful(Mempool):
    """What was replaced still counts."""

    def remove(self, waiting: Waiting) -> None:
        super().remove(waiting)
        self.bytes += len(waiting.raw)


class Greedy(Mempool):
    """One account after the other."""

    def in_turn(self, next_nonce: Callable[[bytes], int]) -> Iterator[Waiting]:
        for account in self._accounts:
            nonce = next_nonce(account)
            while waiting := self.find(account, nonce):
                yield waiting
                nonce += 1


class Gaps(Mempool):
    """Runs what waits for another."""

    def in_turn(self, next_nonce: Callable[[bytes], int]) -> Iterator[Waiting]:
        for queue in self._accounts.values():
            yield queue[min(queue)]


@pytest.mark.parametrize("kind", [FirstComeFirstServed, Endless, PushesOut, Forgetful, Greedy, Gaps])
def test_a_broken_mempool_is_found(kind: type[Mempool]) -> None:
    broken = type("Broken", (Pool,), {"kind": kind})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(broken, settings=QUICK)


ATTACKERS = ("eve", "mallory", "trudy")


def test_who_fills_it_with_what_can_never_run_keeps_nobody_out() -> None:
    """Some accounts send as much as is kept of them, but never the first one: no block would ever make room."""
    chain = Chain(genesis())
    for nonce, name in enumerate(ATTACKERS):
        decide(chain, call(chain.id, "north", nonce, accounts.Create(identity(name).public, 5), "accounts"))
    full = 0
    for name in ATTACKERS:
        for nonce in range(1, MAX_AHEAD):
            try:
                chain.take(call(chain.id, name, nonce, bytes(65_000), "accounts"), "a client")
            except Unavailable:
                full += 1
    assert full > 0 and chain.build(1, "north-1") is None
    payment = accounts.Transfer(identity("eve").public, 1)
    raw = call(chain.id, "north", chain.nonce(identity("north").public), payment, "accounts")
    assert decide(chain, raw).transactions == (raw,)

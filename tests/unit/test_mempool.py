"""The mempool: bounded, verified once, in the order of nonces, with clear refusals."""

from collections.abc import Callable

import pytest

from ledger import mempool
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.mempool import MAX_AHEAD, Mempool, Verified
from ledger.transaction import open_signed
from tests.helpers.founders import call, identity

CHAIN = bytes(32)


def signed(caller: str = "north", nonce: int = 0, content: str = "") -> bytes:
    return call(CHAIN, caller, nonce, content)


def put(pool: Mempool, raw: bytes, expected: int = 0) -> bytes:
    pool.add(raw, pool.verified.open(raw, "a client"), expected)
    return raw


def nonces(**expected: int) -> Callable[[bytes], int]:
    by_key = {identity(name).public: nonce for name, nonce in expected.items()}
    return lambda account: by_key.get(account, 0)


def test_turns_go_by_nonce_and_by_account() -> None:
    pool = Mempool(CHAIN)
    for caller, nonce in (("north", 1), ("north", 0), ("east", 0), ("north", 3), ("east", 1), ("south", 5)):
        put(pool, signed(caller, nonce))
    turns = [(w.transaction.account, w.transaction.nonce) for w in pool.in_turn(nonces())]
    north, east = identity("north").public, identity("east").public
    assert turns == [(north, 0), (east, 0), (north, 1), (east, 1)]
    assert pool.next_free(north, 0) == 2
    assert [w.transaction.nonce for w in pool.in_turn(nonces(north=3, east=2))] == [3]


def test_refusals_say_why() -> None:
    pool = Mempool(CHAIN)
    put(pool, signed())
    with pytest.raises(Misuse, match="waits already"):
        put(pool, signed())
    with pytest.raises(Misuse, match="nonce 4 is used up; the account's next is 5"):
        put(pool, signed(nonce=4), 5)
    put(pool, signed(nonce=MAX_AHEAD - 1))
    with pytest.raises(Unavailable, match="too far ahead"):
        put(pool, signed(nonce=MAX_AHEAD))


def test_full_by_number() -> None:
    pool = Mempool(CHAIN, max_waiting=2)
    put(pool, signed("north"))
    put(pool, signed("east"))
    with pytest.raises(Unavailable, match="full") as refusal:
        put(pool, signed("south"))
    assert refusal.value.retry_after
    put(pool, signed("east", 0, "instead"))  # takes the place of another: no more than before
    assert len(pool) == 2


def test_full_by_bytes_and_freed_again() -> None:
    raw = signed("north", 0, "x" * 100)
    pool = Mempool(CHAIN, max_bytes=len(raw))
    put(pool, raw)
    with pytest.raises(Unavailable, match="full"):
        put(pool, signed("east"))
    pool.forget_used(nonces(north=1))
    assert len(pool) == 0
    put(pool, signed("east"))


def test_the_newest_of_one_nonce_stays() -> None:
    pool = Mempool(CHAIN)
    first = put(pool, signed(content="first"))
    second = put(pool, signed(content="second"))
    assert first not in pool and second in pool
    assert [w.raw for w in pool.in_turn(nonces())] == [second]


def test_what_is_used_up_is_forgotten() -> None:
    pool = Mempool(CHAIN)
    kept = [put(pool, signed("north", nonce)) for nonce in range(3)][2]
    pool.forget_used(nonces(north=2))
    assert [w.raw for w in pool.in_turn(nonces(north=2))] == [kept]


def test_each_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(mempool, "open_signed", lambda *args: opened.append(args[0]) or open_signed(*args))
    verified = Verified(CHAIN)
    raw = signed()
    assert verified.open(raw, "a") == verified.open(raw, "b")
    assert opened == [raw]


def test_a_bad_one_is_never_remembered_as_good() -> None:
    verified = Verified(CHAIN)
    raw = signed()
    verified.open(raw, "a")
    bent = raw[:-1] + bytes([raw[-1] ^ 1])
    for _ in range(2):
        with pytest.raises(PeerFault, match="bad signature"):
            verified.open(bent, "a")


def test_memory_of_verifications_is_bounded() -> None:
    raws = [signed(nonce=nonce) for nonce in range(5)]
    verified = Verified(CHAIN, max_bytes=3 * len(raws[0]))
    for raw in raws:
        verified.open(raw, "a")
    assert list(verified._known) == raws[2:]

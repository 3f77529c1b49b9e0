"""Clause 10, pure: when a primary that decides things is suspected for what it leaves out, and when it must not be."""

from ledger.block import Block
from ledger.chain import MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, Chain
from ledger.consensus.censorship import PASSED, Overlooked
from tests.helpers.founders import call, genesis, revoke

T = 2.0


def told(at: float = 0.0) -> Overlooked:
    """The primary was told of b"t", which had waited."""
    overlooked = Overlooked(T)
    overlooked.led_by(0, "a")
    assert overlooked.look([b"t"]) == []
    assert overlooked.look([b"t"]) == [b"t"]
    overlooked.told([b"t"], at)
    return overlooked


def passed(overlooked: Overlooked, blocks: int = PASSED) -> Overlooked:
    for _ in range(blocks):
        overlooked.passed()
    return overlooked


def test_one_that_is_left_out_of_blocks_with_room_for_long_is_censored() -> None:
    overlooked = passed(told())
    assert not overlooked.is_censored(b"t", T - 0.1)
    assert overlooked.is_censored(b"t", T)
    assert not overlooked.is_censored(b"another", T)


def test_too_few_blocks_with_room_accuse_nobody() -> None:
    assert not passed(told(), PASSED - 1).is_censored(b"t", 100 * T)


def test_blocks_before_the_primary_was_told_do_not_count() -> None:
    overlooked = passed(Overlooked(T))
    overlooked.told([b"t"], 0.0)
    assert not overlooked.is_censored(b"t", T)


def test_telling_it_again_starts_nothing_anew() -> None:
    overlooked = told()
    overlooked.passed()
    overlooked.told([b"t"], T / 2)
    assert passed(overlooked, PASSED - 1).is_censored(b"t", T)


def test_one_that_could_not_run_in_between_starts_anew() -> None:
    overlooked = passed(told())
    overlooked.told([b"u"], T / 2)
    overlooked.told([b"t", b"u"], T)
    assert not overlooked.is_censored(b"t", 2 * T)
    assert not overlooked.is_censored(b"u", 2 * T)


def test_the_next_primary_answers_for_itself_alone() -> None:
    overlooked = passed(told())
    overlooked.led_by(0, "b")  # after a change of members
    assert not overlooked.is_censored(b"t", T)
    overlooked.told([b"t"], T)
    passed(overlooked).led_by(1, "b")
    assert not overlooked.is_censored(b"t", 3 * T)


def test_on_a_busy_chain_only_what_really_waits_is_told() -> None:
    overlooked = Overlooked(T)
    for number in range(10):
        assert overlooked.look([b"%d" % (number * 100 + each) for each in range(100)]) == []


def test_first_in_line_is_what_has_the_next_nonce() -> None:
    chain = Chain(genesis())
    gap, first, second = (
        call(chain.id, "north", 1, revoke("west")),
        *(call(chain.id, "south", nonce, revoke(name)) for nonce, name in enumerate(("west", "east"))),
    )
    for transaction in (gap, second, first):
        chain.take(transaction, "a")
    assert chain.first_in_line() == [first]
    assert chain.can_run(first)


def test_half_a_block_is_room() -> None:
    chain = Chain(genesis())
    few, header = (b"t",) * (MAX_BLOCK_TRANSACTIONS // 2), chain.best.header
    assert chain.has_room(Block(header, few))
    assert not chain.has_room(Block(header, (*few, b"t")))
    assert not chain.has_room(Block(header, (bytes(MAX_BLOCK_BYTES // 2 + 1),)))

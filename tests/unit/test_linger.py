"""Batches by size and delay: a busy chain fills its blocks, and an idle one waits for nothing."""

from ledger.consensus.engine import WakeAt
from ledger.consensus.linger import PAUSE, Linger
from ledger.consensus.messages import Propose
from ledger.consensus.settings import Settings
from ledger.simulation.twins import BLOCK_TRANSACTIONS
from tests.helpers.ipbft_script import Script


def after_a_block(took: float, backlog: float) -> Linger:
    linger = Linger(Settings(linger=0.25))
    linger.proposed(10.0)
    linger.decided(10.0 + took, backlog)
    return linger


def test_little_that_waits_is_proposed_at_once() -> None:
    assert after_a_block(took=0.1, backlog=0.1).until is None


def test_a_full_block_is_proposed_at_once() -> None:
    assert after_a_block(took=0.1, backlog=1.0).until is None
    linger = after_a_block(took=0.1, backlog=0.5)
    assert linger.until is not None
    linger.came(10.105, backlog=1.0)
    assert linger.until is None


def test_it_waits_while_more_comes_and_no_longer_than_the_last_block_took() -> None:
    linger = after_a_block(took=0.1, backlog=0.5)
    assert linger.until == 10.1 + PAUSE
    linger.came(10.11, backlog=0.6)
    assert linger.until == 10.11 + PAUSE
    for moment in range(12, 20):
        linger.came(10 + moment / 100, backlog=0.7)
    assert linger.until == 10.2
    linger.tick(10.19)
    assert linger.until is not None
    linger.tick(10.2)
    assert linger.until is None


def test_it_never_waits_longer_than_the_setting() -> None:
    linger = after_a_block(took=9.0, backlog=0.5)
    for moment in range(100):
        linger.came(19.0 + moment / 100, backlog=0.5)
    assert linger.until == 19.25


def busy() -> Script:
    """Block 1 took 100 ms, and half a block waits at the primary."""
    script = Script(4)
    script.tell(b"first", "a")
    for number in range(BLOCK_TRANSACTIONS // 2):
        script.tell(b"%d" % number, "a")
    script.now += 0.1
    script.settle("abcd")
    assert script.height("a") == 1
    return script


def test_a_busy_primary_lets_the_block_fill_and_is_woken() -> None:
    script = busy()
    assert not script.waiting(Propose)
    assert script.nodes["a"].wake == script.now + PAUSE
    script.wait(PAUSE, "a")
    (proposal, *_) = script.waiting(Propose)
    assert len(proposal.content.block.transactions) == BLOCK_TRANSACTIONS // 2


def test_a_block_that_is_full_leaves_before_the_time() -> None:
    script = busy()
    for number in range(BLOCK_TRANSACTIONS // 2):
        assert not script.waiting(Propose)
        script.tell(b"more %d" % number, "a")
    (proposal, *_) = script.waiting(Propose)
    assert len(proposal.content.block.transactions) == BLOCK_TRANSACTIONS


def test_one_who_lingers_and_leads_no_more_is_not_woken_for_ever() -> None:
    script = busy()
    script.wait(PAUSE, "a")
    script.drop()
    effects = script.nodes["a"].engine.tick(script.now, script.wall)
    assert all(effect.time > script.now for effect in effects if isinstance(effect, WakeAt))


def test_a_single_transaction_on_an_idle_chain_is_proposed_in_the_same_step() -> None:
    script = Script(4)
    for number in range(3):
        script.tell(b"%d" % number, "a")
        assert script.waiting(Propose)
        script.settle("abcd")

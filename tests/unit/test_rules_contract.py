"""Upgrades of the rules: by vote, at a height, and nobody follows rules that it does not know."""

import msgspec
import pytest

from ledger import contracts
from ledger.block import Block
from ledger.chain import Chain, UnknownRules, founding_state
from ledger.contracts import rules
from ledger.contracts.rules import MAX_NOTICE, VoteRules
from ledger.contracts.state import Overlay
from ledger.errors import Misuse
from tests.helpers.founders import NAMES, act, call, certify, decide, genesis, join, revoke, vote


def start() -> Overlay:
    return Overlay(founding_state(genesis(4)))


def to(version: int = 2, height: int = 20, reason: str = "larger blocks") -> VoteRules:
    return VoteRules(version, height, reason)


def test_more_than_two_thirds_upgrade_at_the_stated_height() -> None:
    state = start()
    for voter in NAMES[:3]:
        assert rules.rules(state).upcoming is None
        act(state, voter, "rules", to(), 10)
    upcoming = rules.rules(state).upcoming
    assert upcoming is not None and (upcoming.version, upcoming.height, len(upcoming.votes)) == (2, 20, 3)
    for height in range(10, 19):
        contracts.end_block(state, height)
        assert rules.rules(state).version == 1
    contracts.end_block(state, 19)
    assert rules.rules(state) == rules.Rules(2, None)


@pytest.mark.parametrize(
    ("caller", "action", "message"),
    [
        ("north-1", to(), "only the key of a trusted organisation"),
        ("north", to(version=1), "a later one"),
        ("north", to(version=0), "a later one"),
        ("north", to(height=11), "name a later height"),
        ("north", to(height=5), "name a later height"),
        ("north", to(height=11 + MAX_NOTICE), "name a later height"),
        ("north", to(reason=" "), "gives its reason"),
    ],
)
def test_votes_that_are_refused(caller: str, action: VoteRules, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        act(start(), caller, "rules", action, 10)


def test_other_heights_are_other_proposals_and_a_vote_counts_once() -> None:
    state = start()
    act(state, "north", "rules", to(), 10)
    with pytest.raises(Misuse, match="voted on this already"):
        act(state, "north", "rules", to(reason="again"), 10)
    act(state, "east", "rules", to(height=21), 10)
    act(state, "south", "rules", to(), 10)
    assert rules.rules(state).upcoming is None


def test_votes_do_not_outlive_the_consortium_that_gave_them() -> None:
    state = start()
    act(state, "west", "rules", to(), 10)
    act(state, "east", "rules", to(), 10)
    for voter in NAMES[:3]:
        act(state, voter, "trust", revoke("west"), 10)
    act(state, "north", "rules", to(), 10)
    assert rules.rules(state).upcoming is None


def upgrading(chain: Chain) -> list[Block]:
    """Block 1 decides that version 2 holds from height 3 on."""
    votes = [call(chain.id, voter, 0, to(height=3), "rules") for voter in NAMES[:3]]
    return [decide(chain, *votes), vote(chain, ("north",), join("upper"))]


def test_who_knows_the_new_rules_goes_on_and_its_headers_say_so() -> None:
    chain = Chain(genesis(), known_rules=(1, 2))
    blocks = [*upgrading(chain), vote(chain, ("east",), join("upper"))]
    assert [block.header.rules for block in blocks] == [1, 1, 2]


def test_who_does_not_stops_before_that_height_and_does_not_fork() -> None:
    old, new = Chain(genesis()), Chain(genesis(), known_rules=(1, 2))
    for block in upgrading(new):
        assert old.check(block) is None
        old.append(block, certify(block, old.members()))
    third = vote(new, ("east",), join("upper"))
    old.take(call(old.id, "west", 0, join("lower")), "a")
    assert old.build(10**13, "north-1") is None
    assert "does not know" in str(old.check(third))
    with pytest.raises(UnknownRules, match="from height 3 on the chain has rules of version 2; this software knows 1"):
        old.append(third, certify(third, old.members()))
    assert old.best.header.height == 2


@pytest.mark.parametrize("height", [1, 2])
def test_a_primary_cannot_change_the_rules_by_a_header_of_its_own(height: int) -> None:
    chain = Chain(genesis(), known_rules=(1, 2))
    if height == 2:
        decide(chain, *(call(chain.id, voter, 0, to(height=3), "rules") for voter in NAMES[:3]))
    chain.take(call(chain.id, "west", 0, join("upper")), "a")
    block = chain.build(10**13, "north-1")
    assert block is not None
    bent = Block(msgspec.structs.replace(block.header, rules=2), block.transactions)
    assert "rules does not follow" in str(chain.check(bent))

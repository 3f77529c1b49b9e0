"""Each story ends well with the whole rule, and forks with the clause that it is about left out."""

from collections.abc import Callable

import pytest

from ledger.consensus.ipbft.messages import Vote
from ledger.simulation import Mutant
from tests.helpers import ipbft_stories as stories
from tests.helpers.ipbft_mutants import mutant
from tests.helpers.ipbft_script import Script

Story = Callable[[Mutant], Script]

BREAKS: list[tuple[Story, str]] = [
    (stories.carried, "certificates-not-carried"),
    (stories.carried, "cleared-by-clock"),
    (stories.carried_across_restarts, "forgotten-certificate"),
    (stories.synchronised_first, "no-sync"),
    (stories.highest_view_wins, "any-certificate-chosen"),
    (stories.recomputed_by_followers, "choice-not-recomputed"),
    (stories.forged_certificate_refused, "certificates-not-verified"),
    (stories.left_for_good, "view-goes-back"),
    (stories.no_block_without_certificate, "sync-without-certificates"),
]


@pytest.mark.parametrize(("story", "name"), BREAKS, ids=[name for _, name in BREAKS])
def test_the_mutant_is_caught(story: Story, name: str) -> None:
    with mutant(name) as broken:
        assert story(broken).checker.faults


def test_no_vote_in_a_view_that_was_left() -> None:
    script = stories.left_for_good(Mutant())
    assert script.checker.faults == []
    assert not [letter for letter in script.waiting(Vote) if letter.sender == "c"]


@pytest.mark.parametrize("story", [stories.carried, stories.carried_across_restarts, stories.synchronised_first])
def test_the_others_come_to_the_block_that_one_decided(story: Story) -> None:
    script = story(Mutant())
    assert script.checker.faults == []
    assert [script.decided(host)[0] for host in "abcd"] == [(b"one",)] * 4


def test_the_certificate_of_the_highest_view_is_chosen() -> None:
    script = stories.highest_view_wins(Mutant())
    assert script.checker.faults == []
    assert [script.decided(host)[0] for host in "abcd"] == [(b"two",)] * 4


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (stories.recomputed_by_followers, "b: sent a NEW-VIEW with another choice"),
        (stories.forged_certificate_refused, "d: sent a false certificate"),
        (stories.no_block_without_certificate, "d: sent a false certificate"),
    ],
)
def test_the_liar_is_blamed_and_nothing_is_decided(story: Story, reason: str) -> None:
    script = story(Mutant())
    assert script.checker.faults == []
    assert any(reason in blame for blame in script.blamed)
    assert [script.height(host) for host in "bcd"] == [0, 0, 0]

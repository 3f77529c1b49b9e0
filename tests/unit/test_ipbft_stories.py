"""Each story ends well with the whole rule, and forks with the clause that it is about left out."""

import pytest

from ledger.consensus.ipbft.messages import Vote
from ledger.simulation import Mutant
from tests.helpers import ipbft_stories as stories
from tests.helpers.ipbft_mutants import mutant


@pytest.mark.parametrize("name", stories.STORIES)
def test_the_mutant_is_caught(name: str) -> None:
    with mutant(name) as broken:
        assert stories.STORIES[name](broken).checker.faults


def test_no_vote_in_a_view_that_was_left() -> None:
    script = stories.left_for_good(Mutant())
    assert script.checker.faults == []
    assert not [letter for letter in script.waiting(Vote) if letter.sender == "c"]


@pytest.mark.parametrize("story", [stories.carried, stories.carried_across_restarts, stories.synchronised_first])
def test_the_others_come_to_the_block_that_one_decided(story: stories.Story) -> None:
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
def test_the_liar_is_blamed_and_nothing_is_decided(story: stories.Story, reason: str) -> None:
    script = story(Mutant())
    assert script.checker.faults == []
    assert any(reason in blame for blame in script.blamed)
    assert [script.height(host) for host in "bcd"] == [0, 0, 0]

"""Each story ends well with the whole rule, and forks with the clause that it is about left out."""

from pathlib import Path

import pytest

from ledger.certificate import COMMIT, PREPARE
from ledger.consensus.messages import ChangeView, Propose, Vote
from ledger.simulation import Mutant
from tests.helpers import ipbft_stories as stories
from tests.helpers import ipbft_vote_stories as votes
from tests.helpers.ipbft_killed import KILLED
from tests.helpers.ipbft_mutants import MUTANTS, mutant
from tests.helpers.ipbft_script import Script


def test_every_mutant_has_a_story_of_its_own() -> None:
    assert KILLED.keys() == MUTANTS.keys()
    assert len({killed.story for killed in KILLED.values()}) == len(KILLED)


def test_the_page_of_tests_tells_the_same() -> None:
    rows = (Path(__file__).parents[2] / "docs/ledger-tests.md").read_text(encoding="utf-8").splitlines()
    for killed in KILLED.values():
        (row,) = [row for row in rows if row.split("|")[2:3] == [f" `{killed.story.__name__}` "]]
        said = [killed.search.adversary, killed.search.weather, f"{killed.search.seeds:,}"]
        assert row.split("|")[3].strip() == ", ".join(word for word in said if word), row


@pytest.mark.parametrize("name", KILLED)
def test_the_mutant_is_caught(name: str) -> None:
    with mutant(name) as broken:
        script = KILLED[name].story(broken)
    assert any(KILLED[name].shows in fault for fault in script.checker.faults), "\n".join(script.transcript)


@pytest.mark.parametrize("name", KILLED)
def test_the_whole_rule_survives_the_story(name: str) -> None:
    script = KILLED[name].story(Mutant())
    assert script.checker.faults == [], "\n".join(script.transcript)


def test_a_story_can_be_read() -> None:
    script = stories.carried(Mutant())
    one = next(line for line in script.transcript if "proposes" in line).split()[-5]
    assert f"a decides block 1 {one} ['one']" in script.transcript
    assert f"b -> c: asks for view 1: has decided up to 0, and prepared {one} of view 0" in script.transcript
    assert f"b -> c: opens view 1 above height 0: forced is {one}" in script.transcript
    assert script.transcript.index("a crashes") < script.transcript.index(f"c decides block 1 {one} ['one']")


def test_no_vote_in_a_view_that_was_left() -> None:
    script = stories.left_for_good(Mutant())
    assert script.checker.faults == []
    assert not [letter for letter in script.waiting(Vote) if letter.sender == "c"]


@pytest.mark.parametrize(
    "story",
    [
        stories.carried,
        stories.carried_across_restarts,
        stories.synchronised_first,
        votes.kept_while_time_passes,
        votes.kept_whatever_the_date_of_a_message,
    ],
)
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


def test_a_member_that_is_voted_out_follows_but_no_longer_counts() -> None:
    script = Script(5)
    script.tell(b"members a b c d", "a")
    script.settle("abcde")
    script.crash("b")
    script.tell(b"one", "a")
    script.settle("acde")  # four members, one down: e is not needed, and gives no vote
    assert script.decided("d")[1] == (b"one",)
    assert not any(host == "e" for host, _ in script.nodes["d"].disk.blocks[1][1].signatures)
    script.crash("d")
    script.tell(b"two", "a")
    script.settle("ace")
    script.wait(1, "e")
    script.settle("ace")
    assert script.height("a") == script.height("e") == 2  # two of four decide nothing, and e follows
    assert script.checker.faults == script.blamed == []


def test_one_that_was_away_while_the_members_changed_verifies_each_block_with_its_own() -> None:
    script = Script(5)
    script.crash("e")
    for transaction in (b"one", b"members d c b a", b"two", b"members a b c d e", b"three"):
        script.tell(transaction, "a", "b", "c", "d")
        script.settle("abcd")
        script.wait(1, "a", "b", "c", "d")
        script.settle("abcd")
    assert script.height("a") == 5
    script.boot("e")
    for _ in range(3):
        script.settle("abcde")
        script.wait(1, "e")
    assert script.decided("e") == script.decided("a")
    assert script.checker.faults == script.blamed == []


def test_a_view_change_spans_a_change_of_the_members() -> None:
    script = Script(5)
    script.tell(b"members a b c d", "a")
    script.deliver(Propose, to="bcd")
    script.deliver(Vote, to="abcd", vote=PREPARE)
    script.deliver(Vote, to="a", vote=COMMIT)  # a alone knows that e is out
    script.drop()
    assert script.height("a") == 1
    script.crash("a")
    script.tell(b"one", "b", "c", "d", "e")
    for _ in range(6):
        stories.suspect(script, "b", "c", "d", "e")
        script.settle("bcde")
    assert script.decided("c")[:2] == [(b"members a b c d",), (b"one",)]
    script.boot("a")
    script.settle("abcde")
    script.wait(2, "a")
    script.settle("abcde")
    assert script.decided("a") == script.decided("c") == script.decided("e")
    assert script.checker.faults == script.blamed == []


def test_a_view_change_signed_before_its_host_rotated_its_key_frames_nobody() -> None:
    script = Script(4)
    script.tell(b"members a b=b2 c d", "a", "b")
    stories.suspect(script, "b")
    late = next(letter for letter in script.waiting(ChangeView) if letter.to == "d")
    script.deliver(ChangeView, to="c")
    script.settle("acd")
    assert [script.height(host) for host in "acd"] == [1, 1, 1]
    assert script.nodes["c"].engine._at.changes.of("b") is None  # who leads next must not rest on it
    script.hand("b", "d", late.content)
    script.tell(b"one", "a", "c", "d")
    for _ in range(3):
        script.wait(3, *"abcd")
        script.settle("abcd")
    script.boot("b")  # with its new key
    script.crash("a")
    script.tell(b"two", "b", "c", "d")
    for _ in range(4):
        stories.suspect(script, *"bcd")
        script.settle("bcd")  # all three are needed
    assert script.decided("b")[1:] == [(b"one",), (b"two",)]
    assert script.checker.faults == script.blamed == []

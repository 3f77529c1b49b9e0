"""When a member votes that an agent gets a new home, for whom, and when it takes that back."""

from collections.abc import Callable
from random import Random

import pytest

from agentplatform.custody import votes
from agentplatform.custody.votes import REGRET, REPORT_LIFE, Case, Cast, Withdraw
from ledger.contracts.residence import Residence, Vote

MEMBERS = ("north", "east", "south", "west")
THERE = Residence(b"", 3, "north", ("east", "south"), 7)
UP = {"east", "south", "west"}


def look(case: Case, now: float, **other: object) -> Cast | Withdraw | None:
    given: dict[str, object] = {"host": "west", "there": THERE, "wait": 0.0, "votes": (), "up": UP} | other
    return votes.look(case, now, **given)  # type: ignore[arg-type]


def test_it_waits_until_its_own_last_heartbeat_is_over() -> None:
    case = Case(0.0)
    assert look(case, 0.0, wait=0.1) is None
    assert look(case, 0.1) == Cast("east")


def test_a_report_is_needed_and_grows_old() -> None:
    assert look(Case(0.0), REPORT_LIFE + 0.1) is None


def test_the_first_holder_that_it_reaches_is_voted_for() -> None:
    assert look(Case(0.0), 0.0, up={"south"}) == Cast("south")
    assert look(Case(0.0), 0.0, up=()) is None
    assert look(Case(0.0), 0.0, host="south", up=()) == Cast("south")  # itself


def test_a_closed_holder_is_not_voted_for_whatever_others_did() -> None:
    assert look(Case(0.0), 0.0, closed={"east": "being drained"}) == Cast("south")
    cast = (Vote("south", "east", 8),)
    assert look(Case(0.0), 0.0, votes=cast, closed={"east"}) == Cast("south")
    assert look(Case(0.0), 0.0, closed={"east", "south"}) is None


def test_the_one_with_the_most_votes_comes_before_the_first() -> None:
    cast = (Vote("south", "south", 8), Vote("east", "south", 8), Vote("north", "east", 8))
    assert look(Case(0.0), 0.0, votes=cast) == Cast("south")


def test_a_vote_is_not_repeated_and_the_next_one_comes_later() -> None:
    case = Case(0.0)
    assert look(case, 0.0) == Cast("east")
    mine = (Vote("west", "east", 8),)
    assert look(case, 1.0) is None  # too soon
    case.reported = 4.0
    assert look(case, 4.0, votes=mine) is None  # it stands


def test_a_vote_against_a_host_that_is_back_is_taken_back() -> None:
    case, mine = Case(0.0), (Vote("west", "east", 8),)
    assert look(case, 0.0) == Cast("east")
    assert look(case, 3.0, votes=mine, up={*UP, "north"}) is None
    assert look(case, 3.0 + REGRET + 2.0, votes=mine, up={*UP, "north"}) == Withdraw(4)


def test_a_linked_host_that_is_silent_is_voted_on_and_the_vote_has_its_time() -> None:
    case = Case(0.0)
    assert look(case, 0.0, up={*UP, "north"}) == Cast("east")
    case.reported = 2.5
    assert look(case, 2.5, votes=(Vote("west", "east", 8),), up={*UP, "north"}) is None


def test_a_new_epoch_is_a_new_case() -> None:
    case = Case(0.0)
    assert look(case, 0.0) == Cast("east")
    after = Residence(b"", 4, "east", ("south",), 9)
    assert look(case, 0.1, there=after, up={"south"}) == Cast("south")


@pytest.mark.parametrize(
    ("there", "over"), [(None, True), (Residence(b"", 4, "", (), 9), True), (Residence(b"", 4, "west", (), 9), True)]
)
def test_it_is_over_when_the_agent_ended_or_is_here(there: Residence | None, over: bool) -> None:
    assert votes.over(Case(0.0), 0.0, "west", there, ()) is over


def test_a_member_that_voted_does_not_forget_it_with_the_last_report() -> None:
    mine = (Vote("west", "east", 8),)
    assert not votes.over(Case(0.0), 100.0, "west", THERE, mine)
    assert votes.over(Case(0.0), 100.0, "west", THERE, ())


# Members that do not see the same hosts

Rule = Callable[..., str | None]


def rounds(random: Random, rule: Rule) -> int:
    """After how many rounds of votes three of four members agree. Each reaches at least one holder; each sees some of
    the votes that were cast in this round, and all of the last one."""
    holders = ("a", "b", "c")
    sights = {member: set(random.sample(holders, random.choice([1, 1, 2, 3]))) for member in MEMBERS[1:]}
    standing: dict[str, Vote] = {}
    for attempt in range(12):
        seen = tuple(standing.values())
        for member in random.sample(MEMBERS[1:], 3):
            sight = tuple(standing.values()) if random.random() < 0.3 else seen
            chosen = rule(holders, sights[member], sight, attempt)
            if chosen is not None:
                standing[member] = Vote(member, chosen, attempt)
        if len(standing) == 3 and len({vote.destination for vote in standing.values()}) == 1:
            return attempt + 1
    raise AssertionError("they never agree")


def test_members_with_different_sights_agree_soon() -> None:
    assert max(rounds(Random(seed), votes.destination) for seed in range(500)) <= 6  # noqa: S311


def test_members_that_always_insist_on_their_own_sight_are_caught() -> None:
    def stubborn(holders: tuple[str, ...], up: set[str], cast: tuple[Vote, ...], attempt: int) -> str | None:
        return votes.destination(holders, up, cast, 0)

    with pytest.raises(AssertionError, match="never agree"):
        for seed in range(500):
            rounds(Random(seed), stubborn)  # noqa: S311

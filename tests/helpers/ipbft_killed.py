"""Every mutant of the rule with what kills it: a story of its own, and a search through random lives.

The clauses marked [M] in the rule are these; without any one of them the chain forks, or a host signs what it must not.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ledger.simulation import Mutant, Result, run
from tests.helpers import ipbft_stories as stories
from tests.helpers import ipbft_vote_stories as votes
from tests.helpers.ipbft_stories import Story

FORK = "decided another block"
PATIENCE = 20.0  # simulated seconds: what forks has mostly done it before, and a stall is not looked for
UNPROVEN = "with a bad certificate"
TWICE = "signs twice"
LEFT = "which it has left"


class Search(NamedTuple):
    """Lives of `members`, with seeds from 0 on. Each mutant needs its weather: votes lost, hosts that die at a bad
    moment, links that come and go (ledger.simulation.faults), and maybe a liar (ledger.simulation.byzantine)."""

    seeds: int  # the budget: many times what it takes today
    shows: str  # what a fault says that this mutant brings about
    adversary: str | None = None
    weather: str = "storm"
    members: int = 4
    quick: bool = False  # dies within a second or so: `make test` searches too

    def lives(self, mutant: Mutant, first: int = 0) -> Iterator[Result]:
        """The lives up to the one in which it shows; without end if it never does."""
        for seed in range(first, first + self.seeds):
            result = run(seed, self.members, mutant, self.adversary, self.weather, PATIENCE)
            yield result
            if any(self.shows in fault for fault in result.faults):
                return


class Killed(NamedTuple):
    story: Story
    search: Search
    shows: str = FORK  # in the story


KILLED: dict[str, Killed] = {
    # clause 1
    "quorum-2f+1": Killed(votes.two_quorums_share_an_honest_host, Search(300, FORK, "equivocator", members=5)),
    "signer-counted-twice": Killed(votes.nobody_counts_twice, Search(100, FORK, "equivocator", quick=True)),
    # clause 2
    "forgotten-votes": Killed(votes.votes_outlive_a_restart, Search(100, TWICE, weather="brownouts", quick=True)),
    "forgotten-certificate": Killed(stories.carried_across_restarts, Search(300, FORK, weather="squalls")),
    "forgotten-view": Killed(votes.views_outlive_a_restart, Search(100, LEFT, weather="brownouts", quick=True)),
    # clause 3
    "decided-on-a-word": Killed(votes.no_peer_is_believed, Search(100, FORK, "equivocator")),
    # clause 4
    "cleared-by-clock": Killed(votes.kept_while_time_passes, Search(400, FORK, weather="squalls")),
    "cleared-by-message-time": Killed(
        votes.kept_whatever_the_date_of_a_message, Search(600, FORK, "late-dater", "squalls")
    ),
    # clause 5
    "view-goes-back": Killed(stories.left_for_good, Search(100, LEFT, quick=True), LEFT),
    "view-goes-back-catching-up": Killed(votes.left_for_good_while_catching_up, Search(100, LEFT, quick=True)),
    # clause 6
    "certificates-not-carried": Killed(stories.carried, Search(200, FORK, weather="squalls", quick=True)),
    # clause 7
    "no-sync": Killed(stories.synchronised_first, Search(400, FORK, "impostor")),
    "sync-without-certificates": Killed(
        stories.no_block_without_certificate, Search(100, UNPROVEN, "impostor", quick=True)
    ),
    "any-certificate-chosen": Killed(stories.highest_view_wins, Search(1500, FORK, "forgetter", "squalls")),
    "certificates-not-verified": Killed(stories.forged_certificate_refused, Search(400, FORK, "forger")),
    # clause 8
    "choice-not-recomputed": Killed(stories.recomputed_by_followers, Search(600, FORK, "usurper")),
}

"""Clause 9: what two statements of one member are evidence, that anybody can check; and what is none."""

import msgspec

from ledger import codec
from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN, Certificate
from ledger.consensus.engine import Accuse, Effect
from ledger.consensus.ipbft.view_change import VIEW_CHANGE_DOMAIN, ViewChange
from ledger.consensus.messages import NEW_VIEW_DOMAIN, Blocks, ChangeView, EnterView, NewView, Propose, Vote
from ledger.evidence import Evidence
from ledger.simulation.twins import fast_verify
from tests.helpers.ipbft_handmade import fresh_block, sign, view_change, vote
from tests.helpers.ipbft_script import Script
from tests.helpers.ipbft_stories import suspect


class Court(Script):
    """Keeps every accusation as evidence, and checks it as a stranger would."""

    def __init__(self, n: int = 4) -> None:
        self.evidence: list[Evidence] = []
        super().__init__(n)

    def perform(self, host: str, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Accuse):
                found = Evidence(effect.host, effect.domain, effect.first, effect.second)
                found.check(self.nodes[host].chain.best.header.chain, lambda _: self.members, fast_verify)
                self.evidence.append(found)
        super().perform(host, effects)


def without_a(court: Court) -> dict[str, ChangeView]:
    """a is down; what b, c and d send when they ask for view 1."""
    court.crash("a")
    court.tell(b"one", "b", "c", "d")
    suspect(court, "b", "c", "d")
    asked = {letter.sender: letter.content for letter in court.waiting(ChangeView)}
    court.drop()
    return asked


def new_view(court: Court, asked: dict[str, ChangeView], order: str, **changes: object) -> EnterView:
    """Of b for view 1; it rests on the same VIEW-CHANGEs in this order."""
    chain = court.nodes["b"].chain.best.header.chain
    good = NewView(chain, 0, 1, "b", 0, (), tuple(asked[host].signed for host in order))
    return EnterView(sign("b", NEW_VIEW_DOMAIN, msgspec.structs.replace(good, **changes)))


def test_two_new_views_of_one_primary_for_one_view_are_evidence() -> None:
    court = Court()
    asked = without_a(court)
    first, second = new_view(court, asked, "bcd"), new_view(court, asked, "dcb")
    court.hand("b", "c", first)
    court.hand("b", "d", second)
    assert court.evidence == []
    court.hand("d", "c", second)  # anybody may pass it on
    assert [(each.host, each.domain) for each in court.evidence] == [("b", NEW_VIEW_DOMAIN)]


def test_they_exclude_each_other_though_they_start_from_different_heights() -> None:
    """An honest primary enters a view once, wherever it stands then."""
    court = Court()
    asked = without_a(court)
    low = new_view(court, asked, "bcd").signed
    high = new_view(court, asked, "bcd", height=7, members_version=0).signed
    assert Evidence("b", NEW_VIEW_DOMAIN, low, high).place().view == 1


def test_a_new_view_that_is_sent_again_or_is_for_another_view_is_none() -> None:
    court = Court()
    asked = without_a(court)
    first = new_view(court, asked, "bcd")
    court.hand("b", "c", first)
    court.hand("b", "c", first)
    court.hand("d", "c", first)
    court.hand("b", "c", new_view(court, asked, "dcb", view=0))
    assert court.evidence == []
    assert court.blamed == []


def test_a_new_view_that_nobody_could_check_is_none() -> None:
    """It would stand among the evidence and make all of it look false."""
    court = Court()
    asked = without_a(court)
    court.hand("b", "c", new_view(court, asked, "bcd"))
    for lie in ({"members_version": 7}, {"height": 7}):
        court.hand("b", "c", new_view(court, asked, "dcb", **lie))
    assert court.evidence == []


def test_two_view_changes_for_one_view_from_one_height_are_evidence() -> None:
    court = Court()
    block = fresh_block(court, b"one", "a")
    votes = [(host, vote(court, host, PREPARE, 0, block)) for host in "abc"]
    prepared = Certificate(votes[0][1].ballot, tuple((host, each.signature) for host, each in votes))
    court.hand("c", "b", view_change(court, "c", 1, prepared, block))
    court.hand("c", "b", view_change(court, "c", 1, prepared, block))
    assert court.evidence == []
    court.hand("c", "b", view_change(court, "c", 1))
    assert [(each.host, each.domain) for each in court.evidence] == [("c", VIEW_CHANGE_DOMAIN)]


def test_a_view_change_with_a_false_version_is_none() -> None:
    court = Court()
    good = view_change(court, "c", 1)
    court.hand("c", "b", good)
    change = codec.decode(good.signed.body, ViewChange)
    lie = sign("c", VIEW_CHANGE_DOMAIN, msgspec.structs.replace(change, members_version=7))
    court.hand("c", "b", ChangeView(lie, None))
    assert court.evidence == []


def test_a_view_change_that_shows_a_later_block_is_none() -> None:
    court = Court()
    court.tell(b"of c alone", "c")
    suspect(court, "c")
    (asked, *_) = [letter.content for letter in court.waiting(ChangeView) if letter.to == "d"]
    court.hand("c", "d", asked)
    court.drop()
    court.tell(b"one", "a")
    court.settle("abd")
    for _ in range(3):
        court.wait(3, "a", "c")
        court.settle("abc")
    court.wait(3, "c")
    again = [letter.content for letter in court.waiting(ChangeView) if letter.to == "d"][-1]
    assert again != asked
    court.hand("c", "d", again)
    assert court.evidence == []
    assert court.checker.faults == court.blamed == []


def test_two_votes_are_evidence_and_two_proposals_are_none() -> None:
    court = Court()
    for text in (b"one", b"two"):
        court.hand("a", "b", Propose(0, fresh_block(court, text, "a")))
    assert court.evidence == []  # a primary that forgot the first in a crash is honest
    for text in (b"one", b"two"):
        court.hand("a", "b", vote(court, "a", PREPARE, 0, fresh_block(court, text, "a")))
    assert [each.host for each in court.evidence] == ["a"]
    assert {letter.content.ballot.digest for letter in court.waiting(Vote) if letter.sender == "b"} == {
        fresh_block(court, b"one", "a").digest()
    }


def test_a_commit_in_a_fetched_certificate_that_another_one_contradicts_is_evidence() -> None:
    """d tells b one thing and the others another: b learns of it with the block that they decided."""
    court = Court()
    decided, other = fresh_block(court, b"one", "a"), fresh_block(court, b"two", "a")
    votes = {host: vote(court, host, COMMIT, 0, decided) for host in "acd"}
    certificate = Certificate(votes["a"].ballot, tuple((host, each.signature) for host, each in votes.items()))
    court.hand("c", "b", votes["c"])
    court.hand("d", "b", vote(court, "d", COMMIT, 0, other))
    court.hand("a", "b", Blocks(((decided, certificate),)))
    assert court.nodes["b"].chain.best == decided
    assert [(each.host, each.domain) for each in court.evidence] == [("d", VOTE_DOMAIN)]

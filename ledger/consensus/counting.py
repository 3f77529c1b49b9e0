"""Counts votes, every signer once; two different ones at one place are evidence (clause 9). Pure."""

from contextlib import suppress
from typing import Any

from ledger.certificate import VOTE_DOMAIN, Certificate, Verifier
from ledger.consensus.engine import Accuse
from ledger.consensus.judge import check_vote
from ledger.consensus.messages import Vote
from ledger.consensus.standing import Standing
from ledger.errors import PeerFault


def count(at: Standing[Any], sender: str, vote: Vote, verify: Verifier) -> list[Accuse]:
    """Returns whom it shows to have signed twice. Raises PeerFault for a vote that is not good."""
    earlier = at.votes.first(sender, vote.ballot)
    if earlier is None and at.prepared and at.prepared.certificate.ballot == vote.ballot:
        at.late.add(sender, vote)  # there are enough: it matters only beside another one
        return []
    if earlier == vote:
        return []
    key = check_vote(at, sender, vote, verify)
    earlier = earlier or _late(at, sender, vote, verify)
    if earlier is None:
        at.votes.add(sender, vote)
        return []
    return _compare(sender, key, earlier, vote)


def compare(at: Standing[Any], certificate: Certificate) -> list[Accuse]:
    """It was verified. Whoever signed it, and told us otherwise, has signed twice."""
    accused = []
    for host, signature in certificate.signatures:
        earlier, key = at.votes.first(host, certificate.ballot), at.members.key_of(host)
        if earlier is not None and key is not None:
            accused += _compare(host, key, earlier, Vote(certificate.ballot, signature))
    return accused


def _late(at: Standing[Any], sender: str, vote: Vote, verify: Verifier) -> Vote | None:
    """What came at the same place when there were enough, if it holds: a bad one must not hide the next ones."""
    late = at.late.first(sender, vote.ballot)
    with suppress(PeerFault):
        if late is not None:
            check_vote(at, sender, late, verify)
            return late
    return None


def _compare(host: str, key: bytes, first: Vote, second: Vote) -> list[Accuse]:
    if first.ballot == second.ballot:
        return []
    return [Accuse(host, VOTE_DOMAIN, first.signed(key), second.signed(key))]

"""Whether a vote or a proposal is one that an honest member may send, seen from where we stand. Pure."""

from typing import Any

from ledger.block import transactions_root
from ledger.certificate import VOTE_DOMAIN, Verifier
from ledger.consensus.messages import Propose, Vote
from ledger.consensus.standing import Standing
from ledger.errors import PeerFault


def check_vote(at: Standing[Any], sender: str, vote: Vote, verify: Verifier) -> bytes:
    """The sender's key. Raises PeerFault for a vote at our height that no member signed for this chain and set."""
    ballot = vote.ballot
    if ballot != at.ballot(ballot.kind, ballot.view, ballot.digest):
        raise PeerFault(sender, "voted on another chain, or of another membership version")
    key = at.members.key_of(sender)
    if key is None:
        raise PeerFault(sender, f"voted on height {at.height}, of which it is no member")
    if not verify(key, VOTE_DOMAIN, ballot.encode(), vote.signature):
        raise PeerFault(sender, f"sent a {ballot.kind} with a bad signature")
    return key


def check_proposal(at: Standing[Any], sender: str, propose: Propose, latest: int) -> bool:
    """Clause 2. Raises PeerFault for what the primary of our view must not propose at our height.

    False for a fresh block with a timestamp after `latest` (milliseconds): a clock is wrong, maybe ours, so it
    gets no vote now. It will be sent again. A forced block may be of any time after its parent's.
    """
    header = propose.block.header
    if at.forced is not None and header.digest() != at.forced:
        raise PeerFault(sender, f"proposed another block {header.height} than its NEW-VIEW chose")
    if header.parent != at.best_digest:
        raise PeerFault(sender, f"proposed block {header.height} that does not stand on our best block")
    if header.timestamp <= at.best.header.timestamp:
        raise PeerFault(sender, f"proposed block {header.height} that is not after its parent in time")
    if transactions_root(propose.block.transactions) != header.transactions_root:
        raise PeerFault(sender, f"proposed block {header.height} with other transactions than its header names")
    if at.forced is None and header.proposer != sender:
        raise PeerFault(sender, f"proposed as fresh a block that {header.proposer} built")
    if at.forced is None and header.timestamp > latest:
        return False
    if reason := at.chain.check(propose.block):
        raise PeerFault(sender, f"proposed block {header.height} that is not valid: {reason}")
    return True

"""The votes of one height, and the certificates that they add up to. Pure."""

from ledger.certificate import Ballot, Certificate
from ledger.consensus.messages import Vote


class Votes:
    """Of each host the first vote for each (type, view); that counts every signer once (clause 9)."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], dict[str, Vote]] = {}

    def first(self, host: str, ballot: Ballot) -> Vote | None:
        """The vote that `host` gave before at this type and view, for this digest or another one."""
        return self._first.get((ballot.kind, ballot.view), {}).get(host)

    def add(self, host: str, vote: Vote) -> None:
        self._first.setdefault((vote.ballot.kind, vote.ballot.view), {}).setdefault(host, vote)

    def certificate(self, ballot: Ballot, quorum: int) -> Certificate | None:
        """A quorum's signatures under exactly this ballot, or None."""
        votes = self._first.get((ballot.kind, ballot.view), {})
        signatures = sorted((host, vote.signature) for host, vote in votes.items() if vote.ballot == ballot)
        return Certificate(ballot, tuple(signatures[:quorum])) if len(signatures) >= quorum else None

    def certificate_of(self, kind: str, quorum: int) -> Certificate | None:
        """A quorum's signatures under one ballot of that kind, of any view (clause 3), or None."""
        for (voted, _), votes in self._first.items():
            if voted == kind and len(votes) >= quorum:
                for ballot in {vote.ballot for vote in votes.values()}:
                    if certificate := self.certificate(ballot, quorum):
                        return certificate
        return None

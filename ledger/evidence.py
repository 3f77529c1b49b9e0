"""Evidence that a member signed two different things where the rule allows one; anyone can check it. Pure."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec

from ledger import codec, identity
from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN, Ballot, Members, Verifier
from ledger.consensus.ipbft import view_change as ipbft
from ledger.consensus.messages import NEW_VIEW_DOMAIN, NewView
from ledger.consensus.pbft import view_change as pbft
from ledger.consensus.view_changes import ViewChange
from ledger.errors import PeerFault
from ledger.identity import Signed

WHERE = "evidence"
NEW_VIEW = "new-view"


class Place(NamedTuple):
    """Where a member may sign one thing only."""

    chain: bytes
    kind: str
    height: int  # its members are those who may sign here
    view: int
    version: int  # of the members

    @property
    def slot(self) -> tuple[bytes | str | int, ...]:
        """What two statements must share to exclude each other: a view has one NEW-VIEW, wherever it starts from."""
        return (self.chain, self.kind, self.view) if self.kind == NEW_VIEW else self


class Evidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    host: str
    domain: str  # a row of STATEMENTS: what both signatures are for
    first: Signed
    second: Signed

    def place(self) -> Place:
        """Raises PeerFault unless these are two different statements of one key for one place."""
        return self._places()[0]

    def _places(self) -> tuple[Place, Place]:
        read = STATEMENTS.get(self.domain)
        if read is None:
            raise PeerFault(WHERE, f"is about {self.domain!r}; there are {', '.join(STATEMENTS)}")
        first, second = read(self.first.body), read(self.second.body)
        if self.first.signer != self.second.signer:
            raise PeerFault(WHERE, "has the signatures of two keys; one key must have signed twice")
        if first.slot != second.slot:
            raise PeerFault(WHERE, "has statements for two places; a member may sign both")
        if self.first.body == self.second.body:
            raise PeerFault(WHERE, "has the same statement twice; a member may repeat itself")
        return first, second

    def check(self, chain: bytes, members_at: Callable[[int], Members], verify: Verifier = identity.verify) -> Place:
        """Raises PeerFault unless a member of that height signed both on this chain; returns where."""
        places = self._places()
        for place, signed in zip(places, (self.first, self.second), strict=True):
            members = members_at(place.height)
            if place.chain != chain:
                raise PeerFault(WHERE, "is of another chain")
            if place.version != members.version or members.key_of(self.host) != signed.signer:
                raise PeerFault(WHERE, f"names {self.host}, which did not decide height {place.height} with that key")
            if not verify(signed.signer, self.domain, signed.body, signed.signature):
                raise PeerFault(WHERE, f"has a signature of {self.host} that does not hold")
        return places[0]


def _vote(body: bytes) -> Place:
    ballot = codec.decode_canonical(body, Ballot, WHERE)
    if ballot.kind not in (PREPARE, COMMIT, pbft.CHECKPOINT):
        raise PeerFault(WHERE, f"has a vote of the unknown kind {ballot.kind!r}")
    height = ballot.height + 1 if ballot.kind == pbft.CHECKPOINT else ballot.height
    return Place(ballot.chain, ballot.kind, height, ballot.view, ballot.members_version)


def _view_change(kind: type[ViewChange], body: bytes) -> Place:
    """One for each view and height: again, when it can show more, is allowed."""
    change = codec.decode_canonical(body, kind, WHERE)
    return Place(change.chain, "view-change", change.height + 1, change.view, change.members_version)


def _new_view(body: bytes) -> Place:
    new_view = codec.decode_canonical(body, NewView, WHERE)
    return Place(new_view.chain, NEW_VIEW, new_view.height + 1, new_view.view, new_view.members_version)


STATEMENTS: Mapping[str, Callable[[bytes], Place]] = {
    VOTE_DOMAIN: _vote,
    NEW_VIEW_DOMAIN: _new_view,
    ipbft.VIEW_CHANGE_DOMAIN: partial(_view_change, ipbft.ViewChange),
    pbft.VIEW_CHANGE_DOMAIN: partial(_view_change, pbft.ViewChange),
}

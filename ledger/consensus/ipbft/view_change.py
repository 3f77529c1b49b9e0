"""Clauses 6 to 8: what a VIEW-CHANGE and a NEW-VIEW must show, and what follows from them. Pure.

Why it is safe: a commit quorum and any q VIEW-CHANGEs share an honest replica, which either decided the
height (then H* is at least that) or still holds its prepared certificate (then that is the choice).
"""

from collections.abc import Iterable

import msgspec

from ledger.block import Block, Header, transactions_root
from ledger.certificate import COMMIT, PREPARE, Certificate, Members, Verifier
from ledger.consensus.leaders import primary
from ledger.consensus.messages import NewView
from ledger.consensus.view_changes import open_changes, open_signed
from ledger.errors import PeerFault
from ledger.identity import Signed
from ledger.sync import check_certificate

VIEW_CHANGE_DOMAIN = "agentplatform/view-change"


class ViewChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """VIEW-CHANGE(view), clause 6: where its host stands, and what it has prepared above that."""

    chain: bytes
    members_version: int  # of the members that decide the height after `committed`
    view: int
    host: str
    committed: Header  # the best block's
    certificate: Certificate | None  # that decided it; None for genesis alone
    prepared: Certificate | None  # for the next height, of the highest view

    @property
    def height(self) -> int:
        return self.committed.height


def open_view_change(signed: Signed, members: Members, verify: Verifier, sender: str) -> ViewChange:
    """Verifies, then parses, then looks at the form. What stands in the certificates: see `check_claims`."""
    change = open_signed(signed, VIEW_CHANGE_DOMAIN, ViewChange, members, verify, sender)
    committed, prepared = change.committed, change.prepared
    if committed.chain != change.chain:
        raise PeerFault(sender, "sent a VIEW-CHANGE about another chain")
    if (change.certificate is None) != (committed.height == 0):
        raise PeerFault(sender, "sent a VIEW-CHANGE with no certificate of its best block")
    if change.certificate is not None:
        _check_ballot(change.certificate, COMMIT, change, committed.height, sender)
        if change.certificate.ballot.digest != committed.digest():
            raise PeerFault(sender, "sent a VIEW-CHANGE whose commit certificate is of another block")
    if prepared is not None:
        _check_ballot(prepared, PREPARE, change, committed.height + 1, sender)
        if prepared.ballot.view >= change.view:
            raise PeerFault(sender, "sent a VIEW-CHANGE with a prepared certificate of no earlier view")
    return change


def check_body(change: ViewChange, block: Block | None, sender: str) -> None:
    """The body of what is prepared comes along: the new primary may have to propose it."""
    if change.prepared is None:
        if block is not None:
            raise PeerFault(sender, "sent a VIEW-CHANGE with a block that nothing speaks of")
        return
    if block is None or block.digest() != change.prepared.ballot.digest:
        raise PeerFault(sender, "sent a VIEW-CHANGE without the block that it has prepared")
    if transactions_root(block.transactions) != block.header.transactions_root:
        raise PeerFault(sender, "sent a prepared block with other transactions than its header names")


def check_claims(change: ViewChange, best: Block, members: Members, verify: Verifier, sender: str) -> None:
    """Verifies the certificates that can be judged from `best` and the `members` that decide the height above.

    A claim to be higher is otherwise judged by synchronising; one to be lower needs no proof, because that
    height is decided, and carries no choice.
    """
    committed = change.committed
    ours = committed.digest() == best.digest()
    if committed.height == best.header.height and not ours:
        raise PeerFault(sender, f"sent a VIEW-CHANGE with another block {committed.height} than the decided one")
    if change.certificate is not None and not ours and committed.members_digest == members.digest():
        check_certificate(change.certificate, members, sender, verify)
    if ours:
        if change.members_version != members.version:
            raise PeerFault(sender, "sent a VIEW-CHANGE of another membership version")
        if change.prepared is not None:
            check_certificate(change.prepared, members, sender, verify)


def choose(changes: Iterable[ViewChange], height: int) -> Certificate | None:
    """Of the prepared certificates of those that stand exactly at `height` = H*, the one of the highest view."""
    prepared = [c.prepared for c in changes if c.prepared is not None and c.committed.height == height]
    return max(prepared, key=lambda certificate: certificate.ballot.view, default=None)


def check_new_view(new_view: NewView, best: Block, members: Members, verify: Verifier, sender: str) -> None:
    """Recomputes H* and the choice (clause 8). To be called when `best` has reached `new_view.height`.

    A replica that is already above H* enters too, if the VIEW-CHANGEs are a quorum of the members that decide
    its own next height: had that height been decided in a lower view, one of them would stand as high as we do.
    """
    changes = open_changes(
        new_view, lambda signed: open_view_change(signed, members, verify, sender), members.quorum, sender
    )
    if max(change.height for change in changes) != new_view.height:
        raise PeerFault(sender, f"sent a NEW-VIEW that does not start from the highest block, {new_view.height}")
    choice = choose(changes, new_view.height)
    if new_view.forced != (((new_view.height + 1, choice.ballot.digest),) if choice else ()):
        raise PeerFault(sender, "sent a NEW-VIEW with another choice than its VIEW-CHANGEs give")
    if best.header.height > new_view.height:
        return
    if new_view.members_version != members.version:
        raise PeerFault(sender, "sent a NEW-VIEW of another membership version")
    if new_view.host != primary(members, new_view.view):
        raise PeerFault(sender, f"sent a NEW-VIEW of {new_view.host}, who does not lead view {new_view.view}")
    for change in changes:
        check_claims(change, best, members, verify, sender)


def _check_ballot(certificate: Certificate, kind: str, change: ViewChange, height: int, sender: str) -> None:
    ballot = certificate.ballot
    if (ballot.kind, ballot.chain, ballot.height) != (kind, change.chain, height):
        raise PeerFault(sender, f"sent a VIEW-CHANGE with a certificate that is not of a {kind} at height {height}")

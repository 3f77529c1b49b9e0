"""What a VIEW-CHANGE and a NEW-VIEW must show (section 4.4), and what follows from them. Pure.

Why it is safe: a commit quorum and any q VIEW-CHANGEs share an honest replica. It either still holds the prepared
certificate of that height (then that is forced), or has a stable checkpoint at it or above: then f+1 honest replicas
have decided the height, vote on it no more, and the others are no quorum.
Members do not change between two stable checkpoints: a block that changes them is a checkpoint, and nobody votes
above it before it is stable.
"""

from collections.abc import Iterable

import msgspec

from ledger.block import Block, transactions_root
from ledger.certificate import PREPARE, Certificate, Members, Verifier
from ledger.consensus.leaders import primary
from ledger.consensus.messages import NewView
from ledger.consensus.view_changes import open_changes, open_signed
from ledger.errors import PeerFault
from ledger.identity import Signed
from ledger.sync import check_certificate

VIEW_CHANGE_DOMAIN = "agentplatform/pbft/view-change"
CHECKPOINT = "checkpoint"  # a Ballot's kind; its members are those who decide the height after it


class ViewChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """VIEW-CHANGE(view): the stable checkpoint of its host, and all that it has prepared above that."""

    chain: bytes
    members_version: int  # of the members that decide the heights after the checkpoint
    view: int
    host: str
    checkpoint: Certificate | None  # None: genesis
    prepared: tuple[Certificate, ...]  # by rising height; for each that of the highest view

    @property
    def height(self) -> int:
        return self.checkpoint.ballot.height if self.checkpoint else 0


def open_view_change(signed: Signed, members: Members, window: int, verify: Verifier, sender: str) -> ViewChange:
    """Verifies, then parses, then looks at the form; `window` is how many heights above a checkpoint may be voted on.

    Whether the certificates hold: see `check_certificates`.
    """
    change = open_signed(signed, VIEW_CHANGE_DOMAIN, ViewChange, members, verify, sender)
    stable = change.height
    for certificate, kind in [(c, PREPARE) for c in change.prepared] + [(change.checkpoint, CHECKPOINT)]:
        if certificate is None:
            continue
        ballot = certificate.ballot
        if (ballot.kind, ballot.chain, ballot.members_version) != (kind, change.chain, change.members_version):
            raise PeerFault(sender, f"sent a VIEW-CHANGE with a certificate that is of no {kind} of these members")
    heights = [certificate.ballot.height for certificate in change.prepared]
    if heights != sorted(set(heights)) or any(not stable < height <= stable + window for height in heights):
        raise PeerFault(sender, "sent a VIEW-CHANGE with prepared certificates outside its water marks")
    if any(certificate.ballot.view >= change.view for certificate in change.prepared):
        raise PeerFault(sender, "sent a VIEW-CHANGE with a prepared certificate of no earlier view")
    return change


def check_body(change: ViewChange, block: Block | None, sender: str) -> None:
    """What is prepared and not decided may come along: the new primary may have to propose it."""
    if block is None:
        return
    if not change.prepared or block.digest() != change.prepared[-1].ballot.digest:
        raise PeerFault(sender, "sent a VIEW-CHANGE with a block that nothing speaks of")
    if transactions_root(block.transactions) != block.header.transactions_root:
        raise PeerFault(sender, "sent a prepared block with other transactions than its header names")


def check_certificates(change: ViewChange, members: Members, verify: Verifier, sender: str) -> None:
    """Raises PeerFault unless every certificate is signed by a quorum of `members`."""
    for certificate in (*change.prepared, *([change.checkpoint] if change.checkpoint else [])):
        check_certificate(certificate, members, sender, verify)


def choose(changes: Iterable[ViewChange]) -> tuple[int, tuple[tuple[int, bytes], ...]]:
    """The latest stable checkpoint, and for each height above it the prepared digest of the highest view."""
    changes = list(changes)
    start = max(change.height for change in changes)
    highest: dict[int, Certificate] = {}
    for certificate in (certificate for change in changes for certificate in change.prepared):
        height = certificate.ballot.height
        if height > start and (height not in highest or certificate.ballot.view > highest[height].ballot.view):
            highest[height] = certificate
    return start, tuple((height, highest[height].ballot.digest) for height in sorted(highest))


def check_new_view(new_view: NewView, members: Members, window: int, verify: Verifier, sender: str) -> None:
    """Recomputes what is forced. `members` are those of `new_view.members_version`."""
    changes = open_changes(
        new_view, lambda signed: open_view_change(signed, members, window, verify, sender), members.quorum, sender
    )
    if new_view.host != primary(members, new_view.view):
        raise PeerFault(sender, f"sent a NEW-VIEW of {new_view.host}, who does not lead view {new_view.view}")
    if any(change.members_version != new_view.members_version for change in changes):
        raise PeerFault(sender, "sent a NEW-VIEW with a VIEW-CHANGE of another membership version")
    if (new_view.height, new_view.forced) != choose(changes):
        raise PeerFault(sender, "sent a NEW-VIEW with another choice than its VIEW-CHANGEs give")
    for change in changes:
        check_certificates(change, members, verify, sender)


def check_promises(new_view: NewView, members: Members, window: int, verify: Verifier, sender: str) -> None:
    """For a NEW-VIEW of earlier members: whether a quorum of `members`, of now, is bound by its VIEW-CHANGEs.

    Had they decided a height of theirs in a lower view, one of them would have shown the checkpoint below it.
    """
    open_changes(
        new_view, lambda signed: open_view_change(signed, members, window, verify, sender), members.quorum, sender
    )

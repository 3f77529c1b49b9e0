"""PBFT as it was published, with blocks for requests and one height in flight: the baseline. Pure."""

from collections.abc import Sequence
from contextlib import suppress

from ledger.block import Block
from ledger.certificate import VOTE_DOMAIN, Certificate
from ledger.consensus.agreement import Agreement
from ledger.consensus.engine import Accuse
from ledger.consensus.messages import EnterView, NewView, Relay, Vote
from ledger.consensus.pbft.standing import PbftStanding
from ledger.consensus.pbft.view_change import (
    CHECKPOINT,
    ViewChange,
    check_body,
    check_certificates,
    check_new_view,
    check_promises,
    open_view_change,
)
from ledger.consensus.view_changes import Received
from ledger.consensus.votes import Votes
from ledger.errors import PeerFault
from ledger.identity import Signed


class Pbft(Agreement[ViewChange]):
    standing = PbftStanding
    _at: PbftStanding

    def _requested(self, transactions: Sequence[bytes]) -> None:
        """Requests go to the primary, whose time runs from now (section 4.2)."""
        if self._at.active and not self._at.leads:
            self._send(self._at.primary, Relay(tuple(transactions)))
            self._timers.expect_decision(self._now)

    # Checkpoints, section 4.3

    @property
    def _window(self) -> int:
        """Heights above the stable checkpoint that may be voted on: between the water marks."""
        return 2 * self._settings.checkpoint_every

    def _is_checkpoint(self, height: int) -> bool:
        return height > 0 and height % self._settings.checkpoint_every == 0

    def _may_vote(self) -> bool:
        at = self._at
        return super()._may_vote() and at.is_settled and at.height <= at.stable_height + self._window

    def _append(self, block: Block, certificate: Certificate) -> None:
        before = self._at.members.version
        super()._append(block, certificate)
        if self._is_checkpoint(block.header.height) or self._at.members.version != before:
            self._vote_checkpoint()

    def _vote_checkpoint(self) -> None:
        at = self._at
        if at.has_seat and at.best.header.height > at.stable_height:
            self._send(None, at.vote_checkpoint())

    def _on_vote(self, sender: str, vote: Vote) -> None:
        if vote.ballot.kind == CHECKPOINT:
            self._on_checkpoint(sender, vote)
        else:
            super()._on_vote(sender, vote)

    def _on_checkpoint(self, sender: str, vote: Vote) -> None:
        at, ballot, best = self._at, vote.ballot, self._at.best.header.height
        self._catch_up.heard(sender, ballot.height, best, self._now + self._settings.fetch_after)
        key = at.members.key_of(sender)
        if key is None or ballot.members_version != at.members.version:
            return  # of members before or after ours; it is sent again
        if not at.stable_height < ballot.height <= best + self._window:
            return
        votes = at.checkpoints.get(ballot.height, Votes())
        earlier = votes.first(sender, ballot)
        if earlier == vote:
            return
        if (ballot.chain, ballot.view) != (at.best.header.chain, 0):
            raise PeerFault(sender, "sent a CHECKPOINT of another chain, or in a view")
        if not self._verify(key, VOTE_DOMAIN, ballot.encode(), vote.signature):
            raise PeerFault(sender, "sent a CHECKPOINT with a bad signature")
        if earlier is None:
            votes.add(sender, vote)
            at.checkpoints[ballot.height] = votes
        elif earlier.ballot != ballot:
            self._effects.append(Accuse(sender, VOTE_DOMAIN, earlier.signed(key), vote.signed(key)))

    def _change_view(self) -> bool:
        return self._stabilise() or super()._change_view()

    def _pass_fence(self) -> bool:
        """Prepared certificates that were forgotten are behind a stable checkpoint, and missed no more."""
        return self._at.is_settled and super()._pass_fence()

    def _stabilise(self) -> bool:
        """A checkpoint that we have come to ourselves is stable when q members have sent theirs."""
        at = self._at
        for height in sorted(at.checkpoints, reverse=True):
            certificate = at.checkpoints[height].certificate_of(CHECKPOINT, at.members.quorum)
            if height < at.height and certificate and certificate.ballot.members_version == at.members.version:
                self._effects += at.stabilise(certificate)
                self._review_changes()
                self._expect_more()
                return True
        return False

    def _beat(self) -> None:
        super()._beat()
        at, best = self._at, self._at.best.header.height
        if at.checkpoint is None and (self._is_checkpoint(best) or not at.is_settled):  # we were restarted
            self._vote_checkpoint()
        elif at.checkpoint is not None:  # also when it is stable here: who is behind needs q of them
            self._send(None, at.checkpoint)

    # The view change, section 4.4

    def _open_change(self, signed: Signed, sender: str) -> ViewChange:
        return open_view_change(signed, self._at.members, self._window, self._verify, sender)

    def _check_body(self, change: ViewChange, block: Block | None, sender: str) -> None:
        check_body(change, block, sender)

    def _check_change(self, change: ViewChange, sender: str) -> bool:
        """One of other members does not count: its host, or we, must first come to the checkpoint between them."""
        if not self._still_holds(change):
            return False
        check_certificates(change, self._at.members, self._verify, sender)
        return True

    def _still_holds(self, change: ViewChange) -> bool:
        return self._at.is_settled and change.members_version == self._at.members.version

    def _may_start_from(self, received: Received[ViewChange]) -> bool:
        """No synchronisation phase: whoever leads may be behind, and catches up within its view."""
        return True

    def _can_judge(self, new_view: NewView) -> bool:
        return self._at.is_settled and new_view.members_version <= self._at.members.version

    def _try_to_enter(self, sender: str, new_view: NewView, message: EnterView) -> None:
        members = self._at.members
        if new_view.members_version == members.version:
            check_new_view(new_view, members, self._window, self._verify, sender)
            self._enter(new_view, message)
        else:
            with suppress(PeerFault):  # it may have been good for the members of its time
                check_promises(new_view, members, self._window, self._verify, sender)
                self._enter(new_view, message)

    def _enter(self, new_view: NewView, message: EnterView) -> None:
        super()._enter(new_view, message)
        self._send(None, self._status())  # what was decided is not voted on again: who is behind fetches it

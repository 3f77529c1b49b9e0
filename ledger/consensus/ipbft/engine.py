"""Improved PBFT: the view change carries certificates, and whoever leads or follows it synchronises first. Pure."""

from collections.abc import Sequence

from ledger.block import Block
from ledger.consensus.agreement import Agreement
from ledger.consensus.engine import Serve
from ledger.consensus.ipbft.standing import IpbftStanding
from ledger.consensus.ipbft.view_change import ViewChange, check_body, check_claims, check_new_view, open_view_change
from ledger.consensus.messages import EnterView, NewView
from ledger.consensus.view_changes import Received
from ledger.errors import PeerFault
from ledger.identity import Signed


class Ipbft(Agreement[ViewChange]):
    standing = IpbftStanding

    def _requested(self, transactions: Sequence[bytes]) -> None:
        """Clause 10: their clients told every replica; after a while we tell the primary too."""
        if not self._at.leads:
            self._timers.relay_soon(self._now)

    # VIEW-CHANGE, clause 6

    def _open_change(self, signed: Signed, sender: str) -> ViewChange:
        return open_view_change(signed, self._at.members, self._verify, sender)

    def _check_body(self, change: ViewChange, block: Block | None, sender: str) -> None:
        check_body(change, block, sender)

    def _check_change(self, change: ViewChange, sender: str) -> bool:
        check_claims(change, self._at.best, self._at.members, self._verify, sender)
        return True

    def _still_holds(self, change: ViewChange) -> bool:
        if change.height == self._at.best.header.height:  # its claims could not be judged from below
            check_claims(change, self._at.best, self._at.members, self._verify, change.host)
        return True

    # NEW-VIEW, clauses 7 and 8

    def _may_start_from(self, received: Received[ViewChange]) -> bool:
        """Clause 7: we have synchronised up to where its host stands."""
        return received.height <= self._at.best.header.height

    def _can_judge(self, new_view: NewView) -> bool:
        """Clause 8: we have synchronised up to where it starts from."""
        return new_view.height <= self._at.best.header.height

    def _try_to_enter(self, sender: str, new_view: NewView, message: EnterView) -> None:
        at, best = self._at, self._at.best.header.height
        try:
            check_new_view(new_view, at.best, at.members, self._verify, sender)
        except PeerFault:
            if best == new_view.height and sender == new_view.host:
                raise
            return  # not everything can be judged from above H*: neither by us, nor by who passed it on
        self._enter(new_view, message)
        if best == new_view.height + 1:  # the new primary lacks our block
            self._effects.append(Serve(new_view.host, best, best))

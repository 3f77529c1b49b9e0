"""Improved PBFT: the view change carries certificates, and whoever leads or follows it synchronises first. Pure."""

from collections.abc import Sequence

from ledger.block import Block
from ledger.certificate import Certificate
from ledger.consensus.agreement import Agreement
from ledger.consensus.engine import Serve
from ledger.consensus.ipbft.restored import Fence, Recollection
from ledger.consensus.ipbft.standing import IpbftStanding
from ledger.consensus.ipbft.view_change import ViewChange, check_body, check_claims, check_new_view, open_view_change
from ledger.consensus.messages import Content, EnterView, NewView, Recall, Recalled
from ledger.consensus.view_changes import Received
from ledger.errors import PeerFault
from ledger.identity import Signed


class Ipbft(Agreement[ViewChange]):
    standing = IpbftStanding
    _at: IpbftStanding
    _recollection: Recollection | None = None

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

    # An old copy of our data (ledger.consensus.ipbft.restored)

    def _receive(self, sender: str, content: Content) -> None:
        match content:
            case Recall():
                if self._at.fence is None:  # who has forgotten is no witness
                    self._send(sender, Recalled(content.nonce, self._at.best.header.height, self._at.view))
            case Recalled():
                if self._recollection is not None:
                    self._recollection.heard(sender, content)
                    self._catch_up.heard(sender, content.height, self._at.best.header.height, self._now)
            case _:
                super()._receive(sender, content)

    def _append(self, block: Block, certificate: Certificate) -> None:
        if self._at.has_forgotten(certificate):
            self._effects.append(self._at.put_fence(Fence()))
        super()._append(block, certificate)

    def _beat(self) -> None:
        super()._beat()
        fence = self._at.fence
        if fence is not None and fence.height is None:
            if self._recollection is None:
                self._recollection = Recollection(self._wall)
            self._send(None, Recall(self._recollection.nonce))

    def _change_view(self) -> bool:
        return self._pass_fence() or super()._change_view()

    def _pass_fence(self) -> bool:
        at, fence = self._at, self._at.fence
        if fence is None:
            return False
        if fence.height is None:
            found = self._recollection and self._recollection.fence(at.members, at.host, at.best.header.height)
            if not found:
                return False
            self._effects.append(at.put_fence(found))
            return True
        if at.best.header.height < fence.height or not at.has_seat:
            return False
        behind_us = at.put_fence(None)
        if at.view < fence.view:
            self._start_view_change(fence.view)  # durable before the fence is gone
        self._effects.append(behind_us)
        return True

"""What improved PBFT keeps: of the next height alone the proposal and the prepared certificate (clauses 2 and 4)."""

from collections.abc import Mapping

from ledger import codec
from ledger.certificate import Certificate
from ledger.consensus.engine import RESTORED, Persist
from ledger.consensus.ipbft.restored import Fence
from ledger.consensus.ipbft.view_change import VIEW_CHANGE_DOMAIN, ViewChange, choose
from ledger.consensus.standing import OWN, Standing

VIEW_KEY = "ipbft/view"
PROPOSAL_KEY = "ipbft/proposal"
PREPARED_KEY = "ipbft/prepared"


class IpbftStanding(Standing[ViewChange]):
    view_key = VIEW_KEY
    proposal_key = PROPOSAL_KEY
    prepared_key = PREPARED_KEY
    view_change = ViewChange
    view_change_domain = VIEW_CHANGE_DOMAIN

    fence: Fence | None = None  # we are an old copy: below it nothing is signed

    def _restore(self, recovered: Mapping[str, bytes]) -> None:
        raw = recovered.get(RESTORED)
        if raw is not None:
            self.put_fence(codec.decode(raw, Fence, OWN) if raw else Fence())
            recovered = {VIEW_KEY: recovered[VIEW_KEY]} if VIEW_KEY in recovered else {}
        super()._restore(recovered)

    def put_fence(self, fence: Fence | None) -> Persist:
        """Whoever is behind a fence has no vote; it follows like a host without a seat."""
        self.fence = fence
        if fence is not None:
            self.proposal = self.prepared = None
        self._look_around()
        return Persist(RESTORED, None if fence is None else codec.encode(fence))

    def has_forgotten(self, certificate: Certificate) -> bool:
        """Whether it has a COMMIT of ours, of which we know nothing. (Its signatures have been verified.)"""
        own = any(host == self.host for host, _ in certificate.signatures)
        known = self.prepared is not None and self.prepared.block.digest() == certificate.ballot.digest
        return own and not known and self.is_member

    def _look_around(self) -> None:
        super()._look_around()
        self.has_seat = self.is_member
        self.is_member = self.has_seat and self.fence is None

    @property
    def shown(self) -> int:
        return self.best.header.height

    def _change_to(self, view: int) -> ViewChange:
        return ViewChange(
            self.best.header.chain,
            self.members.version,
            view,
            self.host,
            self.best.header,
            self.certificate,
            self.prepared.certificate if self.prepared else None,
        )

    def _choose(self, changes: list[ViewChange]) -> tuple[int, tuple[tuple[int, bytes], ...]]:
        """None of `changes` is above our best block: we have synchronised (clause 7)."""
        height = self.best.header.height
        choice = choose(changes, height)
        return height, ((height + 1, choice.ballot.digest),) if choice else ()

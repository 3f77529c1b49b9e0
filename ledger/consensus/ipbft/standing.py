"""What improved PBFT keeps: of the next height alone the proposal and the prepared certificate (clauses 2 and 4)."""

from ledger.consensus.ipbft.view_change import VIEW_CHANGE_DOMAIN, ViewChange, choose
from ledger.consensus.standing import Standing

VIEW_KEY = "ipbft/view"
PROPOSAL_KEY = "ipbft/proposal"
PREPARED_KEY = "ipbft/prepared"


class IpbftStanding(Standing[ViewChange]):
    view_key = VIEW_KEY
    proposal_key = PROPOSAL_KEY
    prepared_key = PREPARED_KEY
    view_change = ViewChange
    view_change_domain = VIEW_CHANGE_DOMAIN

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

"""What PBFT keeps besides: the stable checkpoint, and the prepared certificate of every height above it."""

from collections.abc import Mapping

from ledger import codec
from ledger.block import Block
from ledger.certificate import Ballot, Certificate
from ledger.consensus.engine import Effect, Persist
from ledger.consensus.messages import Vote
from ledger.consensus.pbft.view_change import CHECKPOINT, VIEW_CHANGE_DOMAIN, ViewChange, choose
from ledger.consensus.standing import OWN, Standing
from ledger.consensus.votes import Votes

STABLE_KEY = "pbft/stable"  # the Certificate of the stable checkpoint
LOG_KEY = "pbft/log/"  # and a height: the prepared Certificate of a decided block


class PbftStanding(Standing[ViewChange]):
    view_key = "pbft/view"
    proposal_key = "pbft/proposal"
    prepared_key = "pbft/prepared"
    view_change = ViewChange
    view_change_domain = VIEW_CHANGE_DOMAIN

    stable: Certificate | None = None  # the checkpoint; None: genesis
    checkpoint: Vote | None = None  # our own last one

    def _restore(self, recovered: Mapping[str, bytes]) -> None:
        self.log: dict[int, Certificate] = {}  # of decided heights above the stable checkpoint
        self.checkpoints: dict[int, Votes] = {}  # by height, above the stable one
        if raw := recovered.get(STABLE_KEY):
            self.stable = codec.decode(raw, Certificate, OWN)
            self._look_around()
        for key, raw in recovered.items():
            if key.startswith(LOG_KEY):
                certificate = codec.decode(raw, Certificate, OWN)
                if self.stable_height < certificate.ballot.height < self.height:
                    self.log[certificate.ballot.height] = certificate
        super()._restore(recovered)
        if self.stable is not None and self.has_seat and self.is_settled:
            self.checkpoint = self._voted(self.stable.ballot)

    def _look_around(self) -> None:
        super()._look_around()
        # The checkpoint's signers are those who decide the height after it.
        version = self.stable.ballot.members_version if self.stable else 0
        self.is_settled = self.members.version == version
        self.is_member = self.is_member and self.is_settled

    @property
    def stable_height(self) -> int:
        return self.stable.ballot.height if self.stable else 0

    @property
    def shown(self) -> int:
        return self.stable_height

    def append(self, block: Block, certificate: Certificate) -> list[Effect]:
        """What was prepared stays until a checkpoint is stable."""
        prepared, version = self.prepared, self.members.version
        effects = super().append(block, certificate)
        if self.members.version != version:
            self.checkpoints.clear()
        if prepared is None:
            return effects
        height = block.header.height
        self.log[height] = prepared.certificate
        return [Persist(_log_key(height), codec.encode(prepared.certificate)), *effects]

    def vote_checkpoint(self) -> Vote:
        """CHECKPOINT: all is decided and durable up to the best block."""
        height = self.best.header.height
        ballot = Ballot(self.best.header.chain, self.members.version, CHECKPOINT, height, 0, self.best_digest)
        self.checkpoint = self._voted(ballot)
        self.checkpoints.setdefault(height, Votes()).add(self.host, self.checkpoint)
        return self.checkpoint

    def stabilise(self, certificate: Certificate) -> list[Effect]:
        """q members are as far: what was kept for the heights up to there is not needed any more."""
        self.stable = certificate
        height = certificate.ballot.height
        passed = [each for each in self.log if each <= height]
        for each in passed:
            del self.log[each]
        self.checkpoints = {each: votes for each, votes in self.checkpoints.items() if each > height}
        self._look_around()
        return [
            Persist(STABLE_KEY, codec.encode(certificate)),
            *(Persist(_log_key(each), None) for each in passed),
        ]

    def _change_to(self, view: int) -> ViewChange:
        prepared = [self.log[height] for height in sorted(self.log)]
        if self.prepared:
            prepared.append(self.prepared.certificate)
        return ViewChange(self.best.header.chain, self.members.version, view, self.host, self.stable, tuple(prepared))

    def _choose(self, changes: list[ViewChange]) -> tuple[int, tuple[tuple[int, bytes], ...]]:
        return choose(changes)


def _log_key(height: int) -> str:
    return f"{LOG_KEY}{height}"

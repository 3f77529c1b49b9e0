"""PBFT with one rule of its checkpoints and water marks left out each: what the stories must catch."""

from collections.abc import Mapping
from typing import Any

from ledger.block import Block
from ledger.certificate import Certificate
from ledger.consensus.engine import Effect
from ledger.consensus.pbft import Pbft
from ledger.consensus.pbft.standing import LOG_KEY, PbftStanding
from ledger.consensus.pbft.view_change import CHECKPOINT
from ledger.simulation import Mutant


class _ClearsAtOnce(PbftStanding):
    def append(self, block: Block, certificate: Certificate) -> list[Effect]:
        effects = super().append(block, certificate)
        self.log.clear()
        return effects


class ClearsAtOnce(Pbft):
    """Clears prepared certificates when a block is added, as the improved rule may, with no checkpoint for them."""

    standing = _ClearsAtOnce


class AloneStable(Pbft):
    """Takes its own CHECKPOINT for a stable one."""

    def _stabilise(self) -> bool:
        at = self._at
        for height in sorted(at.checkpoints, reverse=True):
            certificate = at.checkpoints[height].certificate_of(CHECKPOINT, 1)
            if height < at.height and certificate and at.host in dict(certificate.signatures):
                at.log.clear()
        return super()._stabilise()


class ForgetsLog(Pbft):
    """Does not get the certificates of decided blocks back after a restart."""

    def __init__(self, host: Any, signer: Any, chain: Any, recovered: Mapping[str, bytes], *rest: Any) -> None:
        kept = {key: value for key, value in recovered.items() if not key.startswith(LOG_KEY)}
        super().__init__(host, signer, chain, kept, *rest)


class NoWaterMark(Pbft):
    """Goes on for ever without a stable checkpoint, and keeps a certificate for every height."""

    def _may_vote(self) -> bool:
        return self._at.active and self._at.is_settled


MUTANTS: dict[str, Mutant] = {
    "clears-at-once": Mutant(engine=ClearsAtOnce),
    "stable-alone": Mutant(engine=AloneStable),
    "forgotten-log": Mutant(engine=ForgetsLog),
    "no-water-mark": Mutant(engine=NoWaterMark),
}

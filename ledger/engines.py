"""The consensus engines that a replica can run: one row each."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from ledger.block import Block
from ledger.certificate import Certificate
from ledger.chain import Chain
from ledger.consensus import messages
from ledger.consensus.engine import Engine
from ledger.consensus.ipbft.engine import Ipbft
from ledger.consensus.pbft.engine import Pbft
from ledger.identity import Identity


class Create(Protocol):
    def __call__(
        self,
        host: str,
        signer: Identity,
        chain: Chain,
        recovered: Mapping[str, bytes],
        *,
        certificate: Certificate | None,
    ) -> Engine:
        """`certificate` decided the chain's best block (None at genesis); `recovered` is what Persist kept."""


class EngineKind(NamedTuple):
    create: Create
    encode_blocks: Callable[[list[tuple[Block, Certificate]]], bytes]  # the message that answers a Serve
    clients_broadcast: bool = True  # a transaction goes to every replica at once; else the engine passes it on
    short_proposals: bool = False  # its messages.Propose goes without what clients broadcast: see ledger.proposals


ENGINES: Mapping[str, EngineKind] = {
    "ipbft": EngineKind(Ipbft, messages.encode_blocks, short_proposals=True),
    "pbft": EngineKind(Pbft, messages.encode_blocks, clients_broadcast=False),  # the baseline, for comparison
}

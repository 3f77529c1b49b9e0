"""A consensus of one: the first member decides alone, all others follow. So a second engine fits the contract."""

from collections.abc import Mapping, Sequence

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, VOTE_DOMAIN, Ballot, Certificate
from ledger.chain import Chain
from ledger.consensus.engine import Decide, Effect, Persist, Send, Serve, WakeAt
from ledger.engines import EngineKind
from ledger.errors import PeerFault
from ledger.identity import Identity
from ledger.sync import check_next

PROMISE = "solo/promise"  # the height that the leader signs, kept before its signature leaves
EVERY = 0.02  # seconds between two questions of a follower
Pairs = list[tuple[Block, Certificate]]


class Solo:
    def __init__(
        self,
        host: str,
        signer: Identity,
        chain: Chain,
        recovered: Mapping[str, bytes],
        *,
        certificate: Certificate | None,
    ) -> None:
        self.recovered = dict(recovered)
        self._host = host
        self._signer = signer
        self._chain = chain

    votes = True
    pledged = None  # only the leader's own word counts, and that decides at once

    @property
    def _leader(self) -> str:
        return self._chain.members().members[0].host

    def start(self, now: float, wall: int) -> list[Effect]:
        return self.tick(now, wall)

    def command(self, transactions: Sequence[bytes], now: float, wall: int) -> list[Effect]:
        return self._decide(wall)

    def message(self, sender: str, message: bytes, now: float, wall: int) -> list[Effect]:
        content = codec.decode(message, int | Pairs, sender)  # type: ignore[arg-type]
        best = self._chain.best.header.height
        if isinstance(content, int):
            return [Serve(sender, content, best)] if content <= best else []
        return self._follow(sender, content)

    def tick(self, now: float, wall: int) -> list[Effect]:
        if self._host == self._leader:
            return [*self._decide(wall), WakeAt(now + EVERY)]
        return [Send(self._leader, codec.encode(self._chain.best.header.height + 1)), WakeAt(now + EVERY)]

    def _decide(self, wall: int) -> list[Effect]:
        block = self._chain.build(wall, self._host) if self._host == self._leader else None
        if block is None:
            return []
        header = block.header
        ballot = Ballot(header.chain, self._chain.members().version, COMMIT, header.height, 0, block.digest())
        certificate = Certificate(ballot, ((self._host, self._signer.sign(VOTE_DOMAIN, ballot.encode())),))
        promise = Persist(PROMISE, codec.encode(header.height))
        self._chain.append(block, certificate)
        return [promise, Decide(block, certificate), Send(None, encode_blocks([(block, certificate)]))]

    def _follow(self, sender: str, blocks: Pairs) -> list[Effect]:
        effects: list[Effect] = []
        for block, certificate in blocks:
            if block.header.height > self._chain.best.header.height + 1:
                break  # what lies between is asked for at the next tick
            if block.header.height == self._chain.best.header.height + 1:
                check_next(self._chain.best, self._chain.members(), block, certificate, sender)
                if reason := self._chain.check(block):
                    raise PeerFault(sender, f"sent a block that is not valid: {reason}")
                self._chain.append(block, certificate)
                effects.append(Decide(block, certificate))
        return effects


def encode_blocks(blocks: Pairs) -> bytes:
    return codec.encode(blocks)


SOLO = EngineKind(Solo, encode_blocks)

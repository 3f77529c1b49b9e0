"""What a Byzantine host makes by hand, in the stories."""

import msgspec

from ledger import codec
from ledger.block import Block
from ledger.certificate import Ballot, Certificate
from ledger.consensus.ipbft.view_change import VIEW_CHANGE_DOMAIN, ViewChange
from ledger.consensus.messages import NEW_VIEW_DOMAIN, ChangeView, EnterView, NewView, Propose, Vote
from ledger.identity import Signed
from ledger.simulation.twins import FastKey
from tests.helpers.ipbft_script import WALL, Script


def sign(host: str, domain: str, content: msgspec.Struct) -> Signed:
    key, body = FastKey(host), codec.encode(content)
    return Signed(key.public, body, key.sign(domain, body))


def vote(script: Script, host: str, kind: str, view: int, block: Block) -> Vote:
    header = block.header
    return script.signed_vote(host, Ballot(header.chain, 0, kind, header.height, view, block.digest()))


def fresh_block(script: Script, transaction: bytes, proposer: str) -> Block:
    """A valid block on the best one of its proposer."""
    return script.nodes[proposer].chain.block((transaction,), WALL, proposer)


def view_change(
    script: Script, host: str, view: int, prepared: Certificate | None = None, block: Block | None = None
) -> ChangeView:
    """From the genesis block."""
    genesis = script.nodes[host].chain.best.header
    change = ViewChange(genesis.chain, 0, view, host, genesis, None, prepared)
    return ChangeView(sign(host, VIEW_CHANGE_DOMAIN, change), block)


def support(script: Script, host: str, block: Block, view: int, kinds: str, *to: str) -> None:
    """`host` votes for `block` in every one of `kinds`, and tells `to` alone."""
    for kind in kinds.split():
        for other in to:
            script.hand(host, other, vote(script, host, kind, view, block))


def propose(script: Script, host: str, block: Block, view: int, *to: str) -> None:
    for other in to:
        script.hand(host, other, Propose(view, block))


def new_view(script: Script, host: str, view: int, changes: list[Signed], height: int = 0) -> EnterView:
    """One that says that nothing is forced."""
    chain = script.nodes[host].chain.best.header.chain
    return EnterView(sign(host, NEW_VIEW_DOMAIN, NewView(chain, 0, view, host, height, (), tuple(changes))))

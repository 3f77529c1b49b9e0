"""A replica's data with many accounts, without the blocks that would open them."""

from collections.abc import Callable, Iterable
from hashlib import sha256

import msgspec

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, VOTE_DOMAIN, Ballot, Certificate, Members
from ledger.chain import Chain, Snapshot, founding_state
from ledger.contracts import accounts
from ledger.contracts.accounts import Account
from ledger.disk import Disk
from ledger.genesis import Genesis
from ledger.identity import Identity
from ledger.merkle import Tree
from ledger.snapshot import LEVEL, PIECES
from ledger.store import open_store

UNITS = 10**6  # that each account has

Keys = Callable[[str], Identity]  # of hosts, by name


def crowd(count: int) -> list[bytes]:
    """Keys of accounts that nobody can sign for."""
    return [sha256(b"crowd %d" % number).digest() for number in range(count)]


def with_accounts(founding: Genesis, keys: Iterable[bytes], hosts: Keys) -> Snapshot:
    """The chain with an account for each key, as if block 1 had opened them: the members have signed that."""
    value = codec.encode(Account(0, UNITS))
    state = Tree()
    state.apply(state.compute(founding_state(founding) | {accounts.state_key(key): value for key in keys}))
    chain = Chain(founding)
    header = msgspec.structs.replace(
        chain.best.header,
        height=1,
        parent=chain.best.digest(),
        state_root=state.root,
        timestamp=founding.created + 1,
        proposer=chain.members().members[0].host,
    )
    block = Block(header, ())
    return Snapshot(state, block, certify(block, chain.members(), hosts))


def certify(block: Block, members: Members, hosts: Keys) -> Certificate:
    """What a quorum of `members` signs when `block` is decided."""
    ballot = Ballot(block.header.chain, members.version, COMMIT, block.header.height, 0, block.digest())
    signers = sorted(member.host for member in members.members[: members.quorum])
    body = ballot.encode()
    return Certificate(ballot, tuple((host, hosts(host).sign(VOTE_DOMAIN, body)) for host in signers))


async def write(disk: Disk, founding: Genesis, taken: Snapshot) -> None:
    """Puts it on an empty disk, as a state that was fetched from peers."""
    opened = await open_store(disk, founding)
    nodes = taken.state.level(LEVEL)
    for piece in range(PIECES):
        await opened.keep_piece(piece, nodes[piece], taken.state.below(LEVEL, piece))
    await opened.write(*opened.leap(taken, ()))
    await opened.close()

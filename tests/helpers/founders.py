"""A small consortium with known keys, and a chain that decides at once."""

from hashlib import sha256

from ledger import codec, contracts, transaction
from ledger.block import Block
from ledger.certificate import COMMIT, VOTE_DOMAIN, Ballot, Certificate, Members
from ledger.chain import Chain
from ledger.contracts import accounts
from ledger.contracts.state import Overlay
from ledger.contracts.trust import VoteJoin, VoteRevoke
from ledger.genesis import Genesis, Organisation
from ledger.identity import Identity
from ledger.links.base import Passport
from ledger.transaction import Transaction

CREATED = 1_700_000_000_000
CHAIN = codec.digest("a chain for tests of contracts")
NAMES = ("north", "east", "south", "west", "upper", "lower", "inner")


def identity(name: str) -> Identity:
    """The same key for the same name, always."""
    return Identity(sha256(name.encode()).digest())


def organisation(name: str, hosts: int = 1) -> Organisation:
    """Organisation `north` votes with the key of "north"; its hosts are `north-1`, `north-2`, .."""
    port = 7000 + 10 * (sum(name.encode()) % 5000)
    return Organisation(
        name,
        identity(name).public,
        tuple(
            Passport(f"{name}-{i}", name, identity(f"{name}-{i}").public, f"127.0.0.1:{port + i}")
            for i in range(1, hosts + 1)
        ),
    )


def genesis(size: int = 4, hosts: int = 1, auditor: str | None = None) -> Genesis:
    founding = tuple(organisation(name, hosts) for name in NAMES[:size])
    return Genesis("testnet", CREATED, 1, founding, None if auditor is None else identity(auditor).public)


def call(chain_id: bytes, caller: str, nonce: int, action: object, contract: str = "trust") -> bytes:
    """A signed transaction of the key of `caller`."""
    signer = identity(caller)
    return transaction.sign(Transaction(chain_id, signer.public, nonce, contract, codec.encode(action)), signer)


def act(state: Overlay, caller: str, contract: str, action: object, height: int = 7) -> None:
    """Runs a transaction of the key of `caller` on `state`, as a block of `height` would."""
    key = identity(caller).public
    raw = codec.encode(action)
    contracts.run(state, Transaction(CHAIN, key, accounts.nonce(state, key), contract, raw), height)


def revoke(name: str, reason: str = "its key leaked") -> VoteRevoke:
    return VoteRevoke(name, reason)


def join(name: str, reason: str = "we know them", hosts: int = 1) -> VoteJoin:
    return VoteJoin(organisation(name, hosts), reason)


def certify(block: Block, members: Members, view: int = 0) -> Certificate:
    """The commit certificate that the first quorum of `members` gives (their keys are known by name)."""
    ballot = Ballot(block.header.chain, members.version, COMMIT, block.header.height, view, block.digest())
    hosts = sorted(member.host for member in members.members[: members.quorum])
    body = ballot.encode()
    return Certificate(ballot, tuple((host, identity(host).sign(VOTE_DOMAIN, body)) for host in hosts))


def decide(chain: Chain, *transactions: bytes) -> Block:
    """Puts `transactions` into one block on `chain`, which must take them all."""
    for raw in transactions:
        chain.take(raw, "a client")
    block = chain.build(chain.best.header.timestamp + 1000, chain.members().members[0].host)
    assert block is not None and set(block.transactions) == set(transactions)
    assert chain.check(block) is None
    chain.append(block, certify(block, chain.members()))
    return block


def vote(chain: Chain, voters: tuple[str, ...], action: object) -> Block:
    """Each voter's vote, in one block."""
    calls = [call(chain.id, voter, chain.nonce(identity(voter).public), action) for voter in voters]
    return decide(chain, *calls)

"""Fast stand-ins for keys and for the contracts' chain, so that a simulation spends its time on the engine."""

from collections.abc import Sequence
from hashlib import sha256

from ledger import codec
from ledger.block import RULES_VERSION, Block, Header, transactions_root
from ledger.certificate import Certificate, Member, Members
from ledger.errors import Misuse

GENESIS_TIME = 1_000_000  # milliseconds
BLOCK_TRANSACTIONS = 8


class FastKey:
    """Signs with a hash that anybody could compute; in a simulation only code of ours could forge."""

    def __init__(self, host: str) -> None:
        self.public = sha256(host.encode()).digest()

    def sign(self, domain: str, body: bytes) -> bytes:
        return _tag(self.public, domain, body)


def fast_verify(public: bytes, domain: str, body: bytes, signature: bytes) -> bool:
    return signature == _tag(public, domain, body)


def _tag(public: bytes, domain: str, body: bytes) -> bytes:
    return sha256(public + domain.encode() + b"\0" + body).digest() * 2


def make_members(n: int, kind: type[Members] = Members, names: Sequence[str] = ()) -> Members:
    hosts = names or [f"host{number}" for number in range(n)]
    return kind(0, tuple(Member(host, FastKey(host).public) for host in hosts))


def members_after(members: Members, transactions: tuple[bytes, ...]) -> Members:
    """Those who decide the next height: a transaction b"members x y=2 z" makes x, y with a new key, and z the members.

    So hosts join, leave, are suspended and rotate their keys.
    """
    for transaction in transactions:
        if names := new_members(transaction):
            chosen = tuple(Member(host, FastKey(key).public) for host, key in names.items())
            members = type(members)(members.version + 1, chosen)
    return members


def new_members(transaction: bytes) -> dict[str, str]:
    """The hosts with the names of their keys; empty for a transaction about something else."""
    word, *names = transaction.decode().split()
    return {name.partition("=")[0]: name for name in names} if word == "members" else {}


class TwinChain:
    """ledger.consensus.engine.Chain over a list of transactions, each of which may run once."""

    def __init__(self, members: Members) -> None:
        chain = codec.digest("simulation", members.digest())
        genesis = Header(
            chain, 0, bytes(32), transactions_root(()), bytes(32), members.digest(), RULES_VERSION, GENESIS_TIME, ""
        )
        self._members = members
        self._best = Block(genesis, ())
        self._keys: dict[str, str] = {}  # host -> the name of its key, once it was changed
        self.decided: set[bytes] = set()
        self.waiting: dict[bytes, None] = {}

    @property
    def best(self) -> Block:
        return self._best

    def members(self) -> Members:
        return self._members

    def key_name(self, host: str) -> str:
        """What makes the host's FastKey."""
        return self._keys.get(host, host)

    def build(self, wall: int, proposer: str) -> Block | None:
        chosen = tuple(list(self.waiting)[:BLOCK_TRANSACTIONS])
        if not chosen:
            return None
        return self.block(chosen, max(wall, self._best.header.timestamp + 1), proposer)

    def block(self, transactions: tuple[bytes, ...], timestamp: int, proposer: str) -> Block:
        """A block on the best one, as an adversary may also want it."""
        best = self._best.header
        return Block(
            Header(
                best.chain,
                best.height + 1,
                self._best.digest(),
                transactions_root(transactions),
                codec.digest("state", best.state_root, *transactions),
                self._members.digest(),
                RULES_VERSION,
                timestamp,
                proposer,
            ),
            transactions,
        )

    def backlog(self) -> float:
        return len(self.waiting) / BLOCK_TRANSACTIONS

    def first_in_line(self) -> list[bytes]:
        return list(self.waiting)

    def can_run(self, transaction: bytes) -> bool:
        return transaction in self.waiting

    def has_room(self, block: Block) -> bool:
        return 2 * len(block.transactions) <= BLOCK_TRANSACTIONS

    def check(self, block: Block) -> str | None:
        header = block.header
        expected = self.block(block.transactions, header.timestamp, header.proposer).header
        if header != expected or header.timestamp <= self._best.header.timestamp:
            return "its header is not what its transactions lead to"
        if not block.transactions or len(set(block.transactions)) < len(block.transactions):
            return "it is empty, or has a transaction twice"
        if any(transaction in self.decided for transaction in block.transactions):
            return "it has a transaction that has run"
        return None

    def append(self, block: Block, certificate: Certificate) -> None:
        if reason := self.check(block):
            raise Misuse(f"block {block.header.height} does not fit: {reason}")
        self._best = block
        self._members = members_after(self._members, block.transactions)
        self.decided.update(block.transactions)
        for transaction in block.transactions:
            self.waiting.pop(transaction, None)
            self._keys.update(new_members(transaction))

    def take(self, transaction: bytes) -> bool:
        """Into the mempool; False for one that is there or has run."""
        if transaction in self.decided or transaction in self.waiting:
            return False
        self.waiting[transaction] = None
        return True

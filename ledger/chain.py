"""The chain in memory: state, state tree, best block and what waits for the next one. Pure; ledger.store keeps it."""

from collections.abc import Callable, Collection

import msgspec

from ledger import contracts
from ledger.block import KNOWN_RULES, Block, Header, transactions_root
from ledger.certificate import COMMIT, Certificate, Members
from ledger.codec import DIGEST_BYTES
from ledger.contracts import accounts, callers, rules, trust
from ledger.contracts.state import Overlay, Recent, View
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.genesis import Genesis
from ledger.mempool import Mempool
from ledger.merkle import Changes, Tree, Update
from ledger.proof import StateProof
from ledger.sync import is_about
from ledger.transaction import Transaction, open_signed

MAX_BLOCK_TRANSACTIONS = 1000
MAX_BLOCK_BYTES = 1024 * 1024  # of the transactions in it; a single one always fits
MAX_OUTCOMES = 8  # blocks at one height whose execution is remembered between `check` and `append`

OnAppend = Callable[[Block, Changes], None]


class UnknownRules(Unavailable):
    """The chain goes on by rules that this software does not know. Whoever went on by others would fork."""


class Snapshot(msgspec.Struct, frozen=True):
    """A chain as the store had it: the state after `block`, which `certificate` decided."""

    state: Tree  # the chain that goes on from it takes it for its own: give it to one alone
    block: Block
    certificate: Certificate


class Outcome(msgspec.Struct, frozen=True):
    """What a block makes of the state."""

    block: Block
    changes: Changes
    update: Update


class Chain:
    """Implements ledger.consensus.engine.Chain."""

    def __init__(
        self,
        genesis: Genesis,
        snapshot: Snapshot | None = None,
        on_append: OnAppend | None = None,
        known_rules: Collection[int] = KNOWN_RULES,
    ) -> None:
        """From genesis, or from what the store kept. Raises Misuse for a snapshot of another chain or a damaged one.

        `on_append` hears of every block that is appended, with what it changes in the state. `known_rules` are the
        versions of the rules that this software can follow.
        """
        self._on_append = on_append
        self._known_rules = known_rules
        self.id = genesis.chain_id()
        self.mempool = Mempool(self.id)
        self._outcomes: dict[bytes, Outcome] = {}
        self._callers: dict[bytes, int] = {}  # who were found to be allowed to transact on the best block; their nonces
        if snapshot is None:
            self._tree = Tree()
            self._tree.apply(self._tree.compute(founding_state(genesis)))
            self._state = Recent(self._tree)
            self._best = genesis_block(genesis, self._tree.root, self.members())
            self.certificate: Certificate | None = None
        else:
            self._tree = snapshot.state
            self._state = Recent(self._tree)
            self._best = snapshot.block
            self.certificate = snapshot.certificate
            self._check_snapshot()

    @property
    def best(self) -> Block:
        return self._best

    @property
    def state(self) -> View:
        """The committed state; a view that follows the chain."""
        return self._state

    def members(self) -> Members:
        return trust.members(self._state)

    def rules(self) -> int:
        """The version of the rules by which the next block is made."""
        return rules.rules(self._state).version

    def knows_rules(self) -> bool:
        return self.rules() in self._known_rules

    def check_rules(self) -> None:
        """Raises UnknownRules when this software cannot follow the chain any further."""
        if not self.knows_rules():
            raise UnknownRules(
                f"from height {self._best.header.height + 1} on the chain has rules of version {self.rules()}; this"
                f" software knows {', '.join(map(str, sorted(self._known_rules)))}: install one that knows them"
            )

    # What waits

    def take(self, raw: bytes, sender: str) -> None:
        """Takes a transaction into the mempool.

        Raises PeerFault for one that is badly made, Misuse for one that cannot run, Unavailable for want of room.
        """
        transaction = self.open(raw, sender)
        account = transaction.account
        if account not in self._callers:
            callers.check(self._state, account)
            self._callers[account] = self.nonce(account)
        expected = self._callers[account]
        if transaction.nonce <= expected:
            contracts.run(Overlay(self._state), transaction, self._best.header.height + 1)
        self.mempool.add(raw, transaction, expected)

    def open(self, raw: bytes, sender: str) -> Transaction:
        """Verifies and parses, once for each transaction. Raises PeerFault."""
        return self.mempool.verified.open(raw, sender)

    def refusal(self, transaction: Transaction) -> str | None:
        """Why it cannot run on the committed state; None when it can."""
        return _run(Overlay(self._state), transaction, self._best.header.height + 1)

    def drop(self, transaction: Transaction) -> None:
        """Takes it out of the mempool."""
        waiting = self.mempool.find(transaction.account, transaction.nonce)
        if waiting is not None and waiting.transaction == transaction:
            self.mempool.remove(waiting)

    def nonce(self, account: bytes) -> int:
        """The nonce of the account's next transaction on the committed state."""
        known = self._callers.get(account)
        return accounts.nonce(self._state, account) if known is None else known

    # Blocks

    def build(self, wall: int, proposer: str) -> Block | None:
        """A block of what can run. What fails is left out, and what its account sent after it fails by its nonce.

        What waits and would be refused now if it came now is dropped: else it would be run in vain for every block.
        """
        if not self.knows_rules():
            return None
        best, members = self._best.header, self.members()
        height = best.height + 1
        overlay = Overlay(self._state)
        chosen: list[bytes] = []
        failed: list[Transaction] = []
        size = 0
        for waiting in self.mempool.in_turn(self.nonce):
            if len(chosen) == MAX_BLOCK_TRANSACTIONS or size + len(waiting.raw) > MAX_BLOCK_BYTES:
                break
            if _run(overlay, waiting.transaction, height) is None:
                chosen.append(waiting.raw)
                size += len(waiting.raw)
            else:
                failed.append(waiting.transaction)
        for transaction in failed:
            if transaction.nonce == self.nonce(transaction.account) and self.refusal(transaction) is not None:
                self.drop(transaction)
        if not chosen:
            return None
        contracts.end_block(overlay, height)
        update = self._tree.compute(overlay.changes)
        header = Header(
            chain=self.id,
            height=height,
            parent=self._best.digest(),
            transactions_root=transactions_root(tuple(chosen)),
            state_root=update.root,
            members_digest=members.digest(),
            rules=self.rules(),
            timestamp=max(wall, best.timestamp + 1),
            proposer=proposer,
        )
        block = Block(header, tuple(chosen))
        self._remember(Outcome(block, overlay.changes, update))
        return block

    def backlog(self) -> float:
        return max(len(self.mempool) / MAX_BLOCK_TRANSACTIONS, self.mempool.bytes / MAX_BLOCK_BYTES)

    def first_in_line(self) -> list[bytes]:
        return [waiting.raw for waiting in self.mempool.heads(self.nonce)]

    def can_run(self, transaction: bytes) -> bool:
        return self.refusal(self.open(transaction, "the mempool")) is None

    def has_room(self, block: Block) -> bool:
        """Half a block at least."""
        size = sum(map(len, block.transactions))
        return 2 * len(block.transactions) <= MAX_BLOCK_TRANSACTIONS and 2 * size <= MAX_BLOCK_BYTES

    def check(self, block: Block) -> str | None:
        outcome = self._execute(block)
        return outcome if isinstance(outcome, str) else None

    def append(self, block: Block, certificate: Certificate) -> None:
        """Makes `block` the best. The engine has checked who signed the certificate; here it must be of this block.

        A block that was not checked before, as when catching up, is executed all the same, and must lead to its
        state root; but its clients' signatures are not verified again (see `open_signed`).

        Raises Misuse if it does not fit, UnknownRules if this software cannot judge it.
        """
        self.check_rules()
        if not is_about(certificate, COMMIT, block):
            raise Misuse(f"the certificate is not of block {block.header.height}; nothing was appended")
        outcome = self._execute(block, decided=True)
        if isinstance(outcome, str):
            raise Misuse(f"block {block.header.height} cannot be appended: {outcome}")
        self._tree.apply(outcome.update)
        self._state.changed(outcome.changes)
        self._best, self.certificate = block, certificate
        self._outcomes.clear()
        self._callers.clear()
        self.mempool.forget_used(self.nonce)
        if self._on_append is not None:
            self._on_append(block, outcome.changes)

    def changes_members(self, block: Block) -> bool:
        """Whether `block`, the next one if it is decided, makes others the members."""
        outcome = self._execute(block)
        return isinstance(outcome, Outcome) and trust.MEMBERS in outcome.changes

    def copy(self) -> Snapshot:
        """The chain as it is now, for someone who lacks it. Raises Misuse at genesis, which nobody lacks."""
        if self.certificate is None:
            raise Misuse("a chain at genesis needs no copy")
        return Snapshot(self._tree.copy(), self._best, self.certificate)

    def state_below(self, level: int, index: int) -> tuple[bytes, ...]:
        """A part of the committed state: the buckets under one node of its tree (ledger.merkle)."""
        return self._tree.below(level, index)

    def prove(self, key: bytes) -> StateProof:
        """Evidence for what the best block's state has under `key`."""
        return StateProof(self._best.header, self.certificate, key, self._state.get(key), self._tree.prove(key))

    def _execute(self, block: Block, decided: bool = False) -> Outcome | str:
        """What `block` does on the best one, or why it is no valid successor. Each block is executed once."""
        known = self._outcomes.get(block.digest())
        if known is not None and known.block == block:
            return known
        if (reason := self._check_form(block)) is not None:
            return reason
        overlay = Overlay(self._state)
        for position, raw in enumerate(block.transactions):
            try:
                where = f"transaction {position}"
                transaction = open_signed(raw, self.id, where, decided=True) if decided else self.open(raw, where)
                contracts.run(overlay, transaction, block.header.height)
            except (PeerFault, Misuse) as error:
                return f"transaction {position} cannot run: {error}"
        contracts.end_block(overlay, block.header.height)
        update = self._tree.compute(overlay.changes)
        if block.header.state_root != update.root:
            return "its state root is not what its transactions lead to"
        outcome = Outcome(block, overlay.changes, update)
        self._remember(outcome)
        return outcome

    def _check_form(self, block: Block) -> str | None:
        """Every field of the header but the state root, and the limits. Cheap: no transaction is opened."""
        if not self.knows_rules():
            return f"it is made by rules of version {self.rules()}, which this software does not know"
        header, best = block.header, self._best.header
        members = self.members()
        expected = {
            "chain": self.id,
            "height": best.height + 1,
            "parent": self._best.digest(),
            "transactions_root": transactions_root(block.transactions),
            "members_digest": members.digest(),
            "rules": self.rules(),
        }
        for field, value in expected.items():
            if getattr(header, field) != value:
                return f"its {field.replace('_', ' ')} does not follow from the chain"
        if header.timestamp <= best.timestamp:
            return "its timestamp is not after its parent's"
        if members.key_of(header.proposer) is None:
            return f"its proposer {header.proposer} is no member"
        if not 1 <= len(block.transactions) <= MAX_BLOCK_TRANSACTIONS:
            return f"it has {len(block.transactions)} transactions; 1 to {MAX_BLOCK_TRANSACTIONS} are allowed"
        if sum(map(len, block.transactions)) > MAX_BLOCK_BYTES:
            return f"its transactions have more than {MAX_BLOCK_BYTES} bytes"
        return None

    def _remember(self, outcome: Outcome) -> None:
        if len(self._outcomes) == MAX_OUTCOMES:
            del self._outcomes[next(iter(self._outcomes))]
        self._outcomes[outcome.block.digest()] = outcome

    def _check_snapshot(self) -> None:
        header = self._best.header
        if header.chain != self.id:
            raise Misuse("the stored chain has another genesis than the one given; name the folder that belongs to it")
        if header.state_root != self._tree.root:
            raise Misuse(
                f"the stored state does not lead to the state root of block {header.height}: the database is damaged;"
                " remove it, and the replica fetches the chain from the others again"
            )


def founding_state(genesis: Genesis) -> dict[bytes, bytes]:
    """The state that block 0 commits to."""
    overlay = Overlay({})
    rules.found(overlay, genesis)
    trust.found(overlay, genesis)
    return {key: value for key, value in overlay.changes.items() if value is not None}


def genesis_block(genesis: Genesis, state_root: bytes, members: Members) -> Block:
    """Block 0. It needs no certificate: its chain id is the digest of what all founders signed."""
    header = Header(
        chain=genesis.chain_id(),
        height=0,
        parent=bytes(DIGEST_BYTES),
        transactions_root=transactions_root(()),
        state_root=state_root,
        members_digest=members.digest(),
        rules=genesis.rules,
        timestamp=genesis.created,
        proposer="",
    )
    return Block(header, ())


def _run(overlay: Overlay, transaction: Transaction, height: int) -> str | None:
    """Runs it, or says why it cannot run."""
    try:
        contracts.run(overlay, transaction, height)
    except Misuse as refusal:
        return str(refusal)
    return None

"""The chain on disk: blocks with certificates, the state, and what the engine must not forget.

A step of the engine is one transaction, so block, certificate, state and head are never seen apart, and the
engine's votes are forgotten in the same moment as their height is decided.
"""

import asyncio
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple, TypeVar

from ledger import codec
from ledger.block import Block
from ledger.certificate import Certificate
from ledger.chain import Changes, Snapshot, founding_state
from ledger.consensus.engine import RESTORED, Decide, Persist
from ledger.disk import Database, Disk, Statement
from ledger.errors import Misuse, PeerFault
from ledger.evidence import Evidence
from ledger.genesis import Genesis
from ledger.proof import StateProof
from ledger.snapshot import Pairs
from ledger.sqlite import Schema

T = TypeVar("T")
DATABASE = "ledger"
MAX_EVIDENCE = 16  # against one host
SCHEMA = Schema(
    "ledger",
    2,
    (
        "CREATE TABLE head (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), chain BLOB NOT NULL,"
        " height INTEGER NOT NULL)",
        "CREATE TABLE blocks (height INTEGER PRIMARY KEY, block BLOB NOT NULL, certificate BLOB NOT NULL)",
        "CREATE TABLE state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE engine (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        # Every change of members, with the proof that leads a light client over it (ledger.light).
        "CREATE TABLE changes (height INTEGER PRIMARY KEY, proof BLOB NOT NULL)",
        # A state that is being fetched, with the digests of the pieces that are here (ledger.snapshot).
        "CREATE TABLE pieces (piece INTEGER PRIMARY KEY, digest BLOB NOT NULL)",
        "CREATE TABLE arriving (piece INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
        " PRIMARY KEY (piece, key)) WITHOUT ROWID",
        "CREATE TABLE evidence (name BLOB PRIMARY KEY, host TEXT NOT NULL, evidence BLOB NOT NULL) WITHOUT ROWID",
    ),
)
ROWS = 64  # of the state in one statement: a statement a row would cost more than the row
_KEEP_ROWS = f"INSERT OR REPLACE INTO state VALUES {', '.join(['(?, ?)'] * ROWS)}"


class Stored(NamedTuple):
    snapshot: Snapshot | None  # None: the chain is at genesis
    engine: dict[str, bytes]  # what was given to Persist and not forgotten


class Store:
    """Open it with `open_store`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, *statements: Statement) -> "asyncio.Future[None]":
        """One transaction of what `persist` and `decide` give; done when durable."""
        return self._database.write(*statements)

    async def load(self) -> Stored:
        """What a replica starts from. Raises Misuse when it cannot be read: it is never repaired in silence."""
        ((height,),) = await self._database.read("SELECT height FROM head")
        engine = await self.engine()
        if height == 0:
            return Stored(None, engine)
        found = await self.blocks(height, height)
        if not found:
            raise Misuse(f"the ledger's database has no block {height}, its head: it is damaged; restore or remove it")
        state = dict(await self._database.read("SELECT key, value FROM state"))
        return Stored(Snapshot(state, *found[0]), engine)

    async def blocks(self, first: int, last: int) -> list[tuple[Block, Certificate]]:
        """The decided blocks of these heights (both included) that are here, in order.

        After a leap to a later state (see `leap`) those before it may be missing.
        """
        rows = await self._database.read(
            "SELECT block, certificate FROM blocks WHERE height BETWEEN ? AND ? ORDER BY height", (first, last)
        )
        try:
            return [(codec.decode(block, Block), codec.decode(raw, Certificate)) for block, raw in rows]
        except PeerFault as fault:
            raise Misuse(f"the ledger's database is damaged ({fault}); restore or remove it") from None

    async def changes(self) -> tuple[StateProof, ...]:
        """Every change of members since genesis, oldest first."""
        return await self._decoded("SELECT proof FROM changes ORDER BY height", StateProof)

    async def evidence(self) -> tuple[Evidence, ...]:
        """What shows that members signed twice."""
        return await self._decoded("SELECT evidence FROM evidence ORDER BY host, name", Evidence)

    async def engine(self) -> dict[str, bytes]:
        """What was given to Persist and not forgotten."""
        return dict(await self._database.read("SELECT key, value FROM engine"))

    # A state on its way

    async def pieces(self) -> dict[int, bytes]:
        """The pieces that are here, with their digests."""
        return dict(await self._database.read("SELECT piece, digest FROM pieces"))

    async def piece(self, piece: int) -> list[tuple[bytes, bytes]]:
        return await self._database.read("SELECT key, value FROM arriving WHERE piece = ?", (piece,))

    async def keep_piece(self, piece: int, digest: bytes, pairs: Pairs) -> None:
        rows: list[Statement] = [("INSERT INTO arriving VALUES (?, ?, ?)", (piece, *pair)) for pair in pairs]
        await self._database.write(
            ("DELETE FROM arriving WHERE piece = ?", (piece,)),
            ("INSERT OR REPLACE INTO pieces VALUES (?, ?)", (piece, digest)),
            *rows,
        )

    async def drop_pieces(self, pieces: Iterable[int]) -> None:
        for piece in pieces:
            await self._database.write(
                ("DELETE FROM arriving WHERE piece = ?", (piece,)), ("DELETE FROM pieces WHERE piece = ?", (piece,))
            )

    async def _decoded(self, sql: str, kind: type[T]) -> tuple[T, ...]:
        try:
            return tuple(codec.decode(raw, kind) for (raw,) in await self._database.read(sql))
        except PeerFault as fault:
            raise Misuse(f"the ledger's database is damaged ({fault}); restore or remove it") from None

    async def close(self) -> None:
        await self._database.close()


async def open_store(disk: Disk, genesis: Genesis) -> Store:
    """The store of this chain, made if it is missing. Raises Misuse when the disk holds another chain."""
    database = await disk.open(DATABASE, SCHEMA)
    chain = genesis.chain_id()
    rows = await database.read("SELECT chain FROM head")
    if not rows:
        founding = [("INSERT INTO state VALUES (?, ?)", item) for item in founding_state(genesis).items()]
        await database.write(*founding, ("INSERT INTO head VALUES (1, ?, 0)", (chain,)))
    elif rows != [(chain,)]:
        await database.close()
        raise Misuse(
            f"the data folder belongs to another chain than {genesis.name} ({chain.hex()[:16]});"
            " name the folder or the genesis that fits"
        )
    return Store(database)


async def mark_restored(disk: Disk, genesis: Genesis) -> int:
    """Says on the disk that it holds an old copy, before a replica starts from it; returns the height of the copy."""
    opened = await open_store(disk, genesis)
    try:
        await opened.write(persist(Persist(RESTORED, b"")))
        stored = await opened.load()
    finally:
        await opened.close()
    return stored.snapshot.block.header.height if stored.snapshot else 0


def persist(effect: Persist) -> Statement:
    if effect.value is None:
        return ("DELETE FROM engine WHERE key = ?", (effect.key,))
    return ("INSERT OR REPLACE INTO engine VALUES (?, ?)", (effect.key, effect.value))


def accuse(evidence: Evidence) -> Statement:
    """Kept once for each first statement, and no more of one host than anybody needs."""
    name = codec.digest("agentplatform/evidence", evidence.host.encode(), evidence.first.body)
    return (
        "INSERT OR IGNORE INTO evidence SELECT ?, ?, ? WHERE (SELECT count(*) FROM evidence WHERE host = ?) < ?",
        (name, evidence.host, codec.encode(evidence), evidence.host, MAX_EVIDENCE),
    )


def leap(snapshot: Snapshot, changes: Iterable[StateProof]) -> list[Statement]:
    """The state whose pieces are all here takes the place of the present one. The blocks in between stay missing."""
    height = snapshot.block.header.height
    return [
        ("DELETE FROM state", ()),
        ("INSERT INTO state SELECT key, value FROM arriving", ()),
        ("DELETE FROM arriving", ()),
        ("DELETE FROM pieces", ()),
        (
            "INSERT INTO blocks VALUES (?, ?, ?)",
            (height, codec.encode(snapshot.block), codec.encode(snapshot.certificate)),
        ),
        ("UPDATE head SET height = ?", (height,)),
        *(_change(change) for change in changes),
    ]


def _change(proof: StateProof) -> Statement:
    return ("INSERT OR IGNORE INTO changes VALUES (?, ?)", (proof.header.height, codec.encode(proof)))


def decide(effect: Decide, changes: Changes, members: StateProof | None = None) -> list[Statement]:
    """Block, certificate, state, head, and what the engine may now forget; `members` proves a change of them."""
    height = effect.block.header.height
    statements: list[Statement] = [
        (
            "INSERT INTO blocks VALUES (?, ?, ?)",
            (height, codec.encode(effect.block), codec.encode(effect.certificate)),
        ),
        ("UPDATE head SET height = ?", (height,)),
    ]
    statements += [("DELETE FROM state WHERE key = ?", (key,)) for key, value in changes.items() if value is None]
    rows = [pair for pair in changes.items() if pair[1] is not None]
    while len(rows) >= ROWS:
        statements.append((_KEEP_ROWS, tuple(chain.from_iterable(rows[-ROWS:]))))
        del rows[-ROWS:]
    statements += [("INSERT OR REPLACE INTO state VALUES (?, ?)", pair) for pair in rows]
    if members is not None:
        statements.append(_change(members))
    return statements + [persist(Persist(key, None)) for key in effect.forget]

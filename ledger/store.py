"""The chain on disk: blocks with certificates, the state, and what the engine must not forget.

A step of the engine is one transaction, so block, certificate, what it changes in the state, and head are never seen
apart, and the engine's votes are forgotten in the same moment as their height is decided. How the state is kept is
told in ledger.checkpoint.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

from ledger import checkpoint, codec, merkle, snapshot
from ledger.block import Block
from ledger.certificate import Certificate
from ledger.chain import Snapshot, founding_state
from ledger.checkpoint import Checkpoint
from ledger.consensus.engine import RESTORED, Decide, Persist
from ledger.database import Database, Statement
from ledger.disk import Disk
from ledger.errors import Misuse, PeerFault
from ledger.evidence import Evidence
from ledger.genesis import Genesis
from ledger.merkle import Changes, Tree
from ledger.proof import StateProof
from ledger.snapshot import PIECES, Buckets
from ledger.sqlite import Schema

T = TypeVar("T")
DATABASE = "ledger"
MAX_EVIDENCE = 16  # against one host
CHECK_BYTES = 4  # of a row: see `_keep`
SCHEMA = Schema(
    "ledger",
    4,
    (
        "CREATE TABLE head (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), chain BLOB NOT NULL,"
        " height INTEGER NOT NULL)",
        "CREATE TABLE blocks (height INTEGER PRIMARY KEY, block BLOB NOT NULL, certificate BLOB NOT NULL)",
        # The state in pieces (ledger.snapshot), each as it was after the block of `height`; and what blocks changed.
        "CREATE TABLE pieces (piece INTEGER PRIMARY KEY, height INTEGER NOT NULL, buckets BLOB NOT NULL)",
        "CREATE TABLE changed (height INTEGER PRIMARY KEY, changes BLOB NOT NULL)",
        "CREATE TABLE engine (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        # Every change of members, with the proof that leads a light client over it (ledger.light).
        "CREATE TABLE changes (height INTEGER PRIMARY KEY, proof BLOB NOT NULL)",
        # A state that is being fetched.
        "CREATE TABLE arriving (piece INTEGER PRIMARY KEY, digest BLOB NOT NULL, buckets BLOB NOT NULL)",
        "CREATE TABLE evidence (name BLOB PRIMARY KEY, host TEXT NOT NULL, evidence BLOB NOT NULL) WITHOUT ROWID",
    ),
)
AT_ONCE = 4  # blocks' changes that are in memory while the state is read
NEVER = -1  # the height of a piece that was not written yet: it is empty
_CHANGES: Any = tuple[tuple[bytes, bytes | None], ...]


class Stored(NamedTuple):
    snapshot: Snapshot | None  # None: the chain is at genesis
    engine: dict[str, bytes]  # what was given to Persist and not forgotten


class Store:
    """Open it with `open_store`."""

    def __init__(self, database: Database, turns: Checkpoint) -> None:
        self._database = database
        self._checkpoint = turns

    def write(self, *statements: Statement) -> "asyncio.Future[None]":
        """One transaction of what `persist` and `decide` give; done when durable."""
        return self._database.write(*statements)

    async def load(self) -> Stored:
        """What a replica starts from. Raises Misuse when it cannot be read: it is never repaired in silence."""
        height, engine = await self.height(), await self.engine()
        if height == 0:
            return Stored(None, engine)
        found = await self.blocks(height, height)
        if not found:
            raise Misuse(f"the ledger's database has no block {height}, its head: it is damaged; restore or remove it")
        return Stored(Snapshot(await self._state(), *found[0]), engine)

    async def height(self) -> int:
        """Of the best block; 0 at genesis."""
        ((height,),) = await self._database.read("SELECT CAST(height AS INTEGER) FROM head")
        return int(height)

    async def blocks(self, first: int, last: int) -> list[tuple[Block, Certificate]]:
        """The decided blocks of these heights (both included) that are here, in order.

        After a leap to a later state (see `leap`) those before it may be missing.
        """
        rows = await self._database.read(
            "SELECT height, block, certificate FROM blocks WHERE height BETWEEN ? AND ? ORDER BY height", (first, last)
        )
        try:
            return [
                (codec.decode(_kept(height, block), Block), codec.decode(_kept(height, raw), Certificate))
                for height, block, raw in rows
            ]
        except PeerFault as fault:
            raise _damaged(fault) from None

    async def some_blocks(self, first: int, last: int, size: int) -> list[tuple[Block, Certificate]]:
        """Of `blocks` the first ones, as many as have `size` bytes together; one at any rate. No more is read."""
        sizes = await self._database.read(
            "SELECT length(block) + length(certificate) FROM blocks WHERE height BETWEEN ? AND ? ORDER BY height",
            (first, last),
        )
        count = sum(end <= size for end in accumulate(each for (each,) in sizes))
        return await self.blocks(first, first + max(1, count) - 1)

    async def changes(self) -> tuple[StateProof, ...]:
        """Every change of members since genesis, oldest first."""
        return await self._decoded("SELECT height, proof FROM changes ORDER BY height", StateProof)

    async def evidence(self) -> tuple[Evidence, ...]:
        """What shows that members signed twice."""
        return await self._decoded("SELECT host, evidence FROM evidence ORDER BY host, name", Evidence)

    async def engine(self) -> dict[str, bytes]:
        """What was given to Persist and not forgotten."""
        rows = await self._database.read("SELECT CAST(key AS BLOB), value FROM engine")  # a damaged key is no text
        return {key: _kept(key, value) for key, value in ((raw.decode(errors="replace"), value) for raw, value in rows)}

    # The state

    def append(self, height: int, changes: Changes, below: Callable[[int, int], tuple[bytes, ...]]) -> list[Statement]:
        """What belongs to the block of `height` (see `decide`), at the moment when it is the best one.

        `below` is `Chain.state_below`. What this returns must be written, in the order of the calls.
        """
        raw = codec.encode(tuple(changes.items()))
        buckets = cache(partial(below, snapshot.LEVEL))
        due = self._checkpoint.turn(height, len(raw), lambda piece: sum(map(len, buckets(piece))))
        statements: list[Statement] = [("INSERT INTO changed VALUES (?, ?)", (height, raw))]
        for piece in due:
            content = snapshot.encode_piece(buckets(piece))
            statements.append(("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)", (piece, height, content)))
        if due:
            statements.append(("DELETE FROM changed WHERE height <= ?", (self._checkpoint.height,)))
        return statements

    async def _state(self) -> Tree:
        """All pieces, and on them what blocks changed since. Raises Misuse for what cannot be read."""
        buckets = await self._gather("SELECT buckets FROM pieces WHERE piece = ?")
        height = -1
        try:
            while rows := await self._database.read(
                "SELECT height, changes FROM changed WHERE height > ? ORDER BY height LIMIT ?", (height, AT_ONCE)
            ):
                for height, raw in rows:  # noqa: B007
                    buckets.update(merkle.changed(buckets, dict(codec.decode(raw, _CHANGES, "the database"))))
        except (PeerFault, ValueError, OverflowError, TypeError, struct.error) as error:  # ledger.bucket, on nonsense
            raise _damaged(error) from None
        return Tree(buckets)

    async def _gather(self, sql: str) -> dict[int, bytes]:
        """The buckets of all pieces, read one by one: all rows at once would be the state twice in memory."""
        buckets: dict[int, bytes] = {}
        for piece in range(PIECES):
            for (raw,) in await self._database.read(sql, (piece,)):
                try:
                    buckets.update(snapshot.decode_piece(raw, piece))
                except (PeerFault, TypeError) as fault:  # a damaged row may have a number where bytes were
                    raise _damaged(fault) from None
        return buckets

    # A state on its way

    async def arrived(self) -> dict[int, bytes]:
        """The pieces of another state that are here, with their digests."""
        return dict(await self._database.read("SELECT piece, digest FROM arriving"))

    async def arrived_state(self) -> Tree:
        """What they make together."""
        buckets = await self._gather("SELECT buckets FROM arriving WHERE piece = ?")
        return await asyncio.to_thread(Tree, buckets)

    async def keep_piece(self, piece: int, digest: bytes, buckets: Buckets) -> None:
        content = snapshot.encode_piece(buckets)
        await self._database.write(("INSERT OR REPLACE INTO arriving VALUES (?, ?, ?)", (piece, digest, content)))

    async def drop_pieces(self, pieces: Iterable[int]) -> None:
        await self._database.write(*(("DELETE FROM arriving WHERE piece = ?", (piece,)) for piece in pieces))

    def leap(self, taken: Snapshot, changes: Iterable[StateProof]) -> list[Statement]:
        """The state whose pieces are all here takes the place of the present one. The blocks in between stay missing.

        From now on `append` is about the chain that goes on from there.
        """
        height = taken.block.header.height
        self._checkpoint = Checkpoint([height] * PIECES, 0)
        return [
            ("DELETE FROM pieces", ()),
            ("DELETE FROM changed", ()),
            ("INSERT INTO pieces SELECT piece, ?, buckets FROM arriving", (height,)),
            ("DELETE FROM arriving", ()),
            _block(taken.block, taken.certificate),
            ("UPDATE head SET height = ?", (height,)),
            *(_change(change) for change in changes),
        ]

    async def _decoded(self, sql: str, kind: type[T]) -> tuple[T, ...]:
        try:
            return tuple(codec.decode(_kept(name, raw), kind) for name, raw in await self._database.read(sql))
        except PeerFault as fault:
            raise _damaged(fault) from None

    async def close(self) -> None:
        await self._database.close()


async def open_store(disk: Disk, genesis: Genesis) -> Store:
    """The store of this chain, made if it is missing. Raises Misuse when the disk holds another chain."""
    database = await disk.open(DATABASE, SCHEMA)
    chain = genesis.chain_id()
    rows = await database.read("SELECT chain FROM head")
    if not rows:
        founding = codec.encode(tuple(founding_state(genesis).items()))
        await database.write(
            ("INSERT INTO changed VALUES (0, ?)", (founding,)), ("INSERT INTO head VALUES (1, ?, 0)", (chain,))
        )
    elif rows != [(chain,)]:
        await database.close()
        raise Misuse(
            f"the data folder belongs to another chain than {genesis.name} ({chain.hex()[:16]});"
            " name the folder or the genesis that fits"
        )
    heights = [NEVER] * PIECES
    pieces = await database.read("SELECT piece, height FROM pieces WHERE piece BETWEEN 0 AND ?", (PIECES - 1,))
    if not all(isinstance(height, int) for _, height in pieces):
        await database.close()
        raise _damaged(TypeError("a piece of the state has no height"))
    for piece, height in pieces:
        heights[piece] = height
    ((changed,),) = await database.read(
        "SELECT coalesce(sum(length(changes) + ?), 0) FROM changed WHERE height > ?", (checkpoint.ROW, max(heights))
    )
    return Store(database, Checkpoint(heights, changed))


async def mark_restored(disk: Disk, genesis: Genesis) -> int:
    """Says on the disk that it holds an old copy, before a replica starts from it; returns the height of the copy."""
    opened = await open_store(disk, genesis)
    try:
        await opened.write(persist(Persist(RESTORED, b"")))
        return await opened.height()
    finally:
        await opened.close()


def persist(effect: Persist) -> Statement:
    if effect.value is None:
        return ("DELETE FROM engine WHERE key = ?", (effect.key,))
    return ("INSERT OR REPLACE INTO engine VALUES (?, ?)", (effect.key, _keep(effect.key, effect.value)))


def accuse(evidence: Evidence) -> Statement:
    """Kept once for each first statement, and no more of one host than anybody needs."""
    name = codec.digest("agentplatform/evidence", evidence.host.encode(), evidence.first.body)
    return (
        "INSERT OR IGNORE INTO evidence SELECT ?, ?, ? WHERE (SELECT count(*) FROM evidence WHERE host = ?) < ?",
        (name, evidence.host, _keep(evidence.host, codec.encode(evidence)), evidence.host, MAX_EVIDENCE),
    )


def _change(proof: StateProof) -> Statement:
    height = proof.header.height
    return ("INSERT OR IGNORE INTO changes VALUES (?, ?)", (height, _keep(height, codec.encode(proof))))


def _block(block: Block, certificate: Certificate) -> Statement:
    height = block.header.height
    kept = _keep(height, codec.encode(block)), _keep(height, codec.encode(certificate))
    return ("INSERT INTO blocks VALUES (?, ?, ?)", (height, *kept))


def decide(effect: Decide, state: list[Statement], members: StateProof | None = None) -> list[Statement]:
    """Block, certificate, head, and what the engine may now forget. `state` is what `Store.append` gave for the
    block; `members` proves a change of them."""
    height = effect.block.header.height
    statements: list[Statement] = [
        _block(effect.block, effect.certificate),
        ("UPDATE head SET height = ?", (height,)),
        *state,
    ]
    if members is not None:
        statements.append(_change(members))
    return statements + [persist(Persist(key, None)) for key in effect.forget]


def _keep(name: object, raw: bytes) -> bytes:
    """`raw` behind a checksum over it and its row's name, for `_kept`.

    SQLite has none, and only the state has a root to be compared with. With one bit less in what this host has signed
    it would sign again; with one less in a block it would be blamed by those whom it serves.
    """
    return _checksum(name, raw) + raw


def _kept(name: object, stored: bytes) -> bytes:
    raw = stored[CHECK_BYTES:] if isinstance(stored, bytes) else b""
    if stored != _keep(name, raw):
        raise _damaged(ValueError(f"the checksum of {name} does not hold"))
    return raw


def _checksum(name: object, raw: bytes) -> bytes:
    return crc32(raw, crc32(str(name).encode())).to_bytes(CHECK_BYTES, "big")


def _damaged(error: Exception) -> Misuse:
    return Misuse(f"the ledger's database is damaged ({error}); restore or remove it")

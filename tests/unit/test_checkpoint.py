"""How the state gets to the disk: bounded, and whole after a crash before or behind any write."""

from random import Random

import msgspec
import pytest

from ledger import checkpoint, codec, merkle, store
from ledger.block import Block
from ledger.chain import Chain, Snapshot, founding_state
from ledger.checkpoint import PAGE, ROW, SHARE, Checkpoint
from ledger.consensus.engine import Decide
from ledger.errors import Misuse
from ledger.memory_disk import MemoryDisk
from ledger.merkle import Tree
from ledger.snapshot import LEVEL, PIECES, encode_piece
from ledger.store import DATABASE, SCHEMA, Store, decide, open_store
from tests.helpers.founders import certify, genesis

SEED = 11
GENESIS = genesis()
BLOCKS = 30


class Life:
    """A state that changes at random, kept by a store; `disk` holds what is not synced."""

    def __init__(self, seed: int = SEED) -> None:
        self.random = Random(seed)  # noqa: S311  repeatable
        self.disk = MemoryDisk()
        self.model: dict[bytes, bytes | None] = dict(founding_state(GENESIS))
        self.state = Tree()
        self.state.apply(self.state.compute(self.model))
        self.best = Chain(GENESIS).best
        self.store: Store

    async def open(self) -> None:
        self.store = await open_store(self.disk, GENESIS)

    def next(self) -> tuple[Block, dict[bytes, bytes | None]]:
        """A block, and what it changes: new keys, other values and removals."""
        random, changes = self.random, dict[bytes, bytes | None]()
        for _ in range(random.randint(0, 12)):
            changes[b"key %d" % random.randrange(60)] = random.randbytes(random.randrange(200))
        for key in random.sample(sorted(self.model), 2):
            if key.startswith(b"key"):
                changes[key] = None
        root = self.state.compute(changes).root
        height = self.best.header.height + 1
        return Block(msgspec.structs.replace(self.best.header, height=height, state_root=root), ()), changes

    def append(self, block: Block, changes: dict[bytes, bytes | None]) -> None:
        """In memory."""
        self.state.apply(self.state.compute(changes))
        self.model.update(changes)
        self.best = block

    def write(self, block: Block, changes: dict[bytes, bytes | None]) -> None:
        """To the disk, which may hold it; `append` comes first."""
        rows = self.store.append(block.header.height, changes, self.state.below)
        certificate = certify(block, Chain(GENESIS).members())
        self.store.write(*decide(Decide(block, certificate), rows))

    async def check(self) -> None:
        """What the disk has is the best block and its state."""
        found = (await self.store.load()).snapshot
        assert found is not None and found.block == self.best
        assert found.state.root == self.best.header.state_root
        assert all(found.state.get(key) == value for key, value in self.model.items())

    async def rows(self, sql: str) -> list[tuple]:
        return await self.store._database.read(sql)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pieces have their turn within a few blocks."""
    monkeypatch.setattr(checkpoint, "PAGE", 128)


async def with_crashes(every: int) -> Life:
    """One block of so many is lost once with the power, and once it is only synced by the next start."""
    life = Life()
    await life.open()
    for number in range(BLOCKS):
        block, changes = life.next()
        before = life.state.copy()
        if number % every:
            life.append(block, changes)
            life.write(block, changes)
            await life.check()
            continue
        life.disk.hold = True
        life.append(block, changes)
        life.write(block, changes)
        life.disk.crash()
        life.disk.hold = False
        await life.open()
        assert await life.store.height() == number
        if number:
            found = (await life.store.load()).snapshot
            assert found is not None and found.state.root == found.block.header.state_root == before.root
        life.disk.hold = True
        life.write(block, changes)
        life.disk.kill()
        life.disk.hold = False
        await life.open()
        await life.check()
    return life


@pytest.mark.parametrize("every", [1, BLOCKS])
async def test_no_crash_leaves_a_state_that_is_not_that_of_its_block(every: int, small_pages: None) -> None:
    life = await with_crashes(every)
    pieces = await life.rows("SELECT min(height), count(*) FROM pieces")
    assert pieces[0][0] > BLOCKS / 2 and pieces[0][1] == PIECES  # each was written, more than once
    kept = [height for (height,) in await life.rows("SELECT height FROM changed ORDER BY height")]
    assert kept == list(range(pieces[0][0] + 1, BLOCKS + 1))  # and what all have is dropped


class DropsTooMuch(Checkpoint):
    """The broken twin: drops the changes that one piece has, and others have not."""

    @property
    def height(self) -> int:
        return max(self._heights)


class WritesTooEarly(Checkpoint):
    """Another one: takes pieces for written that are not. (After a restart it would see that.)"""

    def turn(self, *arguments: object) -> list[int]:
        return super().turn(*arguments)[1:]  # type: ignore[arg-type]


@pytest.mark.parametrize(("broken", "every"), [(DropsTooMuch, 1), (WritesTooEarly, BLOCKS)])
async def test_the_same_crashes_find_a_checkpoint_that_forgets(
    broken: type[Checkpoint], every: int, small_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "Checkpoint", broken)
    with pytest.raises(AssertionError):
        await with_crashes(every)


# What is kept is bounded


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("size", "least", "most"), [(150_000, 50, 90_000), (10, 1, 400), (5_000, 1_000_000, 2_000_000)]
)
def test_changes_are_kept_until_all_pieces_have_them_and_not_longer(
    size: int, least: int, most: int, restarts: bool
) -> None:
    """Also when the replica starts anew after every block; then what a turn had left over is lost."""
    random, pieces = Random(SEED), 64  # noqa: S311  repeatable
    heights, kept = [-1] * pieces, dict[int, int]()
    turns = Checkpoint(heights, 0)
    bound = (2 if restarts else 1) * pieces * max(PAGE, size) / SHARE + 2 * (most + ROW)
    writes = written = changed = 0
    while writes < 3 * pieces:
        height = changed + 1
        changed, kept[height] = height, random.randint(least, most)
        for piece in (due := turns.turn(height, kept[height], lambda piece: size)):
            heights[piece] = height
        writes, written = writes + len(due), written + len(due) * max(PAGE, size)
        kept = {each: bytes_ for each, bytes_ in kept.items() if each > min(heights)}
        assert turns.height == min(heights)
        assert sum(kept.values()) <= bound
        if restarts:
            turns = Checkpoint(heights, sum(ROW + each for at, each in kept.items() if at > max(heights)))
    assert min(heights) >= 0


def test_a_block_without_changes_moves_on_too() -> None:
    """An idle state must not keep the rows of changes for ever."""
    turns, blocks = Checkpoint([-1] * 4, 0), 0
    while turns.height < 0:
        blocks += 1
        turns.turn(blocks, 0, lambda piece: 0)
    assert blocks <= 4 * PAGE / (SHARE * ROW)


# A damaged disk is refused


async def kept_life() -> Life:
    life = Life()
    await life.open()
    for _ in range(5):
        block, changes = life.next()
        life.append(block, changes)
        life.write(block, changes)
    await life.check()
    await life.store.close()
    return life


DAMAGE = [
    "DELETE FROM changed WHERE height = 3",
    "UPDATE changed SET changes = x'00' WHERE height = 3",
    "UPDATE changed SET changes = (SELECT changes FROM changed WHERE height = 2) WHERE height = 3",
    "DELETE FROM pieces",
    "DELETE FROM pieces WHERE piece = (SELECT piece FROM pieces ORDER BY length(buckets) DESC LIMIT 1)",
    "UPDATE pieces SET buckets = x'dc0100'",
    "UPDATE pieces SET buckets = x''",
    "DELETE FROM blocks WHERE height = 5",
    "UPDATE head SET height = 4",
]


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_state_is_refused(damage: str, small_pages: None) -> None:
    life = await kept_life()
    database = await life.disk.open(DATABASE, SCHEMA)
    assert (await database.read("SELECT count(*) FROM pieces WHERE length(buckets) > 300"))[0][0]
    await database.write((damage, ()))
    assert (await database.read("SELECT changes()"))[0][0]
    await database.close()
    await life.open()
    with pytest.raises(Misuse, match="damaged"):
        Chain(GENESIS, (await life.store.load()).snapshot)


async def test_a_bit_that_flips_anywhere_in_the_state_is_found(small_pages: None) -> None:
    life = await kept_life()
    random = Random(SEED)  # noqa: S311  repeatable
    database = await life.disk.open(DATABASE, SCHEMA)
    rows = await database.read("SELECT piece, buckets FROM pieces WHERE length(buckets) > 300")
    await database.close()
    for _ in range(30):
        piece, raw = random.choice(rows)
        at = random.randrange(len(raw) * 8)
        flipped = bytearray(raw)
        flipped[at // 8] ^= 1 << at % 8
        for content, fits in ((bytes(flipped), False), (raw, True)):
            database = await life.disk.open(DATABASE, SCHEMA)
            await database.write(("UPDATE pieces SET buckets = ? WHERE piece = ?", (content, piece)))
            await database.close()
            await life.open()
            try:
                Chain(GENESIS, (await life.store.load()).snapshot)
            except Misuse as refusal:
                assert "damaged" in str(refusal) and not fits, (piece, at)
            else:
                assert fits, f"bit {at} of piece {piece} was not missed"
            await life.store.close()


async def test_a_leap_begins_the_turns_anew(small_pages: None) -> None:
    """What the pieces of the state before were does not count for those of the one that took its place."""
    life = await kept_life()
    await life.open()
    other = Life(SEED + 1)
    for _ in range(20):
        block, changes = other.next()
        other.append(block, changes)
    for piece, digest in enumerate(other.state.level(LEVEL)):
        if digest != merkle.empty_digest(LEVEL):
            await life.store.keep_piece(piece, digest, other.state.below(LEVEL, piece))
    assert (await life.store.arrived_state()).root == other.state.root
    taken = Snapshot(other.state, other.best, certify(other.best, Chain(GENESIS).members()))
    await life.store.write(*life.store.leap(taken, ()))
    assert await life.store.arrived() == {} == dict(await life.rows("SELECT height, changes FROM changed"))
    life.model, life.state, life.best = other.model, other.state, other.best
    await life.check()
    for _ in range(10):
        block, changes = life.next()
        life.append(block, changes)
        life.write(block, changes)
        await life.check()
        await life.store.close()
        await life.open()
    assert codec.decode(encode_piece(life.state.below(LEVEL, 0)), tuple[bytes, ...]) == life.state.below(LEVEL, 0)

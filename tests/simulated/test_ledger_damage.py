"""A replica's database whose bytes have changed: it starts from a whole state of before, or refuses and says why."""

import asyncio
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from ledger import codec, store
from ledger.chain import Chain
from ledger.consensus.ipbft.standing import PROPOSAL_KEY
from ledger.contracts import accounts
from ledger.disk import FileDisk
from ledger.errors import Misuse
from ledger.store import open_store
from tests.helpers.founders import NAMES, genesis, identity, join
from tests.helpers.replicas import Cluster
from tests.simulated.test_ledger_replicas import IPBFT, vote

FILES = ("ledger.db", "ledger.db-wal")
STEP = 4001  # bytes between two places where a log is cut: less than a page, so it is cut at all parts of one


class Content(NamedTuple):
    """All that a replica starts from, and serves."""

    height: int
    blocks: tuple[bytes, ...]
    engine: tuple[tuple[str, bytes], ...]
    changes: tuple[bytes, ...]


async def read(folder: Path) -> Content:
    """As a replica does that starts. Raises Misuse."""
    founding = genesis(4)
    disk = FileDisk(folder)
    try:
        opened = await open_store(disk, founding)
        stored = await opened.load()
        height = Chain(founding, stored.snapshot).best.header.height
        blocks = tuple(codec.encode(pair) for pair in await opened.blocks(1, height))
        changes = tuple(codec.encode(each) for each in await opened.changes())
        return Content(height, blocks, tuple(sorted(stored.engine.items())), changes)
    finally:
        await disk.close()


async def killed(folder: Path) -> Path:
    """The files of a replica that was killed when it had given its PREPARE for block 6."""
    async with Cluster(genesis(4), IPBFT) as four:
        await four.stop("east-1")
        disk = FileDisk(folder / "live")
        four.disks["east-1"] = disk  # type: ignore[assignment]
        east = await four.start("east-1")
        await vote(four, NAMES[:3], join("upper"))
        for number in range(3):
            action = accounts.Create(identity(f"opens {number}").public, 1)
            await four.replicas["north-1"].submit(four.call("north", action, "accounts", through="north-1"))
        await four.same_height(4)
        four.hub.drops = lambda source, target, *_: source in ("south-1", "west-1")
        last = four.call("north", accounts.Create(identity("last").public, 1), "accounts", through="north-1")
        four.replicas["north-1"].offer(last)
        assert east._store is not None
        async with asyncio.timeout(30):
            while PROPOSAL_KEY not in await east._store.engine():  # noqa: ASYNC110
                await asyncio.sleep(0.003)
        shutil.copytree(folder / "live", folder / "killed")
        four.hub.drops = lambda *_: False
        await four.stop("east-1")
        await disk.close()
        del four.disks["east-1"]
    return folder / "killed"


@contextmanager
def copy(folder: Path) -> Iterator[Path]:
    other = folder.parent / "copy"
    shutil.copytree(folder, other)
    try:
        yield other
    finally:
        shutil.rmtree(other)


def test_a_log_that_was_cut_anywhere_gives_a_whole_state_of_before(tmp_path: Path) -> None:
    """What was not synced may end anywhere. What it gives is a state that was: heights only grow with the log."""
    folder = asyncio.run(killed(tmp_path))
    with copy(folder) as untouched:
        whole = asyncio.run(read(untouched))
    log = (folder / FILES[1]).read_bytes()
    found: list[Content] = []
    for length in [*range(0, len(log), STEP), len(log)]:
        with copy(folder) as cut:
            (cut / FILES[1]).write_bytes(log[:length])
            found.append(asyncio.run(read(cut)))
    assert found[-1] == whole and whole.height > 3 and PROPOSAL_KEY in dict(whole.engine)
    heights = [content.height for content in found]
    assert heights == sorted(heights) and len(set(heights)) > 3
    assert all(content.blocks == whole.blocks[: content.height] for content in found)


def flips(folder: Path, step: int, seed: int) -> Counter[str]:
    """One bit of the database in each `step` bytes, one after the other: what came of it, by kind."""
    random = Random(seed)  # noqa: S311  repeatable
    connection = sqlite3.connect(folder / FILES[0])
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = asyncio.run(read(folder))
    raw = (folder / FILES[0]).read_bytes()
    outcomes: Counter[str] = Counter()
    for start in range(0, len(raw), step):
        place = min(start + random.randrange(step), len(raw) - 1)
        changed = bytearray(raw)
        changed[place] ^= 1 << random.randrange(8)
        with copy(folder) as other:
            (other / FILES[0]).write_bytes(changed)
            try:
                same = asyncio.run(read(other)) == whole
                outcomes["no harm" if same else "silence"] += 1
                assert same, f"seed {seed}: byte {place} was changed, and nobody noticed"
            except Misuse as refusal:
                assert re.search("move it away|restore|remove|name the folder", str(refusal)), refusal
                outcomes["refused"] += 1
    return outcomes


def test_a_bit_that_flips_is_noticed_or_does_no_harm(tmp_path: Path) -> None:
    outcomes = flips(asyncio.run(killed(tmp_path)), 1201, seed=1)
    assert outcomes["refused"] > 5, outcomes


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_bits_that_flip(tmp_path: Path) -> None:
    print(flips(asyncio.run(killed(tmp_path)), 61, seed=2))


def test_without_checksums_a_flipped_bit_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_checksum", lambda name, raw: b"none")
    folder = asyncio.run(killed(tmp_path))
    with pytest.raises(AssertionError, match="nobody noticed"):
        flips(folder, 1201, seed=1)

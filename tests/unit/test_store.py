"""What a replica reads from its disk for those who lack blocks."""

from ledger.block import Block, Header
from ledger.chain import Chain
from ledger.consensus.engine import Decide
from ledger.memory_disk import MemoryDisk
from ledger.store import Store, decide, open_store
from tests.helpers.founders import certify, genesis

GENESIS = genesis()
MEMBERS = Chain(GENESIS).members()


async def stored(sizes: list[int]) -> Store:
    """With a block of so many bytes for each height from 1 on."""
    store = await open_store(MemoryDisk(), GENESIS)
    for height, size in enumerate(sizes, 1):
        block = Block(Header(bytes(32), height, *[bytes(32)] * 4, 1, 7, "a"), (bytes(size),))
        await store.write(*decide(Decide(block, certify(block, MEMBERS)), []))
    return store


async def heights(store: Store, first: int, last: int, size: int) -> list[int]:
    return [block.header.height for block, _ in await store.some_blocks(first, last, size)]


async def test_no_more_blocks_are_read_than_fit_into_the_answer() -> None:
    store = await stored([10_000] * 5 + [100_000] + [10_000] * 5)
    assert await heights(store, 1, 64, 35_000) == [1, 2, 3]
    assert await heights(store, 4, 5, 35_000) == [4, 5]
    assert await heights(store, 6, 64, 35_000) == [6]  # one at any rate
    assert await heights(store, 5, 64, 115_000) == [5, 6]
    assert await heights(store, 1, 64, 10**6) == list(range(1, 12))
    assert await heights(store, 12, 64, 10**6) == []


async def test_who_asks_for_much_with_few_bytes_does_not_make_us_read_it() -> None:
    store = await stored([10_000] * 20)
    read: list[int] = []
    database = store._database
    perform = database.read

    async def noted(sql: str, parameters: tuple = ()) -> list[tuple]:
        rows = await perform(sql, parameters)
        read.append(sum(len(cell) for row in rows for cell in row if isinstance(cell, bytes)))
        return rows

    database.read = noted  # type: ignore[method-assign]
    await store.some_blocks(1, 20, 35_000)
    assert sum(read) < 35_000
    await store.blocks(1, 20)  # as it would be
    assert sum(read) > 200_000

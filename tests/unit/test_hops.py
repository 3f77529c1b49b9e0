"""The book of hops: what the disk did not take is written later, once."""

import asyncio
from typing import Any

import pytest

from agentplatform import hops
from agentplatform.custody.messages import Cargo
from agentplatform.custody.surroundings import Hop
from agentplatform.hops import HISTORY, HopBook
from ledger.client import Receipt
from ledger.errors import Unavailable
from services.dms.memory import MemoryStore


class Full(MemoryStore):
    """Takes nothing until there is room."""

    room, writes = False, 0

    async def write(self, *arguments: Any) -> None:
        self.writes += 1
        if not self.room:
            raise Unavailable("the disk is full")
        await super().write(*arguments)


class Taker:
    """A ledger that takes all."""

    async def call(self, contract: str, action: object) -> Receipt:
        return Receipt(1, bytes(32))


async def test_hops_without_room_are_written_when_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hops, "ROUND", 0.001)
    monkeypatch.setattr(hops, "RETRY", 0.001)
    store = Full()
    book = HopBook(store, Taker())  # type: ignore[arg-type]
    for number in range(3):
        book.add(Hop(bytes([number]), (Cargo("a", number),), (b"",), "north", "south", "", 0, 0.0, 0.0))
    running = asyncio.create_task(book.run())
    async with asyncio.timeout(30):
        while store.writes < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        store.room = True
        while len(await store.newest(HISTORY, 10)) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    rows = await book.newest(10)
    assert sorted(row["transfer"] for row in rows) == ["00", "01", "02"]
    running.cancel()

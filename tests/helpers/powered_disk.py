"""A disk in memory that takes a while for each sync, and tells of what happens on it."""

import asyncio
from collections.abc import Callable
from random import Random

from ledger.database import Statement
from ledger.memory_disk import MemoryDatabase, MemoryDisk
from ledger.sqlite import Schema

SYNC = 0.0005, 0.004  # seconds that a sync takes


class PoweredDisk(MemoryDisk):
    """Tells of every write, and of every sync: before it and after it."""

    def __init__(
        self,
        written: Callable[[], None],
        syncs: Callable[[], None],
        synced: Callable[[], None],
        random: Random,
    ) -> None:
        super().__init__(hold=True)
        self._written, self._syncs, self._synced, self._random = written, syncs, synced, random
        self.unsynced = False

    async def open(self, name: str, schema: Schema) -> MemoryDatabase:
        database = await super().open(name, schema)
        write = database.write

        def noted(*statements: Statement) -> "asyncio.Future[None]":
            future = write(*statements)
            if database in self._open.values():  # else it is of a process that is dead
                if not self.unsynced:
                    self.unsynced = True
                    asyncio.get_running_loop().call_later(self._random.uniform(*SYNC), self._sync_now)
                self._written()
            return self._answer(future)

        database.write = noted  # type: ignore[method-assign]
        return database

    def _answer(self, future: "asyncio.Future[None]") -> "asyncio.Future[None]":
        return future

    def _sync_now(self) -> None:
        self._syncs()
        self.unsynced = False
        self.sync()
        self._synced()


class EarlyDisk(PoweredDisk):
    """A broken twin: says that a write is durable when it is not."""

    def _answer(self, future: "asyncio.Future[None]") -> "asyncio.Future[None]":
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.set_result(None)
        return answer

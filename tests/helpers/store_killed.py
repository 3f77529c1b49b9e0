"""A process that writes batches to a store and tells of each on its output, to be killed in the middle; and its judge.

    python -m tests.helpers.store_killed KIND FOLDER

What a kind of store is says STORES: a further one is one row. Batch n appends n to a history and puts `size_of(n)`
documents, whose contents follow from n; it deletes those of batch n - KEPT.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random

from services.dms import sqlite
from services.dms.sqlite import SqliteStore
from services.dms.store import Store
from tests.helpers.losing_disk import LosingDisk, lose_power
from tests.helpers.store_conformance import OneByOne

KEPT = 5  # batches whose documents are there
HISTORY, COLLECTION = "batches", "documents"
FIRST_BATCHES = 3  # told of before a kill
PATIENCE = 30.0  # seconds until those are: a bound for broken code


def size_of(batch: int) -> int:
    return 3 + batch * 7 % 20


def document(batch: int, number: int) -> bytes:
    return f"{batch}/{number} ".encode() * (10 + number * 100)


def key(batch: int, number: int) -> str:
    return f"{batch:08}/{number:02}"


class OneByOneInSqlite(OneByOne, SqliteStore):
    pass


class Early(SqliteStore):
    """A broken twin: says that a batch is durable when it was only asked for."""

    _writing: set["asyncio.Task[None]"] = set()  # noqa: RUF012

    async def write(self, *batch: Sequence[tuple], **named: Sequence[tuple]) -> None:  # type: ignore[override]
        self._writing.add(asyncio.create_task(super().write(*batch, **named)))
        await asyncio.sleep(0)


async def _losing(folder: Path, syncs: bool) -> Store:
    """On a disk that has, after a loss of power, no more than was synced."""
    disk = LosingDisk(folder, Random(0), syncs=syncs)  # noqa: S311  of how long a sync takes
    sqlite.connect = disk.connect  # type: ignore[assignment]
    return await SqliteStore.open(folder / "dms.db")


STORES: dict[str, Callable[[Path], Awaitable[Store]]] = {
    "sqlite": lambda folder: SqliteStore.open(folder / "dms.db"),
    "one-by-one": lambda folder: OneByOneInSqlite.open(folder / "dms.db"),
    "early": lambda folder: Early.open(folder / "dms.db"),
    "losing": lambda folder: _losing(folder, syncs=True),
    "never-synced": lambda folder: _losing(folder, syncs=False),
}


async def write_batches(store: Store, told: Callable[[int], None]) -> None:
    newest = await store.newest(HISTORY, 1)
    batch = int(newest[0]) if newest else 0
    while True:
        batch += 1
        documents = [(COLLECTION, key(batch, number), document(batch, number)) for number in range(size_of(batch))]
        gone = [(COLLECTION, key(batch - KEPT, number)) for number in range(size_of(batch - KEPT))]
        await store.write([(HISTORY, str(batch).encode())], documents, gone if batch > KEPT else [])
        told(batch)


async def judge(store: Store, told: int) -> str | None:
    """What was not kept of the promise that batches up to `told` are there, and each is there whole or not at all."""
    newest = await store.newest(HISTORY, 1)
    last = int(newest[0]) if newest else 0
    if last < told:
        return f"batch {told} was told of, and {last} is the last"
    if [int(each) for each in await store.newest(HISTORY, last + 1)] != list(range(last, 0, -1)):
        return "the history has gaps"
    there = await store.keys(COLLECTION)
    wanted = [key(each, number) for each in range(max(1, last - KEPT + 1), last + 1) for number in range(size_of(each))]
    if there != wanted:
        return f"after batch {last} there are {len(there)} documents, and {len(wanted)} of them belong to whole batches"
    for each in there:
        batch, number = map(int, each.split("/"))
        if await store.get(COLLECTION, each) != document(batch, number):
            return f"document {each} is not what was put"
    return None


def kill_once(kind: str, folder: Path, random: Random) -> int:
    """Starts the process, kills it some time after its first batches, and returns the last that it told of. Whatever
    was not synced is lost with it, where the disk is such."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.store_killed", kind, str(folder)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    begun = time.monotonic()
    for _ in range(FIRST_BATCHES):
        assert process.stdout.readline() and time.monotonic() < begun + PATIENCE
    time.sleep(random.uniform(0, 0.1))  # a moment by chance: nothing is waited for
    process.send_signal(signal.SIGKILL)
    *_, last = [b"0", *process.stdout.read().splitlines()]
    process.wait()
    process.stdout.close()
    lose_power(folder, random)
    return int(last)


def _tell(batch: int) -> None:
    os.write(sys.stdout.fileno(), f"{batch:012}\n".encode())


async def _main(kind: str, folder: str) -> None:
    await write_batches(await STORES[kind](Path(folder)), _tell)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

"""What becomes of a full disk, told on a real one of 8 MiB: `python -m tests.helpers.full_disk_stories FOLDER` says for
each story, as one line of JSON, what went wrong (see tests.helpers.small_disk).
"""

import asyncio
import json
import os
import shutil
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import ledger.database
import ledger.disk
from ledger.database import Database, FileDatabase
from ledger.disk import FileDisk
from ledger.errors import Unavailable
from ledger.room import Reserve
from ledger.sqlite import Schema
from tests.helpers.small_disk import fill

SCHEMA = Schema("test", 1, ("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)",))
INSERT = "INSERT INTO t VALUES (?, ?)"
KEYS = "SELECT k FROM t ORDER BY k"
MIB = 1 << 20
SIZE = 8 * MIB
PATIENCE = 20.0  # seconds; a bound for broken code


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def keys(database: Database) -> list[int]:
    return [k for (k,) in await database.read(KEYS)]


async def what_has_no_room_waits_and_is_written_when_there_is_some(small: Path) -> None:
    disk = FileDisk(small / "data")
    told: list[bool] = []
    disk.room.on_change(lambda full: told.append(full is not None))
    database = await disk.open("a", SCHEMA)
    await disk.keep_free(MIB)
    assert (small / "data" / "reserve").stat().st_blocks * 512 >= MIB
    await database.write((INSERT, (0, b"")))
    filler = fill(small)
    large = database.write((INSERT, (1, bytes(3 * MIB))))
    behind = database.write((INSERT, (2, b"")))
    reading = asyncio.ensure_future(keys(database))
    await until(lambda: disk.room.full)
    assert not (small / "data" / "reserve").exists()  # it is used up first
    assert f"free 2 MiB under {small / 'data'}" in str(disk.room.full)
    with pytest.raises(Unavailable, match="the disk is full"):
        disk.room.check()
    await asyncio.sleep(0.05)
    assert not large.done() and not behind.done() and not reading.done() and database.failure is None
    filler.unlink()
    await asyncio.gather(large, behind)
    assert await reading == [0, 1, 2]
    await until(lambda: disk.room.full is None)
    assert told == [True, False]
    assert (small / "data" / "reserve").stat().st_size == MIB
    await disk.close()
    assert not (small / "data" / "reserve").exists()


async def the_reserve_lets_through_what_is_in_course(small: Path) -> None:
    disk = FileDisk(small / "data")
    database = await disk.open("a", SCHEMA)
    await disk.keep_free(2 * MIB)
    filler = fill(small)
    for k in range(100):
        await database.write((INSERT, (k, bytes(4000))))
        if disk.room.full:
            break
    await until(lambda: disk.room.full)
    for more in range(k + 1, k + 60):  # as many records as a handoff has, many times over
        await database.write((INSERT, (more, bytes(4000))))
    assert disk.room.full  # but nothing new is to begin: the reserve is used up
    filler.unlink()
    await until(lambda: disk.room.full is None)
    assert await keys(database) == list(range(k + 60))
    await disk.close()


async def small_writes_before_a_large_one_do_not_wait_for_it(small: Path) -> None:
    disk = FileDisk(small / "data")
    database = await disk.open("a", SCHEMA)
    await disk.keep_free(MIB)
    filler = fill(small)
    writes = [database.write((INSERT, (k, bytes(2000)))) for k in range(20)]
    large = database.write((INSERT, (20, bytes(4 * MIB))))
    await asyncio.gather(*writes)
    assert not large.done()
    filler.unlink()
    await large
    await disk.close()


async def a_wrong_write_among_those_that_wait_is_refused_and_none_is_written_twice(small: Path) -> None:
    disk = FileDisk(small / "data")
    database = await disk.open("a", SCHEMA)
    filler = fill(small, leave=MIB)
    first = database.write(("INSERT INTO t (v) VALUES (?)", (b"",)))
    wrong = database.write(("INSERT INTO nowhere VALUES (1)", ()))
    large = database.write((INSERT, (7, bytes(3 * MIB))))
    assert isinstance((await asyncio.gather(wrong, return_exceptions=True))[0], Exception)
    await until(lambda: disk.room.full)
    filler.unlink()
    await asyncio.gather(first, large)
    assert await keys(database) == [1, 7]
    await disk.close()


async def a_host_that_stops_does_not_wait_for_room(small: Path) -> None:
    disk = FileDisk(small / "data")
    database = await disk.open("a", SCHEMA)
    await database.write((INSERT, (1, b"")))
    filler = fill(small)
    large = database.write((INSERT, (2, bytes(3 * MIB))))
    await until(lambda: disk.room.full)
    await disk.close()
    assert large.cancelled()  # nobody was told that it is written
    filler.unlink()
    disk = FileDisk(small / "data")
    assert await keys(await disk.open("a", SCHEMA)) == [1]
    await disk.close()


async def a_disk_that_is_full_at_the_start_says_so_and_goes_on_by_itself(small: Path) -> None:
    disk = FileDisk(small / "data")
    await (await disk.open("a", SCHEMA)).write((INSERT, (1, b"")))
    await disk.close()
    filler = fill(small, leave=200_000)  # for the log's index
    disk = FileDisk(small / "data")
    database = await disk.open("a", SCHEMA)
    await disk.keep_free(MIB)
    assert disk.room.full
    filler.unlink()
    await until(lambda: disk.room.full is None)
    assert await keys(database) == [1]
    await disk.close()


async def a_database_that_cannot_be_opened_for_want_of_room_is_not_called_corrupt(small: Path) -> None:
    disk = FileDisk(small / "data")
    fill(small)
    with pytest.raises(Exception, match=r"cannot be opened: .*the disk \(space\)"):
        await disk.open("a", SCHEMA)
    await disk.close()


async def a_reserve_is_made_only_beside_as_much_room_again(small: Path) -> None:
    filler = fill(small, leave=3 * MIB)
    assert not Reserve(small, 2 * MIB).restore()
    assert os.listdir(small) == ["filler"]
    assert Reserve(small, MIB).restore()
    filler.unlink()


class Lies(FileDatabase):
    """A broken twin: says that what had no room is written."""

    def _resolve(self, outcomes, failure):  # type: ignore[no-untyped-def]
        super()._resolve(outcomes, failure)
        if not outcomes:
            super()._resolve([(self.last, None, None)], None)

    def write(self, *statements):  # type: ignore[no-untyped-def]
        self.last = super().write(*statements)
        return self.last


async def acknowledged_and_lost(folder: Path) -> bool:
    disk = FileDisk(folder / "data")
    database = await disk.open("a", SCHEMA)
    fill(folder)
    large = database.write((INSERT, (2, bytes(3 * MIB))))
    await until(lambda: disk.room.full)
    await disk.close()
    (folder / "filler").unlink()
    disk = FileDisk(folder / "data")
    lost = not large.cancelled() and not await keys(await disk.open("a", SCHEMA))
    await disk.close()
    return lost


async def the_harness_sees_a_database_that_lies(small: Path) -> None:
    assert not await acknowledged_and_lost(small)
    ledger.disk.FileDatabase = Lies  # type: ignore[misc]
    assert await acknowledged_and_lost(small)


STORIES: tuple[Callable[[Path], Awaitable[None]], ...] = (
    what_has_no_room_waits_and_is_written_when_there_is_some,
    the_reserve_lets_through_what_is_in_course,
    small_writes_before_a_large_one_do_not_wait_for_it,
    a_wrong_write_among_those_that_wait_is_refused_and_none_is_written_twice,
    a_host_that_stops_does_not_wait_for_room,
    a_disk_that_is_full_at_the_start_says_so_and_goes_on_by_itself,
    a_database_that_cannot_be_opened_for_want_of_room_is_not_called_corrupt,
    a_reserve_is_made_only_beside_as_much_room_again,
    the_harness_sees_a_database_that_lies,
)


def main(mount: Path) -> None:
    ledger.database.RETRY_SECONDS = ledger.disk.LOOK_SECONDS = 0.005
    for story in STORIES:
        folder = mount / "story"
        folder.mkdir()
        wrong = None
        try:
            asyncio.run(story(folder))  # type: ignore[arg-type]
        except BaseException:
            wrong = traceback.format_exc()
        print(json.dumps([story.__name__, wrong]), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

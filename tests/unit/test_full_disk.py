"""A full disk: what has no room waits, whole and in order, and nobody is told that it is written before it is."""

import asyncio
import errno
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import ledger.disk
from ledger.disk import FileDisk
from ledger.errors import Unavailable
from ledger.memory_disk import MemoryDisk
from ledger.room import is_full
from ledger.sqlite import Schema, connect
from tests.helpers.full_disk_stories import INSERT, PATIENCE, SCHEMA, SIZE, STORIES, keys, until
from tests.helpers.small_disk import on_small_disk, why_not

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.database.RETRY_SECONDS", 0.005)
    monkeypatch.setattr("ledger.disk.LOOK_SECONDS", 0.005)


# On a real disk.


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """All stories in one process: what went wrong, by name."""
    mount = tmp_path_factory.mktemp("small")
    if (reason := why_not(mount)) is not None:
        pytest.skip(reason)
    program = [sys.executable, "-m", "tests.helpers.full_disk_stories", str(mount)]
    done = subprocess.run(
        on_small_disk(mount, SIZE, program), cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE * 2
    )
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("story", [story.__name__ for story in STORIES])
def test_on_a_real_disk(story: str, told: dict[str, str | None]) -> None:
    assert told[story] is None, told[story]


# What is not a full disk.


class Failing(sqlite3.Connection):
    """Its commits fail as they do when the system refuses something."""

    code = sqlite3.SQLITE_IOERR_FSYNC

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:  # type: ignore[override]
        if sql == "COMMIT" and self.armed:
            super().execute("ROLLBACK")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(sql, *parameters)  # type: ignore[arg-type]

    armed = False


@pytest.mark.parametrize(
    ("code", "quota", "waits"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, True, False),  # even when the system says that it found no room for it
        (sqlite3.SQLITE_IOERR_SHMSIZE, True, False),  # behind the sync: nobody knows what is durable
        (sqlite3.SQLITE_IOERR_WRITE, True, True),
        (sqlite3.SQLITE_IOERR_WRITE, False, False),
        (sqlite3.SQLITE_FULL, False, True),
    ],
)
async def test_only_a_failed_write_can_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, quota: bool, waits: bool
) -> None:
    def failing(path: Path, schema: Schema) -> sqlite3.Connection:
        connect(path, schema).close()
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Failing)

    monkeypatch.setattr(ledger.disk, "connect", failing)
    monkeypatch.setattr(Failing, "code", code)
    monkeypatch.setattr("ledger.database.is_full", lambda folder: quota)
    disk = FileDisk(tmp_path / "data")
    failures: list[Unavailable] = []
    disk.on_failure(failures.append)
    database = await disk.open("a", SCHEMA)
    monkeypatch.setattr(Failing, "armed", True)
    write = database.write((INSERT, (1, b"")))
    await until(lambda: disk.room.full or failures)
    assert bool(disk.room.full) == waits and bool(failures) != waits
    if waits:
        monkeypatch.setattr(Failing, "armed", False)
        await write
    else:
        with pytest.raises(Unavailable, match="stop this process"):
            await write
    await disk.close()


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC, errno.EIO])
def test_a_quota_is_a_full_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    assert not is_full(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    if code == errno.EIO:
        with pytest.raises(OSError, match="put/output"):
            is_full(tmp_path)
    else:
        assert is_full(tmp_path)
    assert not list(tmp_path.iterdir())


# The twin.


async def test_the_twin_waits_too(tmp_path: Path) -> None:
    disk = MemoryDisk()
    told: list[bool] = []
    disk.room.on_change(lambda full: told.append(full is not None))
    database = await disk.open("a", SCHEMA)
    await database.write((INSERT, (1, b"")))
    disk.fill()
    second = database.write((INSERT, (2, b"")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not second.done()
    disk.make_room()
    await second
    assert told == [True, False]
    disk.fill()
    third = database.write((INSERT, (3, b"")))
    disk.kill()  # it was not even written
    assert third.cancelled()
    disk.make_room()
    assert await keys(await disk.open("a", SCHEMA)) == [1, 2]

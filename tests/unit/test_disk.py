"""The disk port: one contract for files and for their twin, and what each must do when things go wrong."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.database import Database, Statement
from ledger.disk import Disk, FileDisk
from ledger.errors import Misuse, Unavailable
from ledger.memory_disk import MemoryDatabase, MemoryDisk
from ledger.sqlite import Schema, connect

SCHEMA = Schema("test", 1, ("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)",))
INSERT = "INSERT INTO t VALUES (?, ?)"
KEYS = "SELECT k FROM t ORDER BY k"
REPOSITORY = Path(__file__).parents[2]

MakeDisk = Callable[[], Disk]


@pytest.fixture(params=["files", "memory"])
def make_disk(request: pytest.FixtureRequest, tmp_path: Path) -> MakeDisk:
    return (lambda: FileDisk(tmp_path / "data")) if request.param == "files" else MemoryDisk


async def keys(database: Database) -> list[int]:
    return [k for (k,) in await database.read(KEYS)]


# The contract, for both.


async def test_a_read_sees_the_writes_that_were_queued_before_it(make_disk: MakeDisk) -> None:
    disk = make_disk()
    database = await disk.open("a", SCHEMA)
    writes = [database.write((INSERT, (k, b"x"))) for k in range(50)]
    assert await keys(database) == list(range(50))
    assert all(write.done() for write in writes)  # what a read returns is durable
    await disk.close()


async def test_all_statements_of_a_write_or_none(make_disk: MakeDisk) -> None:
    disk = make_disk()
    database = await disk.open("a", SCHEMA)
    before = database.write((INSERT, (1, b"")))
    wrong = database.write((INSERT, (2, b"")), (INSERT, (1, b"")))
    after = database.write((INSERT, (3, b"")))
    nonsense = database.write(("INSERT INTO nowhere VALUES (1)", ()))
    too_large = database.write((INSERT, (2**80, b"")))
    await before
    for bad in (wrong, nonsense, too_large):
        with pytest.raises(Misuse, match="wrote nothing of it"):
            await bad
    await after
    assert await keys(database) == [1, 3]
    with pytest.raises(Misuse):
        await database.read("SELECT nothing")
    assert database.failure is None
    await disk.close()


async def test_rows_that_a_write_returns_do_not_block_its_commit(make_disk: MakeDisk) -> None:
    disk = make_disk()
    database = await disk.open("a", SCHEMA)
    assert await database.write(("INSERT INTO t VALUES (1, x''), (2, x'') RETURNING k", ())) is None
    assert await keys(database) == [1, 2]
    await disk.close()


async def test_a_name_is_opened_once_at_a_time(make_disk: MakeDisk) -> None:
    disk = make_disk()
    database = await disk.open("a", SCHEMA)
    with pytest.raises(Misuse, match="open already"):
        await disk.open("a", SCHEMA)
    pending = database.write((INSERT, (1, b"")))
    await database.close()
    await database.close()
    assert pending.done()
    with pytest.raises(Misuse, match="is closed"):
        database.write((INSERT, (2, b"")))
    assert await keys(await disk.open("a", SCHEMA)) == [1]
    with pytest.raises(Misuse, match="names no database"):
        await disk.open("../a", SCHEMA)
    await disk.close()


async def test_a_write_whose_waiter_gave_up_is_written(make_disk: MakeDisk) -> None:
    disk = make_disk()
    database = await disk.open("a", SCHEMA)
    database.write((INSERT, (1, b""))).cancel()
    assert await keys(database) == [1]
    await disk.close()


# The twin: what was not synced is lost.


async def test_a_crash_keeps_what_was_durable_and_nothing_else() -> None:
    disk = MemoryDisk(hold=True)
    database = await disk.open("a", SCHEMA)
    first = database.write((INSERT, (1, b"")))
    disk.sync()
    assert first.done()
    second = database.write((INSERT, (2, b"")))
    reading = asyncio.ensure_future(keys(database))
    await asyncio.sleep(0)
    assert not second.done()
    disk.crash()
    assert second.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert database.write((INSERT, (3, b""))).cancelled()  # the dead process's own tasks change nothing
    reopened = await disk.open("a", SCHEMA)
    assert await keys(reopened) == [1]


async def test_what_a_killed_process_wrote_is_synced_before_it_is_read() -> None:
    """Custody's clause L2: killed after an unsynced COMMIT, restarted, then power loss."""
    disk = MemoryDisk(hold=True)
    (await disk.open("a", SCHEMA)).write((INSERT, (1, b"")))
    disk.kill()
    assert await keys(await disk.open("a", SCHEMA)) == [1]
    disk.crash()
    assert await keys(await disk.open("a", SCHEMA)) == [1]


async def test_a_failed_sync_fails_the_database_for_good() -> None:
    disk = MemoryDisk()
    told: list[Unavailable] = []
    disk.on_failure(told.append)
    database = await disk.open("a", SCHEMA)
    await database.write((INSERT, (1, b"")))
    disk.fail_next_sync()
    lost = database.write((INSERT, (2, b"")))
    lost.add_done_callback(lambda _: told.append(Unavailable("the future")))
    with pytest.raises(Unavailable, match="stop this process"):
        await lost
    assert [str(one) for one in told] == [str(database.failure), "the future"]  # the observer hears of it first
    with pytest.raises(Unavailable):
        await database.write((INSERT, (3, b"")))
    with pytest.raises(Unavailable):
        await database.read(KEYS)
    disk.crash()
    assert await keys(await disk.open("a", SCHEMA)) == [1]


class AcknowledgesEarly(MemoryDisk):
    """A broken twin: its futures are done before anything is durable."""

    async def open(self, name: str, schema: Schema) -> MemoryDatabase:
        database = await super().open(name, schema)
        write = database.write

        def early(*statements: Statement) -> "asyncio.Future[None]":
            write(*statements)
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_result(None)
            return future

        database.write = early  # type: ignore[method-assign]
        return database


async def lost_by_a_crash(disk: MemoryDisk) -> set[int]:
    """Keys that were acknowledged, and are gone after a power loss at an arbitrary moment."""
    database = await disk.open("a", SCHEMA)
    acknowledged: set[int] = set()
    for k in range(10):
        database.write((INSERT, (k, b""))).add_done_callback(
            lambda future, k=k: None if future.cancelled() else acknowledged.add(k)
        )
        if k == 6:
            disk.sync()
    await asyncio.sleep(0)
    disk.crash()
    await asyncio.sleep(0)
    return acknowledged - set(await keys(await disk.open("a", SCHEMA)))


async def test_a_crash_loses_nothing_that_was_acknowledged_and_shows_a_disk_that_lies() -> None:
    assert await lost_by_a_crash(MemoryDisk(hold=True)) == set()
    assert await lost_by_a_crash(AcknowledgesEarly(hold=True)) == {7, 8, 9}


# Files.


async def test_folder_and_files_are_private(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "data")
    database = await disk.open("a", SCHEMA)
    await database.write((INSERT, (1, b"")))
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    files = sorted((tmp_path / "data").iterdir())
    assert [file.name for file in files] == ["a.db", "a.db-shm", "a.db-wal", "lock"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    await disk.close()


def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout and holder.stdout.readline() == "ready\n"
    with pytest.raises(Misuse, match=f"in use by process {holder.pid}; stop that process"):
        FileDisk(tmp_path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    asyncio.run(FileDisk(tmp_path).close())  # a dead holder holds nothing


async def test_the_folder_is_released(tmp_path: Path) -> None:
    await FileDisk(tmp_path).close()
    disk = FileDisk(tmp_path)
    with pytest.raises(Misuse, match=f"in use by process {os.getpid()}"):
        FileDisk(tmp_path)
    await disk.close()
    with pytest.raises(Misuse, match="was released"):
        await disk.open("a", SCHEMA)


def test_a_folder_that_is_open_to_others_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(Misuse, match=rf"\(mode 0755\); run: chmod 700 {tmp_path}"):
        FileDisk(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert not list(tmp_path.iterdir())


async def filled(folder: Path) -> Path:
    disk = FileDisk(folder)
    database = await disk.open("a", SCHEMA)
    for k in range(40):
        database.write((INSERT, (k, bytes(3000))))
    await disk.close()
    return folder / "a.db"


def torn_header(raw: bytearray) -> None:
    raw[:16] = b"not a database!!"


def torn_page(raw: bytearray) -> None:
    raw[4096:4200] = b"\xff" * 104


def emptied(raw: bytearray) -> None:
    raw.clear()


def cut_short(raw: bytearray) -> None:
    del raw[8192:]


def another_column(raw: bytearray) -> None:
    raw[:] = raw.replace(b"(k INTEGER", b"(j INTEGER")


def no_text(raw: bytearray) -> None:
    raw[:] = raw.replace(b", v BLOB", b", \xe1 BLOB")


@pytest.mark.parametrize("damage", [torn_header, torn_page, emptied, cut_short, another_column, no_text])
async def test_a_corrupt_file_is_refused_and_left_as_it_is(tmp_path: Path, damage: Callable) -> None:
    path = await filled(tmp_path)
    raw = bytearray(path.read_bytes())
    damage(raw)
    path.write_bytes(raw)
    disk = FileDisk(tmp_path)
    with pytest.raises(Misuse, match=r"a\.db is corrupt .*nothing was changed; move it away or restore a backup"):
        await disk.open("a", SCHEMA)
    assert path.read_bytes() == raw
    path.rename(tmp_path / "a.db.corrupt")  # the advice works
    await disk.open("a", SCHEMA)
    await disk.close()


async def test_a_corrupt_file_with_a_log_beside_it_is_left_as_it_is(tmp_path: Path) -> None:
    await filled(tmp_path / "live")
    disk = FileDisk(tmp_path / "live")
    database = await disk.open("a", SCHEMA)
    await database.write(("UPDATE t SET v = ? WHERE k = 7", (bytes(range(256)),)))  # stands in the log alone
    (tmp_path / "copy").mkdir(mode=0o700)
    before = {name: bytearray((tmp_path / "live" / name).read_bytes()) for name in ("a.db", "a.db-wal")}
    await disk.close()
    torn_header(before["a.db"])
    for name, raw in before.items():
        (tmp_path / "copy" / name).write_bytes(raw)
    copy = FileDisk(tmp_path / "copy")
    with pytest.raises(Misuse, match="is corrupt"):
        await copy.open("a", SCHEMA)
    assert {name: (tmp_path / "copy" / name).read_bytes() for name in before} == before
    (tmp_path / "copy" / "a.db").unlink()
    with pytest.raises(Misuse, match="move the log away too"):
        await copy.open("a", SCHEMA)
    await copy.close()


async def test_a_log_that_a_kill_left_is_read(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "live")
    database = await disk.open("a", SCHEMA)
    await database.write((INSERT, (1, b"")))
    (tmp_path / "copy").mkdir(mode=0o700)
    for name in ("a.db", "a.db-wal"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / "live" / name).read_bytes())
    await disk.close()
    copy = FileDisk(tmp_path / "copy")
    assert await keys(await copy.open("a", SCHEMA)) == [1]
    await copy.close()


async def test_files_of_others_and_of_other_versions_are_refused(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    before = path.read_bytes()
    disk = FileDisk(tmp_path)
    with pytest.raises(Misuse, match="no other database of this platform"):
        await disk.open("a", Schema("other", 1, SCHEMA.statements))
    with pytest.raises(Misuse, match=r"an older release \(version 1; this one knows 2\)"):
        await disk.open("a", Schema("test", 2, SCHEMA.statements))
    with pytest.raises(Misuse, match="a newer release"):
        await disk.open("a", Schema("test", 0, SCHEMA.statements))
    assert path.read_bytes() == before
    foreign = sqlite3.connect(tmp_path / "b.db")
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.close()
    with pytest.raises(Misuse, match="no test database"):
        await disk.open("b", SCHEMA)
    assert await keys(await disk.open("a", SCHEMA)) == list(range(40))
    await disk.close()


def test_connect_syncs_fully_and_starts_no_transaction_by_itself(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.db", SCHEMA)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.execute(INSERT, (1, b""))
    assert not connection.in_transaction
    connection.close()
    with pytest.raises(Misuse, match="cannot be opened"):
        connect(tmp_path / "missing" / "a.db", SCHEMA)


async def test_a_half_made_database_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "a.db.new").write_bytes(b"half")
    disk = FileDisk(tmp_path)
    await disk.open("a", SCHEMA)
    await disk.close()
    assert not (tmp_path / "a.db.new").exists()


def test_a_commit_that_the_system_refuses_fails_the_database(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["observer", "Unavailable", "Unavailable"], done.stderr


def test_acknowledged_rows_survive_a_kill(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    acknowledged = [int(writer.stdout.readline()) for _ in range(200)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    writer.wait()
    writer.stdout.close()

    async def survivors() -> list[tuple]:
        disk = FileDisk(tmp_path)
        rows = await (await disk.open("a", SCHEMA)).read("SELECT k, count(*) FROM t GROUP BY k / 2 ORDER BY k")
        await disk.close()
        return rows

    rows = asyncio.run(survivors())
    assert {count for _, count in rows} == {2}  # whole transactions
    assert set(acknowledged) <= {k for k, _ in rows}
    assert len(acknowledged) >= 200


PRELUDE = """
import asyncio, resource, sys
from pathlib import Path
from ledger.disk import FileDisk
from ledger.sqlite import Schema
SCHEMA = Schema("test", 1, ("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)",))
INSERT = "INSERT INTO t VALUES (?, ?)"
disk = FileDisk(Path(sys.argv[1]))
"""
HOLDER = PRELUDE + "print('ready', flush=True); sys.stdin.read(); import time; time.sleep(60)"
WRITER = PRELUDE + """
async def main():
    database = await disk.open("a", SCHEMA)
    async def write(lane):
        for k in range(lane, 10**6, 5):
            await database.write((INSERT, (2 * k, b"")), (INSERT, (2 * k + 1, bytes(300))))
            print(2 * k, flush=True)
    await asyncio.gather(*map(write, range(5)))
asyncio.run(main())
"""
LIMITED = PRELUDE + """
async def main():
    database = await disk.open("a", SCHEMA)
    disk.on_failure(lambda failure: print("observer"))
    await database.write((INSERT, (1, b"")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for k in (2, 3):
        try:
            await database.write((INSERT, (k, bytes(200_000))))
        except Exception as error:
            print(type(error).__name__)
asyncio.run(main())
"""

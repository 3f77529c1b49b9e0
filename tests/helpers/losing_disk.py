"""Real database files that lose what was not synced, when the driver takes the power away after a kill.

The kernel keeps what a killed process wrote, so a kill alone shows no missing fsync. Here nothing is ever synced for
real; a process notes beside each database how far its log was synced, and `lose_power` cuts the log somewhere behind
that. Full disks and failed fsyncs are asked for by files in the host's folder.
"""

import os
import sqlite3
import struct
import time
from pathlib import Path
from random import Random
from typing import Any

from ledger import sqlite
from ledger.sqlite import Schema

SYNC = 0.0005, 0.003  # seconds that a sync takes
CHECKPOINT_BYTES = 16 << 20  # of the log; then it goes into the database, and all is synced
WRITEBACK = 1.0  # seconds after which a kernel writes by itself what nobody synced
# Files. SLOW has the seconds that a sync takes at most, and perhaps of which database alone.
FULL, FAILING, SLOW = "disk-full", "fsync-fails", "fsync-slow"
_ALL = -1
_MARK = struct.Struct("<q")


class LosingDisk:
    """Takes the place of `ledger.sqlite.connect` in one process (see benchmarks.chaos_host)."""

    def __init__(self, folder: Path, random: Random, syncs: bool = True, syncs_first: bool = True) -> None:
        """`folder`: where the files are that ask for faults. Without `syncs` a commit is durable only when the kernel
        comes to write it; without `syncs_first` a database is opened as the last process left it."""
        self._folder, self._random = folder, random
        self._syncs, self._syncs_first = syncs, syncs_first
        self._written_back: dict[Path, float] = {}
        self._synced: dict[Path, int] = {}

    def connect(self, path: Path, schema: Schema) -> sqlite3.Connection:
        if self._syncs_first or not path.exists():
            sqlite.connect(path, schema).close()  # checks it, and moves the log into the file
            _mark(path, 0)
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql == "BEGIN":
                    disk.room(self)
                cursor = super().execute(sql, *parameters)
                if sql == "COMMIT":
                    disk.sync(self, path)
                return cursor

        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Connection)
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def room(self, connection: sqlite3.Connection) -> None:
        full = (self._folder / FULL).exists()
        pages = connection.execute("PRAGMA page_count").fetchone()[0] if full else 1 << 30
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def sync(self, connection: sqlite3.Connection, path: Path) -> None:
        log = _log(path)
        size = log.stat().st_size if log.exists() else 0
        if size == self._synced.get(path):
            return  # it only read
        if (self._folder / FAILING).exists():
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        if self._syncs:
            time.sleep(self._random.uniform(*SYNC) + self._slowness(path.stem))
            _mark(path, size)
        elif time.monotonic() - self._written_back.setdefault(path, time.monotonic()) > WRITEBACK:
            self._written_back[path] = time.monotonic()
            _mark(path, size)
        if size > CHECKPOINT_BYTES:
            _mark(path, _ALL)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            _mark(path, 0)
            size = 0
        self._synced[path] = size

    def _slowness(self, database: str) -> float:
        try:
            seconds, *alone = (self._folder / SLOW).read_text().split()
        except (FileNotFoundError, ValueError):
            return 0.0
        return self._random.uniform(0, float(seconds)) if alone in ([], [database]) else 0.0


def lose_power(data: Path, random: Random) -> int:
    """After a kill: cuts each log behind what was synced of it, at a place by chance. Returns the bytes lost."""
    lost = 0
    for mark in sorted(data.glob("*.synced")):
        database = mark.with_suffix(".db")
        log = _log(database)
        (synced,) = _MARK.unpack(mark.read_bytes())
        size = log.stat().st_size if log.exists() else 0
        if synced != _ALL and size > synced:
            stays = random.choice((synced, random.randint(synced, size)))
            os.truncate(log, stays)
            database.with_name(database.name + "-shm").unlink(missing_ok=True)
            lost += size - stays
    return lost


def _mark(path: Path, synced: int) -> None:
    descriptor = os.open(path.with_suffix(".synced"), os.O_WRONLY | os.O_CREAT, 0o600)
    os.pwrite(descriptor, _MARK.pack(synced), 0)
    os.close(descriptor)


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")

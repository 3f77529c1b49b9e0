"""The one way to durable bytes: SQLite databases in a host's data folder. ledger.memory_disk is the twin.

A write is queued at once, in the order of the calls, as one transaction; its future is done when it is durable.
What a read returns is durable too. After a failed commit nothing is certain about the disk: the database stays
failed, all that is asked of it raises Unavailable, and the process must send nothing more and stop.
"""

import asyncio
import fcntl
import os
import queue
import re
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from ledger.errors import Misuse, Unavailable
from ledger.sqlite import Schema, connect

Statement = tuple[str, tuple]  # SQL and its parameters
FailureObserver = Callable[[Unavailable], None]

# Codes (sqlite.org/rescode.html) by which a statement tells of the disk and not of itself.
_DISK_CODES = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
}


class Database(Protocol):
    @property
    def failure(self) -> Unavailable | None:
        """Why nothing more can be written; None while all is well."""

    def write(self, *statements: Statement) -> "asyncio.Future[None]":
        """Queues one transaction: all of `statements` or none. Done when durable.

        Raises (from the future) Misuse when a statement is wrong in itself, which harms no other transaction, and
        Unavailable when the database has failed. Cancelling the future does not take the write back.
        """

    async def read(self, sql: str, parameters: tuple = ()) -> list[tuple]:
        """Rows, as of all writes that were queued before; returns when those are durable."""

    async def close(self) -> None:
        """Ends when all that was queued is durable."""


class Disk(Protocol):
    async def open(self, name: str, schema: Schema) -> Database:
        """The database `name`, made if it is missing. Raises Misuse for one that is open or unlike `schema`."""

    def on_failure(self, observer: FailureObserver) -> None:
        """`observer` is called when a database of this disk fails, before any future tells of it."""

    async def close(self) -> None:
        """Closes the databases and releases the disk."""


class FileDisk:
    """A data folder (mode 0700) that belongs to this process alone, with one SQLite file a database (mode 0600)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._observers: list[FailureObserver] = []
        self._open: dict[str, FileDatabase | None] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = stat.S_IMODE(folder.stat().st_mode)
            if mode & 0o077:  # not closed silently: it may be a folder that others need, named by mistake
                raise Misuse(
                    f"the data folder {folder} is open to others (mode {mode:04o}); run: chmod 700 {folder}, "
                    "or name another folder"
                )
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Misuse(f"the data folder {folder} cannot be used: {error.strerror}; name another one") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 20).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise Misuse(
                f"the data folder {folder} is in use by process {holder}; stop that process, or name another folder"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    async def open(self, name: str, schema: Schema) -> "FileDatabase":
        check_name(name)
        if self._lock < 0:
            raise Misuse(f"the data folder {self.folder} was released; make a new FileDisk")
        if name in self._open:
            raise Misuse(f"the database {name} is open already")
        self._open[name] = None  # from now on, not only when it is open: opening takes a while
        try:
            connection = await asyncio.to_thread(connect, self.folder / f"{name}.db", schema)
        except BaseException:
            del self._open[name]
            raise
        database = FileDatabase(name, connection, self._failed, self._closed)
        self._open[name] = database
        return database

    def on_failure(self, observer: FailureObserver) -> None:
        self._observers.append(observer)

    async def close(self) -> None:
        for database in list(self._open.values()):
            if database:
                await database.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _failed(self, failure: Unavailable) -> None:
        for observer in self._observers:
            observer(failure)

    def _closed(self, name: str) -> None:
        self._open.pop(name, None)


class _Job(NamedTuple):
    statements: tuple[Statement, ...]
    future: "asyncio.Future"
    reads: bool  # the future gets the rows of the last statement


_Outcome = tuple["asyncio.Future", object, Exception | None]


class FileDatabase:
    """One thread owns the connection. It takes all that is queued and makes it durable by one COMMIT.

    Loop and thread meet twice for each group: at the queue, and when all its futures are resolved by one callback.
    """

    def __init__(
        self, name: str, connection: sqlite3.Connection, failed: FailureObserver, closed: Callable[[str], None]
    ) -> None:
        self.name = name
        self.failure: Unavailable | None = None
        self._connection = connection
        self._tell_failed = failed
        self._tell_closed = closed
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        threading.Thread(target=self._serve, name=f"disk-{name}", daemon=True).start()

    def write(self, *statements: Statement) -> "asyncio.Future[None]":
        return self._queue(statements, reads=False)

    async def read(self, sql: str, parameters: tuple = ()) -> list[tuple]:
        return await self._queue(((sql, parameters),), reads=True)

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        await asyncio.shield(self._ended)

    def _queue(self, statements: tuple[Statement, ...], reads: bool) -> "asyncio.Future":
        if self._closing:
            raise Misuse(f"the database {self.name} is closed; open it again")
        future = self._loop.create_future()
        if self.failure:
            future.set_exception(again(self.failure))
        else:
            self._jobs.put(_Job(statements, future, reads))
        return future

    # The loop's side of an answer.

    def _resolve(self, outcomes: list[_Outcome], failure: Unavailable | None) -> None:
        if failure and not self.failure:
            self.failure = failure
            self._tell_failed(failure)
        for future, rows, error in outcomes:
            if future.done():  # cancelled by who waited for it
                continue
            if error:
                future.set_exception(error)
            else:
                future.set_result(rows)

    def _finish(self) -> None:
        self._tell_closed(self.name)
        if not self._ended.done():
            self._ended.set_result(None)

    # The thread's side.

    def _serve(self) -> None:
        failure: Unavailable | None = None
        ending = False
        while not ending:
            group: list[_Job] = []
            job = self._jobs.get()
            with suppress(queue.Empty):
                while job:
                    group.append(job)
                    job = self._jobs.get_nowait()
                ending = True
            outcomes: list[_Outcome] = []
            if not failure:
                failure = self._perform(group, outcomes)
            if failure:
                told = {id(future) for future, _, _ in outcomes}
                outcomes += [(job.future, None, again(failure)) for job in group if id(job.future) not in told]
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
                self._loop.call_soon_threadsafe(self._resolve, outcomes, failure)
        with suppress(sqlite3.Error):  # what counts is durable already
            self._connection.close()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish)

    def _perform(self, group: list[_Job], outcomes: list[_Outcome]) -> Unavailable | None:
        """One transaction for the group; when a statement is wrong, one for each job, so that only its own fails."""
        run = self._connection.execute
        done: list[_Outcome] = []
        try:
            run("BEGIN")
            for job in group:
                rows = execute(self._connection, job.statements)
                done.append((job.future, rows if job.reads else None, None))
        except Exception as error:  # whatever it is: the thread must live, and the caller must hear of it
            with suppress(sqlite3.Error):
                run("ROLLBACK")
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_CODES:
                return disk_failure(self.name, error)
            if len(group) == 1:
                outcomes.append((group[0].future, None, refused(self.name, error)))
                return None
            failure = None
            for job in group:
                failure = failure or self._perform([job], outcomes)
            return failure
        try:
            run("COMMIT")
        except sqlite3.Error as error:
            return disk_failure(self.name, error)
        outcomes += done
        return None


def execute(connection: sqlite3.Connection, statements: tuple[Statement, ...]) -> list[tuple]:
    """The rows of the last statement. All rows are taken: a statement that is not at its end blocks the COMMIT."""
    rows: list[tuple] = []
    for sql, parameters in statements:
        rows = connection.execute(sql, parameters).fetchall()
    return rows


def check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,63}", name):
        raise Misuse(f"{name!r} names no database; use lower case letters, digits and '-'")


def refused(name: str, error: Exception) -> Misuse:
    return Misuse(f"the database {name} refused a transaction and wrote nothing of it: {error}; correct the statement")


def disk_failure(name: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"the disk failed under the database {name}: {error}; what was not confirmed may be lost; "
        "stop this process, see to the disk (space, health), and start it again"
    )


def again(failure: Unavailable) -> Unavailable:
    """A new object for each future: an exception that is raised twice collects the traces of both."""
    return Unavailable(str(failure))

"""One SQLite database of a disk (ledger.disk): a thread of its own makes durable, in their order, what is queued.

After a failed commit nothing is certain about the disk: the database stays failed, all that is asked of it raises
Unavailable, and the process must send nothing more and stop.

A full disk is another matter: SQLite says so of a transaction that it rolled back whole, before anything was synced. It
waits, and all behind it, until there is room (ledger.room); nothing is lost, and no future is done before its time.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from ledger.errors import Misuse, Unavailable
from ledger.room import is_full

log = logging.getLogger(__name__)

Statement = tuple[str, tuple]  # SQL and its parameters
RETRY_SECONDS = 0.25  # between two tries of what has no room

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

    def define(self, name: str, arguments: int, function: Callable[..., bytes]) -> None:
        """A function that statements may call, in any thread. It must not raise. Before the first statement."""

    async def close(self) -> None:
        """Ends when all that was queued is durable, or cancelled because the disk is full."""


class Owner(Protocol):
    """The disk that it lies on. All but `release` is called on the loop."""

    folder: Path

    def failed(self, failure: Unavailable) -> None:
        """Before any future tells of it."""

    def closed(self, name: str) -> None: ...

    def release(self) -> None:
        """From any thread: there is no room but the reserve."""

    def stands(self, name: str, stands: bool) -> None:
        """Whether a transaction has no room."""


class _Job(NamedTuple):
    statements: tuple[Statement, ...]
    future: "asyncio.Future"
    reads: bool  # the future gets the rows of the last statement


_Outcome = tuple["asyncio.Future", object, Exception | None]


class _Full(Exception):
    """There is no room for a transaction. It was rolled back whole."""


class FileDatabase:
    """One thread owns the connection. It takes all that is queued and makes it durable by one COMMIT.

    Loop and thread meet twice for each group: at the queue, and when all its futures are resolved by one callback.
    """

    def __init__(self, disk: Owner, name: str, connection: sqlite3.Connection) -> None:
        self.name = name
        self.failure: Unavailable | None = None
        self._disk = disk
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._given_up = threading.Event()  # it is closed: nobody waits for room any more
        threading.Thread(target=self._serve, name=f"disk-{name}", daemon=True).start()

    def write(self, *statements: Statement) -> "asyncio.Future[None]":
        return self._queue(statements, reads=False)

    async def read(self, sql: str, parameters: tuple = ()) -> list[tuple]:
        return await self._queue(((sql, parameters),), reads=True)

    def define(self, name: str, arguments: int, function: Callable[..., bytes]) -> None:
        self._connection.create_function(name, arguments, function)

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._given_up.set()
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
            self._disk.failed(failure)
        for future, rows, error in outcomes:
            if future.done():  # cancelled by who waited for it
                continue
            if error:
                future.set_exception(error)
            else:
                future.set_result(rows)

    def _cancel(self, jobs: list[_Job]) -> None:
        log.warning("the database %s was closed while the disk was full: %d writes were given up", self.name, len(jobs))
        for job in jobs:
            job.future.cancel()

    def _finish(self) -> None:
        self._disk.closed(self.name)
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
            failure = self._write(group, failure)
        with suppress(sqlite3.Error):  # what counts is durable already
            self._connection.close()
        self._call(self._finish)

    def _write(self, jobs: list[_Job], failure: Unavailable | None) -> Unavailable | None:
        """Makes the jobs durable, and tells of it. When there is no room for all at once, one after the other, in their
        order, each as soon as there is some: what stands before a large one need not wait for that."""
        alone = False
        while jobs:
            outcomes: list[_Outcome] = []
            full = False
            try:
                failure = failure or self._perform(jobs[:1] if alone else jobs, outcomes)
            except _Full:
                full = alone = True
            told = {id(future) for future, _, _ in outcomes}
            jobs = [job for job in jobs if id(job.future) not in told]
            if failure:
                outcomes += [(job.future, None, again(failure)) for job in jobs]
                jobs = []
            self._call(self._resolve, outcomes, failure)
            if full:
                self._disk.release()
            if alone:
                self._call(self._disk.stands, self.name, full)
            if full and self._given_up.wait(RETRY_SECONDS):
                self._call(self._cancel, jobs)
                jobs = []
        return failure

    def _perform(self, group: list[_Job], outcomes: list[_Outcome]) -> Unavailable | None:
        """One transaction for the group; when a statement is wrong, one for each job, so that only its own fails.
        Raises _Full when there is no room; then nothing was written of those that `outcomes` does not tell of."""
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
            self._check_room(error)
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
            self._check_room(error)
            return disk_failure(self.name, error)
        outcomes += done
        return None

    def _check_room(self, error: Exception) -> None:
        """Raises _Full for an error that says so, before anything was synced.

        In SQLite's log a commit is one write behind the others and then one sync. SQLITE_FULL is a failed write; a
        failed sync has another code, also when the system then says that the disk is full, and so has a failed write to
        the index beside the log, which comes behind the sync. Beyond a quota a write is SQLITE_IOERR_WRITE, as it is
        when the disk is broken: there a file of our own shows which.
        """
        code = getattr(error, "sqlite_errorcode", 0)
        if self._connection.in_transaction:
            return  # not even rolled back
        with suppress(OSError):  # broken
            if code & 0xFF == sqlite3.SQLITE_FULL or (
                code == sqlite3.SQLITE_IOERR_WRITE and is_full(self._disk.folder)
            ):
                raise _Full

    def _call(self, act: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
            self._loop.call_soon_threadsafe(act, *arguments)


def execute(connection: sqlite3.Connection, statements: tuple[Statement, ...]) -> list[tuple]:
    """The rows of the last statement. All rows are taken: a statement that is not at its end blocks the COMMIT."""
    rows: list[tuple] = []
    for sql, parameters in statements:
        rows = connection.execute(sql, parameters).fetchall()
    return rows


def refused(name: str, error: Exception) -> Misuse:
    return Misuse(f"the database {name} refused a transaction and wrote nothing of it: {error}; correct the statement")


def disk_failure(name: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"the disk failed under the database {name}: {error}; what was not confirmed may be lost; "
        "stop this process, see to the disk (its health), and start it again"
    )


def again(failure: Unavailable) -> Unavailable:
    """A new object for each future: an exception that is raised twice collects the traces of both."""
    return Unavailable(str(failure))

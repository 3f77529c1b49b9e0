"""The twin of ledger.disk for tests and simulations: real SQL in memory, which loses what was not synced."""

import asyncio
import sqlite3
from collections.abc import Callable

from ledger.database import Statement, again, disk_failure, execute, refused
from ledger.disk import FailureObserver, check_name
from ledger.errors import Misuse, Unavailable
from ledger.room import Room
from ledger.sqlite import Schema


class MemoryDisk:
    """The twin: real SQL in memory, where durable is what was synced and a crash loses the rest.

    A write becomes durable at the next turn of the loop; with `hold` only by `sync()`. The disk outlives the
    process: after `crash()` or `kill()`, open the databases again, from the same object.
    """

    def __init__(self, hold: bool = False) -> None:
        self.hold = hold
        self.room = Room()
        self._observers: list[FailureObserver] = []
        self._connections: dict[str, sqlite3.Connection] = {}  # a transaction that is open holds what is not durable
        self._schemas: dict[str, Schema] = {}
        self._open: dict[str, MemoryDatabase] = {}
        self._next_sync_fails = False

    async def open(self, name: str, schema: Schema) -> "MemoryDatabase":
        check_name(name)
        if name in self._open:
            raise Misuse(f"the database {name} is open already")
        if self._schemas.setdefault(name, schema) != schema:
            raise Misuse(f"the database {name} was made with another schema; open it with that one")
        if name not in self._connections:
            self._connections[name] = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            schema.create(self._connections[name])
        if self._connections[name].in_transaction:  # a process was killed; what it wrote is synced before it is read
            self._connections[name].execute("COMMIT")
        self._open[name] = MemoryDatabase(self, name, self._connections[name])
        return self._open[name]

    def on_failure(self, observer: FailureObserver) -> None:
        self._observers.append(observer)

    async def close(self) -> None:
        for database in list(self._open.values()):
            await database.close()

    def sync(self) -> None:
        """Makes all durable that was written so far, in every database."""
        for database in list(self._open.values()):
            database.sync()

    def crash(self) -> None:
        """Power loss: what is not durable is gone. Futures are cancelled: nobody is left to hear of it."""
        for connection in self._connections.values():
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        self.kill()

    def kill(self) -> None:
        """The process ends without warning, the machine goes on: what it wrote is there, but not yet durable. What had
        no room is not."""
        if self.room.full:
            for connection in self._connections.values():
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        self.room.forget()
        for database in self._open.values():
            database.die()
        self._open.clear()
        self._observers.clear()
        self._next_sync_fails = False

    def fill(self) -> None:
        """There is no room, from now on and for what is not durable: it waits."""
        self.room.change(Unavailable("the disk is full: free 1 MiB in memory"))

    def make_room(self) -> None:
        self.room.change(None)
        for database in list(self._open.values()):
            database.go_on()

    def fail_next_sync(self) -> None:
        """The next sync of a database reports an error, and what it should have made durable is lost."""
        self._next_sync_fails = True

    def take_fault(self) -> bool:
        fault, self._next_sync_fails = self._next_sync_fails, False
        return fault

    def failed(self, failure: Unavailable) -> None:
        for observer in self._observers:
            observer(failure)

    def closed(self, name: str) -> None:
        self._open.pop(name, None)


class MemoryDatabase:
    def __init__(self, disk: MemoryDisk, name: str, connection: sqlite3.Connection) -> None:
        self.name = name
        self.failure: Unavailable | None = None
        self._disk = disk
        self._connection = connection
        self._waiting: list[tuple[asyncio.Future, object]] = []
        self._closed = False
        self._dead = False

    def write(self, *statements: Statement) -> "asyncio.Future[None]":
        return self._queue(statements, reads=False)

    async def read(self, sql: str, parameters: tuple = ()) -> list[tuple]:
        return await self._queue(((sql, parameters),), reads=True)

    def define(self, name: str, arguments: int, function: Callable[..., bytes]) -> None:
        self._connection.create_function(name, arguments, function)

    async def close(self) -> None:
        if self._closed or self._dead:
            return
        self.sync()
        if self._waiting:  # there is no room
            self._connection.execute("ROLLBACK")
            self.die()
        self._closed = True
        self._disk.closed(self.name)

    def sync(self) -> None:
        if self._disk.room.full and self._connection.in_transaction:
            return
        waiting, self._waiting = self._waiting, []
        if self._dead or self._closed:
            return
        if waiting and self._disk.take_fault():
            self._connection.execute("ROLLBACK")
            self.failure = disk_failure(self.name, OSError("the sync failed"))
            self._disk.failed(self.failure)
        elif self._connection.in_transaction:
            self._connection.execute("COMMIT")
        for future, rows in waiting:
            if future.done():
                continue
            if self.failure:
                future.set_exception(again(self.failure))
            else:
                future.set_result(rows)

    def go_on(self) -> None:
        """There is room again."""
        if self._waiting and not self._disk.hold:
            self.sync()

    def die(self) -> None:
        self._dead = True
        for future, _ in self._waiting:
            future.cancel()

    def _queue(self, statements: tuple[Statement, ...], reads: bool) -> "asyncio.Future":
        if self._closed:
            raise Misuse(f"the database {self.name} is closed; open it again")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if self._dead:
            future.cancel()
            return future
        if self.failure:
            future.set_exception(again(self.failure))
            return future
        try:
            rows = self._perform(statements, reads)
        except Exception as error:  # as FileDatabase does
            future.set_exception(refused(self.name, error))
            return future
        self._waiting.append((future, rows if reads else None))
        if not self._disk.hold or (reads and not self._connection.in_transaction):
            loop.call_soon(self.sync)
        return future

    def _perform(self, statements: tuple[Statement, ...], reads: bool) -> list[tuple]:
        """Within the transaction that the next sync commits; the savepoint keeps a wrong write from harming others."""
        if reads:
            return execute(self._connection, statements)
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
        self._connection.execute("SAVEPOINT job")
        try:
            return execute(self._connection, statements)
        except Exception:
            self._connection.execute("ROLLBACK TO job")
            raise
        finally:
            self._connection.execute("RELEASE job")

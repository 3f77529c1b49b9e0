"""The one way to durable bytes: SQLite databases in a host's data folder. ledger.memory_disk is the twin.

A write is queued at once, in the order of the calls, as one transaction; its future is done when it is durable.
What a read returns is durable too. What becomes of a failed or a full disk is told in ledger.database.
"""

import asyncio
import fcntl
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ledger.database import Database, FileDatabase
from ledger.errors import Misuse, Unavailable
from ledger.room import Reserve, Room
from ledger.sqlite import Schema, connect

FailureObserver = Callable[[Unavailable], None]

LOOK_SECONDS = 1.0  # between two looks whether the reserve has room again


class Disk(Protocol):
    @property
    def room(self) -> Room:
        """Whether it has room."""

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
        self.room = Room()
        self._observers: list[FailureObserver] = []
        self._open: dict[str, FileDatabase | None] = {}
        self._reserve = Reserve(folder, 0)
        self._standing: set[str] = set()  # databases with a transaction that has no room
        self._fills = 0  # how often one had none
        self._looking: asyncio.Task[None] | None = None
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
        self._reserve.release()  # for what is to be done before `keep_free`
        with suppress(OSError):  # a full disk; the lock holds all the same
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
        database = FileDatabase(self, name, connection)
        self._open[name] = database
        return database

    async def keep_free(self, size: int) -> None:
        """From now on so many bytes are kept free. They are used up first when the disk is full: for what is in course
        by then, since whoever observes `room` begins nothing new."""
        self._reserve = Reserve(self.folder, size)
        if not await asyncio.to_thread(self._reserve.restore):
            self._fill()

    def on_failure(self, observer: FailureObserver) -> None:
        self._observers.append(observer)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        for database in list(self._open.values()):
            if database:
                await database.close()
        if self._lock >= 0:
            self._reserve.release()  # whoever comes next makes its own
            os.close(self._lock)
            self._lock = -1

    # What its databases tell

    def failed(self, failure: Unavailable) -> None:
        for observer in self._observers:
            observer(failure)

    def closed(self, name: str) -> None:
        self._open.pop(name, None)
        self._standing.discard(name)

    def release(self) -> None:
        """From any thread: there is no room but the reserve."""
        self._reserve.release()

    def stands(self, name: str, stands: bool) -> None:
        """Whether a transaction of that database has no room."""
        if stands:
            self._standing.add(name)
            self._fill()
        else:
            self._standing.discard(name)

    def _fill(self) -> None:
        self._fills += 1
        self.room.change(no_room(self.folder, self._reserve.size))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        """Until what stood is written, and the reserve is there again."""
        fills = -1
        while self._standing or fills != self._fills:
            await asyncio.sleep(LOOK_SECONDS)
            seen = self._fills
            if not self._standing and await asyncio.to_thread(self._reserve.restore):
                fills = seen
        self.room.change(None)


def check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,63}", name):
        raise Misuse(f"{name!r} names no database; use lower case letters, digits and '-'")


def no_room(folder: Path, reserve: int) -> Unavailable:
    least = max(1, 2 * reserve >> 20)
    return Unavailable(
        f"the disk is full: free {least} MiB under {folder}; until then nothing new begins here, and nothing leaves "
        "that is not written; then all goes on by itself",
        retry_after=1.0,
    )

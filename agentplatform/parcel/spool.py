"""Where a host keeps states that are too large for memory: one file each, written and read by pieces.

What a file is for stands in the custody journal. A file counts only when the record that names it is durable, and it is
synced before that; one that no record names is removed, at the latest when the host starts again.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from agentplatform.parcel.freight import PIECE_BYTES, Freight, Spooled, piece_digest
from ledger.durable import sync
from ledger.errors import Misuse, Unavailable
from services.dms.sealing import FILE_SALT_BYTES, Keyring, crypt

T = TypeVar("T")
MIN_FREE_BYTES = 256 << 20  # left on the disk: the journal and the ledger need room more than any agent
# A larger one is not sealed: it is mapped where it lies, and nothing of it is copied into memory before it is used.
MAX_SEALED_BYTES = 256 << 20
THREADS = 3  # each has one piece in memory


class Spool(Protocol):
    async def create(self, size: int) -> str:
        """A new file of `size` bytes, and the room for it. Raises Unavailable when the disk has none."""

    def descriptor(self, name: str, *, write: bool) -> int:
        """A file descriptor for a worker; whoever asks closes it. Raises Unavailable when the file is gone."""

    def key(self, name: str) -> bytes:
        """That the file is sealed with (services.dms.sealing.crypt), for a worker; empty when it is not. Raises
        Unavailable when that key is not here."""

    def size(self, name: str) -> int:
        """Of the file, in bytes; a worker may have changed it."""

    async def put(self, name: str, freight: Freight, number: int, body: bytes) -> bool:
        """Writes a piece; False, and not written, when it is not the one of the table. Raises Unavailable."""

    async def get(self, name: str, freight: Freight, number: int) -> bytes:
        """A piece as the table has it: a worker that wrote the file may hold it open, and write to it still. Raises
        Unavailable when it cannot be read, or is not what was told of."""

    async def sync(self, name: str) -> None:
        """Makes the file durable. Raises Unavailable; then it is worth nothing."""

    async def verify(self, name: str, freight: Freight) -> None:
        """Reads the whole file. Raises Misuse when it is not the state of the table any more."""

    def settle(self, name: str) -> None:
        """The record that names this file is durable."""

    def remove(self, name: str) -> None:
        """For one that is gone already it does nothing."""

    def settled(self) -> set[str]:
        """All files but those for which a record may be about to be written."""


class FileSpool:
    """A folder (mode 0700). All that takes long runs in threads of its own."""

    def __init__(self, folder: Path, keyring: Keyring, min_free: int = MIN_FREE_BYTES) -> None:
        """`min_free`: bytes that stay free on the disk."""
        self._folder, self._keyring, self._min_free = folder, keyring, min_free
        self._threads = ThreadPoolExecutor(THREADS, "spool")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._settled = {path.name for path in folder.iterdir()}
        except OSError as error:
            raise Misuse(f"the folder {folder} cannot be made: {error.strerror}; see to the data folder") from None

    async def create(self, size: int) -> str:
        name = self._keyring.name_file(os.urandom(FILE_SALT_BYTES), sealed=size <= MAX_SEALED_BYTES)
        try:
            await self._do(lambda: self._reserve(name, size))
        except BaseException:
            self.remove(name)
            raise
        return name

    def descriptor(self, name: str, *, write: bool) -> int:
        try:
            return os.open(self._folder / name, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            raise _unavailable(error) from None

    def key(self, name: str) -> bytes:
        try:
            return self._keyring.file_key(name)
        except (Misuse, ValueError) as error:
            raise Unavailable(str(error)) from None

    def size(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_size
        except OSError as error:
            raise _unavailable(error) from None

    async def put(self, name: str, freight: Freight, number: int, body: bytes) -> bool:
        def write() -> bool:
            if not freight.has(number, body):
                return False
            file = self.descriptor(name, write=True)
            try:
                sealed = crypt(self.key(name), number * PIECE_BYTES, body)
                if os.pwrite(file, sealed, number * PIECE_BYTES) != len(body):
                    raise OSError(0, "a piece was written in part")
                start_writing_back(file, number * PIECE_BYTES, len(body))
            finally:
                os.close(file)
            return True

        return await self._do(write)

    async def get(self, name: str, freight: Freight, number: int) -> bytes:
        def read() -> bytes:
            body = self._read(name, freight, number)
            if not freight.has(number, body):  # of the bytes that are sent, not of those in the file: that may change
                raise _changed(number)
            return body

        return await self._do(read)

    async def sync(self, name: str) -> None:
        def both() -> None:
            sync(self._folder / name)
            sync(self._folder)

        await self._do(both)

    async def verify(self, name: str, freight: Freight) -> None:
        def verify() -> None:
            size = self.size(name)
            if size != freight.size:
                raise Misuse(
                    f"its state on the disk has {size} bytes, and {freight.size} were written: see to the disk"
                )
            for number in range(freight.count):
                if not freight.has(number, self._read(name, freight, number)):
                    raise Misuse(f"piece {number} of its state was changed on the disk: see to the disk")

        await self._do(verify)

    def settle(self, name: str) -> None:
        self._settled.add(name)

    def remove(self, name: str) -> None:
        self._settled.discard(name)
        (self._folder / name).unlink(missing_ok=True)

    def settled(self) -> set[str]:
        return self._settled.copy()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise _unavailable(error) from None

    def _reserve(self, name: str, size: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free - size < self._min_free:
            raise Unavailable(
                f"a state of {size} bytes has no room on the disk: {free} bytes are free, and {self._min_free} must "
                "stay so; make room there, or choose another host"
            )
        file = os.open(self._folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, size)  # so that nobody else takes the room meanwhile
        finally:
            os.close(file)
        sync(self._folder)  # its name: a worker that writes to it may make durable what it writes, but not that

    def _read(self, name: str, freight: Freight, number: int) -> bytes:
        file = self.descriptor(name, write=False)
        try:
            body = os.pread(file, freight.length(number), number * PIECE_BYTES)
            body = bytes(crypt(self.key(name), number * PIECE_BYTES, body))
        finally:
            os.close(file)
        if len(body) != freight.length(number):
            raise OSError(0, f"the file ends within piece {number}")
        return body


class MemorySpool:
    """The twin: what was not synced is gone after a crash. Workers cannot write to it."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room  # bytes for all files together
        self.files: dict[str, bytearray] = {}
        self._durable: dict[str, bytes] = {}
        self._fresh: set[str] = set()
        self._count = 0

    async def create(self, size: int) -> str:
        free = self.room - sum(map(len, self.files.values()))
        if size > free:
            raise Unavailable(f"a state of {size} bytes has no room on the disk: {free} bytes are free")
        self._count += 1
        name = f"{self._count:032x}"
        self._fresh.add(name)
        self.files[name] = bytearray(size)
        return name

    def take(self, state: bytes) -> Spooled:
        """As if a worker had written it."""
        self._count += 1
        name = f"{self._count:032x}"
        self._fresh.add(name)
        self.files[name] = bytearray(state)
        pieces = (state[at : at + PIECE_BYTES] for at in range(0, len(state), PIECE_BYTES))
        return Spooled(Freight(len(state), b"".join(map(piece_digest, pieces))), name)

    def keep(self, state: bytes) -> Spooled:
        """As if a worker had written it, and made it durable."""
        spooled = self.take(state)
        self._durable[spooled.file] = state
        return spooled

    def descriptor(self, name: str, *, write: bool) -> int:
        raise Unavailable("a spool in memory has no files for workers")

    def key(self, name: str) -> bytes:
        return b""

    def size(self, name: str) -> int:
        return len(self._file(name))

    async def put(self, name: str, freight: Freight, number: int, body: bytes) -> bool:
        await asyncio.sleep(0)
        if not freight.has(number, body):
            return False
        at = number * PIECE_BYTES
        self._file(name)[at : at + len(body)] = body
        return True

    async def get(self, name: str, freight: Freight, number: int) -> bytes:
        await asyncio.sleep(0)
        body = self._read(name, freight, number)
        if not freight.has(number, body):
            raise _changed(number)
        return body

    async def sync(self, name: str) -> None:
        await asyncio.sleep(0)
        self._durable[name] = bytes(self._file(name))

    async def verify(self, name: str, freight: Freight) -> None:
        await asyncio.sleep(0)
        for number in range(freight.count):
            if not freight.has(number, self._read(name, freight, number)):
                raise Misuse(f"piece {number} of its state was changed on the disk: see to the disk")

    def settle(self, name: str) -> None:
        self._fresh.discard(name)

    def remove(self, name: str) -> None:
        self._fresh.discard(name)
        self.files.pop(name, None)
        self._durable.pop(name, None)

    def settled(self) -> set[str]:
        return self.files.keys() - self._fresh

    def crash(self) -> None:
        """Power loss. A file's name may stay where its bytes are lost: they read as zeros."""
        self.files = {name: bytearray(self._durable.get(name, bytes(len(file)))) for name, file in self.files.items()}
        self._fresh.clear()

    def _read(self, name: str, freight: Freight, number: int) -> bytes:
        at = number * PIECE_BYTES
        return bytes(self._file(name)[at : at + freight.length(number)])

    def _file(self, name: str) -> bytearray:
        try:
            return self.files[name]
        except KeyError:
            raise Unavailable(f"the spool has no file {name}") from None


def start_writing_back(file: int, at: int, length: int) -> None:
    """Lets the disk begin now with what a sync would wait for later. The advice drops clean pages too, and here there
    are none: they were written this moment."""
    os.posix_fadvise(file, at, length, os.POSIX_FADV_DONTNEED)


def _changed(number: int) -> Unavailable:
    return Unavailable(
        f"piece {number} of its state is not what its worker told of: its code wrote to it afterwards, or the disk "
        "lost it"
    )


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(f"the spool of large states failed: {error.strerror or error}; see to the disk (space, health)")

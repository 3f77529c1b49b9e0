"""The store on one SQLite file, through aiosqlite: its thread does the work, the event loop never waits for a disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from ledger.errors import Misuse, Unavailable
from ledger.sqlite import Schema, connect
from services.dms.store import blob_digest, check_all, check_limit, check_names, check_prefix, check_value

SCHEMA = Schema(
    name="dms",
    version=2,  # 1: before values were sealed (services.dms.sealed)
    statements=(
        "CREATE TABLE documents (collection TEXT, key TEXT, value BLOB, PRIMARY KEY (collection, key)) WITHOUT ROWID",
        "CREATE TABLE entries (history TEXT, number INTEGER, entry BLOB, PRIMARY KEY (history, number)) WITHOUT ROWID",
        "CREATE TABLE blobs (digest BLOB PRIMARY KEY, blob BLOB)",
    ),
)


PUT = "INSERT OR REPLACE INTO documents VALUES (?, ?, ?)"
DELETE = "DELETE FROM documents WHERE collection = ? AND key = ?"
APPEND = "INSERT INTO entries SELECT ?1, 1 + COALESCE(MAX(number), 0), ?2 FROM entries WHERE history = ?1"
# Not LIKE, to which some letters are equal and others are patterns.
KEYS = """SELECT key FROM documents
    WHERE collection = ?1 AND key >= ?2 AND substr(key, 1, length(?2)) = ?2 ORDER BY key"""
TRIM = """DELETE FROM entries WHERE history = ?1 AND number <= (
    SELECT number FROM entries WHERE history = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2
) RETURNING number"""


class SqliteStore:
    """Made by `open`. Each statement is a transaction of its own; several in one are none of anybody else."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection: aiosqlite.Connection | None = connection
        self._path = path
        self._alone = asyncio.Lock()  # the connection's thread takes statements one by one, whoever sent them

    @classmethod
    async def open(cls, path: Path) -> "SqliteStore":
        """The store in `path`, made if it is missing. Raises Misuse for a file that is corrupt or another's."""
        # Opened before aiosqlite starts its thread, which would outlive a connector that fails.
        ready = await asyncio.to_thread(connect, path, SCHEMA)
        return cls(await aiosqlite.Connection(lambda: ready, iter_chunk_size=64), path)

    async def put(self, collection: str, key: str, value: bytes) -> None:
        check_names(collection, key)
        check_value(value)
        await self._run(PUT, (collection, key, value))

    async def get(self, collection: str, key: str) -> bytes | None:
        check_names(collection, key)
        rows = await self._run("SELECT value FROM documents WHERE collection = ? AND key = ?", (collection, key))
        return rows[0][0] if rows else None

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        check_names(collection)
        check_prefix(prefix)
        # Names are compared by their code points, as Python sorts them.
        rows = await self._run(KEYS, (collection, prefix))
        return [key for (key,) in rows]

    async def delete(self, collection: str, key: str) -> bool:
        check_names(collection, key)
        return bool(await self._run(f"{DELETE} RETURNING key", (collection, key)))

    async def append(self, history: str, entry: bytes) -> int:
        check_names(history)
        check_value(entry)
        rows = await self._run(f"{APPEND} RETURNING number", (history, entry))
        return int(rows[0][0])

    async def trim(self, history: str, keep: int) -> int:
        check_names(history)
        check_limit(keep)
        return len(await self._run(TRIM, (history, keep)))

    async def write(
        self,
        entries: Sequence[tuple[str, bytes]] = (),
        documents: Sequence[tuple[str, str, bytes]] = (),
        deleted: Sequence[tuple[str, str]] = (),
    ) -> None:
        check_all(entries, documents, deleted)
        async with self._alone, self._at_work() as connection:
            await connection.execute("BEGIN")
            try:
                await connection.executemany(APPEND, entries)
                await connection.executemany(PUT, documents)
                await connection.executemany(DELETE, deleted)
                await connection.execute("COMMIT")
            except BaseException:
                await connection.rollback()
                raise

    async def newest(self, history: str, limit: int) -> list[bytes]:
        check_names(history)
        check_limit(limit)
        sql = "SELECT entry FROM entries WHERE history = ? ORDER BY number DESC LIMIT ?"
        return [entry for (entry,) in await self._run(sql, (history, limit))]

    async def put_blob(self, blob: bytes) -> bytes:
        check_value(blob)
        digest = blob_digest(blob)
        await self._run("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (digest, blob))
        return digest

    async def get_blob(self, digest: bytes) -> bytes | None:
        rows = await self._run("SELECT blob FROM blobs WHERE digest = ?", (digest,))
        return rows[0][0] if rows else None

    async def delete_blob(self, digest: bytes) -> bool:
        return bool(await self._run("DELETE FROM blobs WHERE digest = ? RETURNING digest", (digest,)))

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _run(self, sql: str, parameters: Iterable[Any]) -> list[Any]:
        async with self._alone, self._at_work() as connection:
            return list(await connection.execute_fetchall(sql, parameters))

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[aiosqlite.Connection]:
        if self._connection is None:
            raise Misuse(f"the store {self._path} is closed; open it again")
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} does not answer: {error}; see to its disk") from error

"""The port of the DMS: documents, histories and blobs of one host, all opaque bytes.

Variants: `SqliteStore` (production), `MemoryStore` (its twin), and `SealedStore`, which keeps its values sealed in
another one. What a call wrote is durable when the call returns. All pass tests/helpers/store_conformance.py.
"""

from collections.abc import Sequence
from typing import Protocol

from ledger import codec
from ledger.errors import Misuse

MAX_NAME_CHARACTERS = 256
MAX_VALUE_BYTES = 16 * 1024 * 1024
BLOB_DOMAIN = "agentplatform/blob"


class Store(Protocol):
    """Each call raises Misuse for a bad name or an oversize value, and Unavailable when the disk does not take it."""

    async def put(self, collection: str, key: str, value: bytes) -> None:
        """Keeps `value` as document `key` of `collection`, in the place of the one before."""

    async def get(self, collection: str, key: str) -> bytes | None: ...

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        """The keys of a collection that begin with `prefix`, sorted by their code points."""

    async def delete(self, collection: str, key: str) -> bool:
        """True when there was such a document."""

    async def append(self, history: str, entry: bytes) -> int:
        """Adds an entry to a history and returns its number, from 1. They never change, and go only by `trim`."""

    async def trim(self, history: str, keep: int) -> int:
        """Forgets all entries of a history but the newest `keep`, at least 1; returns how many went. Numbers go on."""

    async def write(
        self,
        entries: Sequence[tuple[str, bytes]] = (),
        documents: Sequence[tuple[str, str, bytes]] = (),
        deleted: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Many at once, all or none: entries of histories, documents by collection and key, and those to delete."""

    async def newest(self, history: str, limit: int) -> list[bytes]:
        """At most `limit` entries of a history, the newest first."""

    async def put_blob(self, blob: bytes) -> bytes:
        """Keeps `blob` and returns its digest, by which it is found again. The same blob is kept once."""

    async def get_blob(self, digest: bytes) -> bytes | None: ...

    async def delete_blob(self, digest: bytes) -> bool:
        """True when there was such a blob."""

    async def close(self) -> None: ...


def blob_digest(blob: bytes) -> bytes:
    return codec.digest(BLOB_DOMAIN, blob)


def check_names(*names: str) -> None:
    for name in names:
        if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise Misuse(
                f"{name[:40]!r} cannot name a document or a history: 1 to {MAX_NAME_CHARACTERS} printable characters"
            )


def check_prefix(prefix: str) -> None:
    if prefix:
        check_names(prefix)


def check_value(value: bytes) -> None:
    if len(value) > MAX_VALUE_BYTES:
        raise Misuse(f"a value of {len(value)} bytes is too large; at most {MAX_VALUE_BYTES} are kept as one")


def check_all(
    entries: Sequence[tuple[str, bytes]],
    documents: Sequence[tuple[str, str, bytes]],
    deleted: Sequence[tuple[str, str]],
) -> None:
    check_names(*(name for name, _ in entries), *(name for *names, _ in documents for name in names))
    check_names(*(name for names in deleted for name in names))
    for value in (*(entry for _, entry in entries), *(value for *_, value in documents)):
        check_value(value)


def check_limit(limit: int) -> None:
    if limit < 1:
        raise Misuse(f"a limit of {limit} entries leaves none; name at least 1")

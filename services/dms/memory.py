"""The store's twin in memory, for tests and simulations."""

from collections.abc import Sequence

from services.dms.store import blob_digest, check_all, check_limit, check_names, check_prefix, check_value


class MemoryStore:
    def __init__(self) -> None:
        self._documents: dict[str, dict[str, bytes]] = {}
        self._histories: dict[str, list[tuple[int, bytes]]] = {}  # by number, from the oldest
        self._blobs: dict[bytes, bytes] = {}

    async def put(self, collection: str, key: str, value: bytes) -> None:
        check_names(collection, key)
        check_value(value)
        self._documents.setdefault(collection, {})[key] = bytes(value)

    async def get(self, collection: str, key: str) -> bytes | None:
        check_names(collection, key)
        return self._documents.get(collection, {}).get(key)

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        check_names(collection)
        check_prefix(prefix)
        return sorted(key for key in self._documents.get(collection, {}) if key.startswith(prefix))

    async def delete(self, collection: str, key: str) -> bool:
        check_names(collection, key)
        return self._documents.get(collection, {}).pop(key, None) is not None

    async def append(self, history: str, entry: bytes) -> int:
        check_names(history)
        check_value(entry)
        entries = self._histories.setdefault(history, [])
        number = entries[-1][0] + 1 if entries else 1
        entries.append((number, bytes(entry)))
        return number

    async def trim(self, history: str, keep: int) -> int:
        check_names(history)
        check_limit(keep)
        entries = self._histories.get(history, [])
        gone = entries[:-keep]
        del entries[:-keep]
        return len(gone)

    async def write(
        self,
        entries: Sequence[tuple[str, bytes]] = (),
        documents: Sequence[tuple[str, str, bytes]] = (),
        deleted: Sequence[tuple[str, str]] = (),
    ) -> None:
        check_all(entries, documents, deleted)
        for history, entry in entries:
            await self.append(history, entry)
        for collection, key, value in documents:
            await self.put(collection, key, value)
        for collection, key in deleted:
            await self.delete(collection, key)

    async def newest(self, history: str, limit: int) -> list[bytes]:
        check_names(history)
        check_limit(limit)
        return [entry for _, entry in self._histories.get(history, [])[: -limit - 1 : -1]]

    async def put_blob(self, blob: bytes) -> bytes:
        check_value(blob)
        digest = blob_digest(blob)
        self._blobs[digest] = bytes(blob)
        return digest

    async def get_blob(self, digest: bytes) -> bytes | None:
        return self._blobs.get(digest)

    async def delete_blob(self, digest: bytes) -> bool:
        return self._blobs.pop(digest, None) is not None

    async def close(self) -> None:
        """Nothing to do: what is here ends with the object."""

"""A store that keeps its values sealed in another one, for the host itself (services.dms.sealing).

Names of collections, keys and histories stay as they are, so they are found and sorted there. An entry opens in its
own history alone, a document under its own key, a blob under its own digest. A value may have OVERHEAD bytes less.
"""

from collections.abc import Callable, Sequence

from ledger.errors import Misuse, Unavailable
from services.dms.sealing import NOBODY, SALT_BYTES, Keyring
from services.dms.store import Store, blob_digest, check_value

BLOBS = "blobs, sealed"  # the collection that has them: under the digest of what is sealed nobody would find them


class SealedStore:
    def __init__(self, store: Store, keyring: Keyring, draw: Callable[[int], bytes]) -> None:
        """`draw` gives so many random bytes."""
        self._store, self._keyring, self._draw = store, keyring, draw

    async def put(self, collection: str, key: str, value: bytes) -> None:
        await self._store.put(collection, key, self._seal(value, collection, key))

    async def get(self, collection: str, key: str) -> bytes | None:
        sealed = await self._store.get(collection, key)
        return None if sealed is None else self._open(sealed, collection, key)

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        return await self._store.keys(collection, prefix)

    async def delete(self, collection: str, key: str) -> bool:
        return await self._store.delete(collection, key)

    async def append(self, history: str, entry: bytes) -> int:
        return await self._store.append(history, self._seal(entry, history))

    async def trim(self, history: str, keep: int) -> int:
        return await self._store.trim(history, keep)

    async def write(
        self,
        entries: Sequence[tuple[str, bytes]] = (),
        documents: Sequence[tuple[str, str, bytes]] = (),
        deleted: Sequence[tuple[str, str]] = (),
    ) -> None:
        await self._store.write(
            [(history, self._seal(entry, history)) for history, entry in entries],
            [(collection, key, self._seal(value, collection, key)) for collection, key, value in documents],
            deleted,
        )

    async def newest(self, history: str, limit: int) -> list[bytes]:
        return [self._open(sealed, history) for sealed in await self._store.newest(history, limit)]

    async def put_blob(self, blob: bytes) -> bytes:
        digest = blob_digest(blob)
        if await self._store.get(BLOBS, digest.hex()) is None:
            await self.put(BLOBS, digest.hex(), blob)
        return digest

    async def get_blob(self, digest: bytes) -> bytes | None:
        return await self.get(BLOBS, digest.hex())

    async def delete_blob(self, digest: bytes) -> bool:
        return await self._store.delete(BLOBS, digest.hex())

    async def close(self) -> None:
        await self._store.close()

    def _seal(self, value: bytes, *names: str) -> bytes:
        check_value(value)
        return self._keyring.seal(NOBODY, _bound(names), bytes(value), self._draw(SALT_BYTES))

    def _open(self, sealed: bytes, *names: str) -> bytes:
        try:
            return self._keyring.open(_bound(names), sealed)[1]
        except Misuse as error:
            raise Unavailable(f"what is kept under {'/'.join(names)[:80]} cannot be opened: {error}") from None


def _bound(names: tuple[str, ...]) -> bytes:
    return "\0".join(("store", *names)).encode()

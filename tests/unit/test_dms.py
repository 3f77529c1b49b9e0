"""The conformance suite over both stores, the broken ones that it catches, and what only a file can go through."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ledger.errors import Misuse, Unavailable
from services.dms.memory import MemoryStore
from services.dms.sealed import SealedStore
from services.dms.sealing import Keyring
from services.dms.sqlite import SqliteStore
from services.dms.store import Store
from tests.helpers import store_conformance as conformance
from tests.helpers.store_conformance import CHECKS, Check, OneByOne, Opener


@pytest_asyncio.fixture(params=["memory", "sqlite", "sealed"])
async def opens(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    kept = MemoryStore()
    opened: list[Store] = []

    async def opens() -> Store:
        opened.append(kept if request.param == "memory" else await SqliteStore.open(tmp_path / "dms.db"))
        if request.param == "sealed":
            opened.append(SealedStore(opened.pop(), Keyring([bytes(32)]), os.urandom))
        return opened[-1]

    yield opens
    for store in opened:
        await store.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_store_keeps_what_the_port_promises(check: Check, opens: Opener) -> None:
    await check(opens)


class Unsorted(MemoryStore):
    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        return (await super().keys(collection, prefix))[::-1]


class ByPattern(MemoryStore):
    """Looks for a prefix as SQL's LIKE does."""

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        keys = await super().keys(collection)
        return [key for key in keys if key.lower().startswith(prefix.lower())]


class OneByOneInMemory(OneByOne, MemoryStore):
    pass


class CountsAgain(MemoryStore):
    """Numbers entries by how many there are."""

    async def append(self, history: str, entry: bytes) -> int:
        await super().append(history, entry)
        return len(await self.newest(history, 1000))


class Lends(MemoryStore):
    """Keeps the caller's own buffer."""

    async def put(self, collection: str, key: str, value: bytes) -> None:
        await super().put(collection, key, value)
        self._documents[collection][key] = value


class Forgets(MemoryStore):
    """Has it only until it is closed."""

    async def close(self) -> None:
        self._documents.clear()


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Unsorted, conformance.keys_are_sorted_the_same_way_everywhere),
        (ByPattern, conformance.keys_are_found_by_how_they_begin),
        (OneByOneInMemory, conformance.of_many_with_a_bad_one_none_is_written),
        (CountsAgain, conformance.the_oldest_entries_go_and_the_numbers_go_on),
        (Lends, conformance.what_is_kept_does_not_change_with_the_callers_buffer),
        (Forgets, conformance.everything_is_there_when_it_is_opened_again),
    ],
)
async def test_a_broken_store_is_caught(broken: type[MemoryStore], check: Check) -> None:
    store = broken()

    async def opens() -> Store:
        return store

    assert check in CHECKS
    with pytest.raises(AssertionError):
        await check(opens)


async def test_what_others_write_meanwhile_does_not_fall_with_a_failed_batch(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    store = await SqliteStore.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("DROP TABLE documents")
    other.close()
    batch, _ = await asyncio.gather(
        store.write([("h", b"lost")], [("c", "k", b"v")]), store.append("h", b"kept"), return_exceptions=True
    )
    assert isinstance(batch, Unavailable)
    assert await store.newest("h", 10) == [b"kept"]
    await store.close()


async def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    await (await SqliteStore.open(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "dms.db")
    await store.close()
    with pytest.raises(Misuse, match="is closed"):
        await store.get("c", "k")


async def test_a_corrupt_file_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(Misuse):
        await SqliteStore.open(path)
    assert path.read_bytes() == b"this is no database" * 100


async def test_a_disk_that_does_not_take_a_write_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    store = await SqliteStore.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("DROP TABLE documents")  # as if the file was damaged under the running store
    other.close()
    with pytest.raises(Unavailable, match="does not answer"):
        await store.put("c", "k", b"v")
    await store.close()


def files_with(text: bytes, folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if text in path.read_bytes()]


async def test_a_sealed_store_has_no_value_in_its_file_and_takes_none_from_another_place(tmp_path: Path) -> None:
    inner = await SqliteStore.open(tmp_path / "dms.db")
    store = SealedStore(inner, Keyring([bytes(32)]), os.urandom)
    text = b"where ada was on monday"
    await store.write([("h", text)], [("c", "k", text)])
    await store.put("c", "l", text)
    digest = await store.put_blob(text)
    assert not files_with(text, tmp_path)
    await inner.put("c", "open", text)
    assert files_with(text, tmp_path)  # this search finds
    for key in ("k", "open"):
        await inner.put("c", "l", await inner.get("c", key) or b"")
        with pytest.raises(Unavailable, match="c/l cannot be opened"):
            await store.get("c", "l")
    await inner.append("other", (await inner.newest("h", 1))[0])
    with pytest.raises(Unavailable, match="cannot be opened"):
        await store.newest("other", 1)
    assert await store.get("c", "k") == (await store.newest("h", 1))[0] == await store.get_blob(digest) == text
    await store.close()

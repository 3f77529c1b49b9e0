"""One conformance test over both stores, and what only a file can go through."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ledger.errors import Misuse, Unavailable
from services.dms.memory import MemoryStore
from services.dms.sqlite import SqliteStore
from services.dms.store import MAX_NAME_CHARACTERS, MAX_VALUE_BYTES, Store, blob_digest


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else await SqliteStore.open(tmp_path / "dms.db")
    yield opened
    await opened.close()


async def test_documents_are_kept_replaced_listed_and_deleted(store: Store) -> None:
    assert await store.get("c", "k") is None and await store.keys("c") == []
    await store.put("c", "k", b"one")
    await store.put("c", "k", b"two")
    await store.put("c", "ä/é", b"")
    await store.put("other", "k", b"x")
    assert await store.get("c", "k") == b"two" and await store.get("c", "ä/é") == b""
    assert await store.keys("c") == ["k", "ä/é"] and await store.keys("other") == ["k"]
    assert await store.delete("c", "k") is True and await store.delete("c", "k") is False
    assert await store.get("c", "k") is None and await store.get("other", "k") == b"x"


async def test_keys_are_sorted_the_same_way_everywhere(store: Store) -> None:
    names = ["b", "a", "B", "é", "z", "\U0001f600", "\uff5e"]
    for name in names:
        await store.put("c", name, b"")
    assert await store.keys("c") == sorted(names)


async def test_a_history_only_grows_and_is_read_from_its_newest_entry(store: Store) -> None:
    assert await store.newest("h", 10) == []
    assert [await store.append("h", entry) for entry in (b"1", b"2", b"2", b"3")] == [1, 2, 3, 4]
    assert await store.append("other", b"x") == 1
    assert await store.newest("h", 10) == [b"3", b"2", b"2", b"1"]
    assert await store.newest("h", 2) == [b"3", b"2"]
    with pytest.raises(Misuse, match="at least 1"):
        await store.newest("h", 0)


async def test_many_are_written_at_once(store: Store) -> None:
    await store.append("h", b"1")
    await store.put("c", "old", b"o")
    await store.write([("h", b"2"), ("h", b"3"), ("g", b"x")], [("c", "new", b"n")], [("c", "old"), ("c", "none")])
    assert await store.newest("h", 10) == [b"3", b"2", b"1"] and await store.append("h", b"4") == 4
    assert await store.newest("g", 10) == [b"x"]
    assert await store.keys("c") == ["new"] and await store.get("c", "new") == b"n"


async def test_of_many_with_a_bad_one_none_is_written(store: Store) -> None:
    for bad in ([("a\nb", "k", b"")], [("c", "", b"")], [("c", "k", bytes(MAX_VALUE_BYTES + 1))]):
        with pytest.raises(Misuse):
            await store.write([("h", b"1")], [("c", "good", b"v"), *bad])
    assert await store.newest("h", 10) == [] and await store.keys("c") == []


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


async def test_blobs_are_found_by_their_digest(store: Store) -> None:
    blob = bytes(range(256)) * 100
    digest = await store.put_blob(blob)
    assert digest == blob_digest(blob) == await store.put_blob(blob)
    assert await store.get_blob(digest) == blob
    assert await store.get_blob(bytes(32)) is None


async def test_what_is_kept_does_not_change_with_the_callers_buffer(store: Store) -> None:
    buffer = bytearray(b"one")
    await store.put("c", "k", buffer)
    await store.append("h", buffer)
    digest = await store.put_blob(buffer)
    buffer[:] = b"two"
    assert await store.get("c", "k") == (await store.newest("h", 1))[0] == await store.get_blob(digest) == b"one"


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME_CHARACTERS + 1), "a\nb", "a\0b"])
async def test_bad_names_are_misuse(store: Store, name: str) -> None:
    for call in (
        store.put(name, "k", b""),
        store.put("c", name, b""),
        store.get("c", name),
        store.keys(name),
        store.delete(name, "k"),
        store.append(name, b""),
        store.newest(name, 1),
    ):
        with pytest.raises(Misuse, match="cannot name"):
            await call


async def test_oversize_values_are_misuse(store: Store) -> None:
    large = bytes(MAX_VALUE_BYTES + 1)
    for call in (store.put("c", "k", large), store.append("h", large), store.put_blob(large)):
        with pytest.raises(Misuse, match="too large"):
            await call


async def test_a_file_keeps_everything_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "dms.db"
    first = await SqliteStore.open(path)
    await first.put("c", "k", b"v")
    await first.append("h", b"1")
    digest = await first.put_blob(b"blob")
    await first.close()
    await first.close()  # twice does no harm
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = await SqliteStore.open(path)
    assert await second.get("c", "k") == b"v" and await second.get_blob(digest) == b"blob"
    assert await second.append("h", b"2") == 2 and await second.newest("h", 5) == [b"2", b"1"]
    await second.close()


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

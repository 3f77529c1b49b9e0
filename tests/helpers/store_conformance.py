"""What every store of the DMS must keep, whatever it lies on. A further store runs all of it by one more opener.

Each check gets an opener: called again, it gives a store over the same place, once the one before was closed.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from ledger.errors import Misuse
from services.dms.store import MAX_NAME_CHARACTERS, MAX_VALUE_BYTES, Store, blob_digest

Opener = Callable[[], Awaitable[Store]]
Check = Callable[[Opener], Coroutine[Any, Any, None]]

BAD_NAMES = ("", "x" * (MAX_NAME_CHARACTERS + 1), "a\nb", "a\0b")
LARGE = bytes(MAX_VALUE_BYTES + 1)


class OneByOne:
    """A broken twin, in front of a store's class: a batch is many transactions, the first written before the last is
    looked at."""

    async def write(
        self,
        entries: Sequence[tuple[str, bytes]] = (),
        documents: Sequence[tuple[str, str, bytes]] = (),
        deleted: Sequence[tuple[str, str]] = (),
    ) -> None:
        store: Any = super()
        for entry in entries:
            await store.write(entries=[entry])
        for document in documents:
            await store.write(documents=[document])
        await store.write(deleted=deleted)


async def documents_are_kept_replaced_listed_and_deleted(opens: Opener) -> None:
    store = await opens()
    assert await store.get("c", "k") is None and await store.keys("c") == []
    await store.put("c", "k", b"one")
    await store.put("c", "k", b"two")
    await store.put("c", "ä/é", b"")
    await store.put("other", "k", b"x")
    assert await store.get("c", "k") == b"two" and await store.get("c", "ä/é") == b""
    assert await store.keys("c") == ["k", "ä/é"] and await store.keys("other") == ["k"]
    assert await store.delete("c", "k") is True and await store.delete("c", "k") is False
    assert await store.get("c", "k") is None and await store.get("other", "k") == b"x"


async def keys_are_sorted_the_same_way_everywhere(opens: Opener) -> None:
    store = await opens()
    names = ["b", "a", "B", "é", "z", "\U0001f600", "\uff5e"]
    for name in names:
        await store.put("c", name, b"")
    assert await store.keys("c") == sorted(names)


async def keys_are_found_by_how_they_begin(opens: Opener) -> None:
    store = await opens()
    for name in ("a/1", "a/2", "A/3", "a", "b/1", "a%", "aé", "x/a/1"):
        await store.put("c", name, b"")
    await store.put("other", "a/9", b"")
    assert await store.keys("c", "a/") == ["a/1", "a/2"]
    assert await store.keys("c", "a%") == ["a%"] and await store.keys("c", "a_") == []
    assert await store.keys("c", "é") == [] and await store.keys("c", "aé") == ["aé"]
    assert await store.keys("c", "") == await store.keys("c") and len(await store.keys("c")) == 8


async def a_history_only_grows_and_is_read_from_its_newest_entry(opens: Opener) -> None:
    store = await opens()
    assert await store.newest("h", 10) == []
    assert [await store.append("h", entry) for entry in (b"1", b"2", b"2", b"3")] == [1, 2, 3, 4]
    assert await store.append("other", b"x") == 1
    assert await store.newest("h", 10) == [b"3", b"2", b"2", b"1"]
    assert await store.newest("h", 2) == [b"3", b"2"]
    with pytest.raises(Misuse, match="at least 1"):
        await store.newest("h", 0)


async def the_oldest_entries_go_and_the_numbers_go_on(opens: Opener) -> None:
    store = await opens()
    for entry in (b"1", b"2", b"3", b"4"):
        await store.append("h", entry)
    await store.append("other", b"x")
    assert await store.trim("h", 4) == 0 and await store.trim("h", 9) == 0 and await store.trim("none", 1) == 0
    assert await store.trim("h", 3) == 1 and await store.newest("h", 9) == [b"4", b"3", b"2"]
    assert await store.trim("h", 1) == 2 and await store.newest("h", 9) == [b"4"]
    assert await store.append("h", b"5") == 5
    await store.write([("h", b"6")])
    assert await store.newest("h", 9) == [b"6", b"5", b"4"] and await store.append("h", b"7") == 7
    assert await store.newest("other", 9) == [b"x"]
    with pytest.raises(Misuse, match="at least 1"):
        await store.trim("h", 0)


async def many_are_written_at_once(opens: Opener) -> None:
    store = await opens()
    await store.append("h", b"1")
    await store.put("c", "old", b"o")
    await store.write([("h", b"2"), ("h", b"3"), ("g", b"x")], [("c", "new", b"n")], [("c", "old"), ("c", "none")])
    assert await store.newest("h", 10) == [b"3", b"2", b"1"] and await store.append("h", b"4") == 4
    assert await store.newest("g", 10) == [b"x"]
    assert await store.keys("c") == ["new"] and await store.get("c", "new") == b"n"


async def of_many_with_a_bad_one_none_is_written(opens: Opener) -> None:
    store = await opens()
    await store.put("c", "there", b"t")
    for bad in ([("a\nb", "k", b"")], [("c", "", b"")], [("c", "k", LARGE)]):
        with pytest.raises(Misuse):
            await store.write([("h", b"1")], [("c", "good", b"v"), *bad], [("c", "there")])
    assert await store.newest("h", 10) == [] and await store.keys("c") == ["there"]


async def blobs_are_found_by_their_digest(opens: Opener) -> None:
    store = await opens()
    blob = bytes(range(256)) * 100
    digest = await store.put_blob(blob)
    assert digest == blob_digest(blob) == await store.put_blob(blob)
    assert await store.get_blob(digest) == blob
    assert await store.get_blob(bytes(32)) is None
    assert await store.delete_blob(digest) is True and await store.delete_blob(digest) is False
    assert await store.get_blob(digest) is None


async def what_is_kept_does_not_change_with_the_callers_buffer(opens: Opener) -> None:
    store = await opens()
    buffer = bytearray(b"one")
    await store.put("c", "k", buffer)
    await store.append("h", buffer)
    digest = await store.put_blob(buffer)
    buffer[:] = b"two"
    assert await store.get("c", "k") == (await store.newest("h", 1))[0] == await store.get_blob(digest) == b"one"


async def bad_names_are_misuse(opens: Opener) -> None:
    store = await opens()
    for name in BAD_NAMES:
        for call in (
            store.put(name, "k", b""),
            store.put("c", name, b""),
            store.get("c", name),
            store.keys(name),
            store.keys("c", name or "\n"),
            store.delete(name, "k"),
            store.append(name, b""),
            store.newest(name, 1),
            store.trim(name, 1),
        ):
            with pytest.raises(Misuse, match="cannot name"):
                await call


async def oversize_values_are_misuse(opens: Opener) -> None:
    store = await opens()
    for call in (store.put("c", "k", LARGE), store.append("h", LARGE), store.put_blob(LARGE)):
        with pytest.raises(Misuse, match="too large"):
            await call


async def everything_is_there_when_it_is_opened_again(opens: Opener) -> None:
    first = await opens()
    await first.put("c", "k", b"v")
    for entry in (b"1", b"2", b"3"):
        await first.append("h", entry)
    await first.trim("h", 2)
    digest = await first.put_blob(b"blob")
    await first.close()
    await first.close()  # twice does no harm
    second = await opens()
    assert await second.get("c", "k") == b"v" and await second.get_blob(digest) == b"blob"
    assert await second.append("h", b"4") == 4 and await second.newest("h", 5) == [b"4", b"3", b"2"]


CHECKS: tuple[Check, ...] = (
    documents_are_kept_replaced_listed_and_deleted,
    keys_are_sorted_the_same_way_everywhere,
    keys_are_found_by_how_they_begin,
    a_history_only_grows_and_is_read_from_its_newest_entry,
    the_oldest_entries_go_and_the_numbers_go_on,
    many_are_written_at_once,
    of_many_with_a_bad_one_none_is_written,
    blobs_are_found_by_their_digest,
    what_is_kept_does_not_change_with_the_callers_buffer,
    bad_names_are_misuse,
    oversize_values_are_misuse,
    everything_is_there_when_it_is_opened_again,
)

"""Buckets of the state: like a dict of names and values, with one way to pack the same entries."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import bucket
from ledger.bucket import EMPTY, NAME_BYTES

# Few different bytes: names that begin alike, and the end of one with the beginning of the next like a third.
NAMES = st.lists(st.sampled_from(b"\x00\x01"), min_size=NAME_BYTES, max_size=NAME_BYTES).map(bytes) | st.sampled_from(
    [bytes(NAME_BYTES), bytes(NAME_BYTES - 1) + b"\x01", b"\x01" + bytes(NAME_BYTES - 1), b"\xff" * NAME_BYTES]
)
VALUES = st.binary(max_size=5) | NAMES
STEPS = st.lists(st.dictionaries(NAMES, VALUES | st.none(), max_size=5), max_size=8)
ONE, TWO, THREE = (bytes([0, first]) + bytes(NAME_BYTES - 2) for first in (1, 2, 3))


def packed(entries: dict[bytes, bytes]) -> bytes:
    return bucket.change(EMPTY, entries)


@settings(max_examples=80, deadline=None)
@given(STEPS, NAMES)
def test_it_is_like_a_dict(steps: list[dict[bytes, bytes | None]], other: bytes) -> None:
    content, model = EMPTY, dict[bytes, bytes]()
    for step in steps:
        content = bucket.change(content, step)
        model.update({name: value for name, value in step.items() if value is not None})
        for name in [name for name, value in step.items() if value is None]:
            model.pop(name, None)
        assert bucket.entries(content) == model
        for name in {other, *model, *step}:
            assert bucket.get(content, name) == model.get(name)
    assert content == packed(model) == packed(dict(reversed(model.items())))


def test_a_name_that_is_longer_than_the_names_is_none() -> None:
    """The end of one name and the beginning of the next are no name; nor is what stands behind the last one."""
    half = NAME_BYTES // 2
    content = packed({bytes(half) + b"\x01" * half: b"a", b"\x02" * NAME_BYTES: b"b"})
    across = b"\x01" * half + b"\x02" * half
    assert across in content and bucket.get(content, across) is None
    low = packed({bytes(NAME_BYTES): bytes([1]) * NAME_BYTES})
    behind = low[4 + NAME_BYTES :][:NAME_BYTES]
    assert behind > bytes(NAME_BYTES) and bucket.get(low, behind) is None


@pytest.mark.parametrize("removed", [0, 1, bucket.FEW - 1, bucket.FEW, bucket.FEW + 1, 39, 40])
def test_many_changes_at_once_are_like_one_by_one(removed: int) -> None:
    before = {bytes([number]) * NAME_BYTES: bytes(number) for number in range(40)}
    changes: dict[bytes, bytes | None] = dict.fromkeys(list(before)[:removed])
    changes |= dict.fromkeys(list(before)[removed : 2 * removed], b"new")
    one_by_one = packed(before)
    for name, value in changes.items():
        one_by_one = bucket.change(one_by_one, {name: value})
    assert bucket.change(packed(before), changes) == one_by_one
    assert bucket.entries(one_by_one) == {name: v for name, v in {**before, **changes}.items() if v is not None}


def test_a_crowded_bucket_is_searched_in_few_steps() -> None:
    """Counted, not timed: how often it is looked at."""

    class Counted(bytes):
        looked = 0

        def __getitem__(self, at: Any) -> Any:
            Counted.looked += 1
            return super().__getitem__(at)

    names = [number.to_bytes(NAME_BYTES, "big") for number in range(1, 4001)]
    content = Counted(packed(dict.fromkeys(names, b"value")))
    assert bucket.get(content, names[1234]) == b"value" and bucket.get(content, bytes(NAME_BYTES)) is None
    assert Counted.looked < 40


def test_a_name_in_a_value_is_not_there() -> None:
    content = packed({ONE: TWO + THREE, b"\xff" * NAME_BYTES: TWO})
    assert TWO in content and bucket.get(content, TWO) is None and bucket.get(content, THREE) is None


def test_an_empty_value_is_no_absence() -> None:
    content = packed({ONE: b""})
    assert bucket.get(content, ONE) == b"" and bucket.get(content, TWO) is None
    assert content != EMPTY == bucket.change(content, {ONE: None}) == bucket.change(EMPTY, {ONE: None})


def test_its_bytes_are_the_same_on_every_version() -> None:
    """Pinned: other bytes are another chain format."""
    assert packed({TWO: b"xyz", ONE: b"ab"}) == b"\0\0\0\2" + ONE + TWO + b"\0\0\0\2" + b"\0\0\0\5" + b"abxyz"


GOOD = packed({ONE: b"a", TWO: b"bc"})
TEXT = len(GOOD) - 3  # where the values begin


@pytest.mark.parametrize(
    "bad",
    [
        b"\0",
        bytes(4),  # the empty bucket, in another way
        GOOD[:-1],
        GOOD + b"!",
        b"\0\0\0\3" + GOOD[4:],
        b"\0\0\0\1" + GOOD[4:],
        b"\xff\xff\xff\xff" + GOOD[4:],
        b"\0\0\0\2" + ONE + ONE + GOOD[4 + 2 * NAME_BYTES :],  # a name twice
        b"\0\0\0\2" + TWO + ONE + GOOD[4 + 2 * NAME_BYTES :],
        GOOD[: TEXT - 8] + b"\0\0\0\4\0\0\0\3" + GOOD[TEXT:],  # a value that ends before it begins
        GOOD[: TEXT - 4] + b"\0\0\0\2" + GOOD[TEXT:],
        GOOD[: TEXT - 4] + b"\xff\xff\xff\xff" + GOOD[TEXT:],
    ],
)
def test_what_is_no_bucket_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match="no bucket"):
        bucket.entries(bad)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda end: b"\0\0\0\2" + end), NAMES, VALUES)
def test_damage_is_no_other_error(damaged: bytes, name: bytes, value: bytes) -> None:
    """A database that is damaged is read before it is known that it is. (ledger.store expects these errors.)"""
    many = {name: value, **{bytes([each]) * NAME_BYTES: b"" for each in range(bucket.FEW)}}
    for changes in ({name: value}, many):
        try:
            changed = bucket.change(damaged, changes)
        except (struct.error, ValueError, OverflowError):
            continue
        assert len(changed) >= NAME_BYTES
    assert bucket.get(damaged, name) != b"no other error"

"""Buckets of the state: like a dict of names and values, with one way to pack the same entries."""

import struct
from collections.abc import Mapping

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


def changed(content: bytes, changes: Mapping[bytes, bytes | None]) -> bytes:
    for name, value in changes.items():
        content = bucket.put(content, name, value)
    return content


def packed(entries: dict[bytes, bytes]) -> bytes:
    return changed(EMPTY, entries)


@settings(max_examples=80, deadline=None)
@given(STEPS, NAMES)
def test_it_is_like_a_dict(steps: list[dict[bytes, bytes | None]], other: bytes) -> None:
    content, model = EMPTY, dict[bytes, bytes]()
    for step in steps:
        content = changed(content, step)
        model.update({name: value for name, value in step.items() if value is not None})
        for name in [name for name, value in step.items() if value is None]:
            model.pop(name, None)
        assert bucket.entries(content) == model
        for name in {other, *model, *step}:
            assert bucket.get(content, name) == model.get(name)
    assert content == packed(model) == packed(dict(reversed(model.items())))


def test_a_name_across_two_others_is_not_there() -> None:
    """The second half of one name and the first half of the next are no name."""
    half = NAME_BYTES // 2
    content = packed({bytes(half) + b"\x01" * half: b"a", b"\x02" * NAME_BYTES: b"b"})
    across = b"\x01" * half + b"\x02" * half
    assert across in content and bucket.get(content, across) is None
    behind = packed({bytes(NAME_BYTES): b"a", across: across, b"\x02" * NAME_BYTES: b"b"})
    assert bucket.get(behind, across) == across
    assert bucket.get(bucket.put(behind, across, None), across) is None


def test_a_name_in_a_value_is_not_there() -> None:
    content = packed({ONE: TWO + THREE, b"\xff" * NAME_BYTES: TWO})
    assert TWO in content and bucket.get(content, TWO) is None and bucket.get(content, THREE) is None


def test_an_empty_value_is_no_absence() -> None:
    content = packed({ONE: b""})
    assert bucket.get(content, ONE) == b"" and bucket.get(content, TWO) is None
    assert content != EMPTY == bucket.put(content, ONE, None) == bucket.put(EMPTY, ONE, None)


def test_its_bytes_are_the_same_on_every_version() -> None:
    """Pinned: other bytes are another chain format."""
    assert packed({TWO: b"xyz", ONE: b""}) == (b"\0\0\0\2" + ONE + TWO + b"\0\0\0\0" + b"\0\0\0\3" + b"xyz")


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
        GOOD[: TEXT - 8] + b"\0\0\0\4\xff\xff\xff\xff" + GOOD[TEXT:],
    ],
)
def test_what_is_no_bucket_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match="no bucket"):
        bucket.entries(bad)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda end: b"\0\0\0\2" + end), NAMES, VALUES)
def test_damage_is_no_other_error(damaged: bytes, name: bytes, value: bytes) -> None:
    """A database that is damaged is read before it is known that it is."""
    for act in (lambda: bucket.get(damaged, name), lambda: bucket.put(damaged, name, value)):
        try:
            act()
        except struct.error as error:
            assert "bytes" in str(error) or "size" in str(error)

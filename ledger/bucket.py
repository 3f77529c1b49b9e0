"""A bucket of the state: some keys, by their names, and their values, packed into one bytes object. Pure.

Layout: the number of entries (4 bytes), their names (NAME_BYTES each, rising), where their values end (4 bytes each,
counted from the first value's begin), the values; integers are big-endian. A bucket without entries is b"". So there
is one way to pack the same entries, and its bytes can be hashed, kept on disk and sent as they are. In memory a
million accounts take a tenth of what a dict of them takes.

Whoever has patience can choose keys that all fall into one bucket. So a value is found in log(n) steps, and the many
changes that a block may make in one bucket are made together.
"""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from struct import pack, unpack_from

NAME_BYTES = 30
EMPTY = b""
FEW = 8  # changes that are made one by one
_COUNT = 4
_END = 4


def get(bucket: bytes, name: bytes) -> bytes | None:
    """The value under `name`. It trusts the bytes to be a bucket."""
    count = int.from_bytes(bucket[:_COUNT], "big")
    place = _place(bucket, name, count)
    if not _is_at(bucket, name, count, place):
        return None
    values = _COUNT + (NAME_BYTES + _END) * count
    return bucket[values + _end(bucket, count, place - 1) : values + _end(bucket, count, place)]


def change(bucket: bytes, changes: Mapping[bytes, bytes | None]) -> bytes:
    """The bucket with these values by name (None: without that name)."""
    if len(changes) <= FEW:
        for name, value in changes.items():
            bucket = _put(bucket, name, value)
        return bucket
    merged = {**entries(bucket), **changes}
    kept = sorted((name, value) for name, value in merged.items() if value is not None)
    if not kept:
        return EMPTY
    ends = accumulate(len(value) for _, value in kept)
    names, values = (b"".join(parts) for parts in zip(*kept, strict=True))
    return len(kept).to_bytes(_COUNT, "big") + names + pack(f">{len(kept)}I", *ends) + values


def entries(bucket: bytes) -> dict[bytes, bytes]:
    """What is in it. Raises ValueError for bytes that are no bucket."""
    if bucket == EMPTY:
        return {}
    count = int.from_bytes(bucket[:_COUNT], "big")
    first = _COUNT + NAME_BYTES * count
    values = first + _END * count
    if count == 0 or values > len(bucket):
        raise ValueError(f"{len(bucket)} bytes are no bucket of {count} entries")
    names = [bucket[at : at + NAME_BYTES] for at in range(_COUNT, first, NAME_BYTES)]
    ends = (0, *unpack_from(f">{count}I", bucket, first))
    in_order = all(a < b for a, b in pairwise(names)) and all(a <= b for a, b in pairwise(ends))
    if not in_order or values + ends[-1] != len(bucket):
        raise ValueError(f"{len(bucket)} bytes are no bucket: the entries are not in order, or do not fill it")
    return {name: bucket[values + a : values + b] for name, (a, b) in zip(names, pairwise(ends), strict=True)}


def _put(bucket: bytes, name: bytes, value: bytes | None) -> bytes:
    """Copies what is before and behind the entry: a third of the time of unpacking all of them."""
    bucket = bucket or bytes(_COUNT)
    count = int.from_bytes(bucket[:_COUNT], "big")
    place = _place(bucket, name, count)
    had, has = int(_is_at(bucket, name, count, place)), int(value is not None)
    if count - had + has == 0:
        return EMPTY
    if not had and not has:
        return bucket
    first = _COUNT + NAME_BYTES * count
    values, behind = first + _END * count, first + _END * (place + had)
    start = _end(bucket, count, place - 1)
    end = _end(bucket, count, place) if had else start
    new = b"" if value is None else value
    if had and has and len(new) == end - start:  # as a balance or a nonce mostly is
        return bucket[: values + start] + new + bucket[values + end :]
    later = bucket[behind:values]
    if (longer := len(new) - (end - start)) and later:
        ends = unpack_from(f">{count - place - had}I", later)
        later = pack(f">{len(ends)}I", *[each + longer for each in ends])
    return b"".join(
        (
            (count - had + has).to_bytes(_COUNT, "big"),
            bucket[_COUNT : _COUNT + NAME_BYTES * place],
            name * has,
            bucket[_COUNT + NAME_BYTES * (place + had) : first + _END * place],
            (start + len(new)).to_bytes(_END, "big") * has,
            later,
            bucket[values : values + start],
            new,
            bucket[values + end :],
        )
    )


def _place(bucket: bytes, name: bytes, count: int) -> int:
    """Where `name` is, or would be: how many names are lower."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        at = _COUNT + NAME_BYTES * middle
        if bucket[at : at + NAME_BYTES] < name:
            low = middle + 1
        else:
            high = middle
    return low


def _is_at(bucket: bytes, name: bytes, count: int, place: int) -> bool:
    return place < count and bucket.startswith(name, _COUNT + NAME_BYTES * place)


def _end(bucket: bytes, count: int, place: int) -> int:
    """Of the value at `place`; 0 for the place before the first one."""
    at = _COUNT + NAME_BYTES * count + _END * place
    return int.from_bytes(bucket[at : at + _END], "big") if place >= 0 else 0

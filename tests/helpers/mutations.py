"""How an attacker bends bytes that were good: anywhere, and where MessagePack leaves room for tricks."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec

from ledger import codec

DEEP = 20_000
TRICKS = (
    b"\xc0",  # nothing
    b"\xc1",  # never used
    b"\xc3",
    b"\x00",
    b"\xcc\x00",  # 0, in ever longer forms
    b"\xcd\x00\x00",
    b"\xce\x00\x00\x00\x00",
    b"\xcf" + bytes(8),
    b"\xd3" + bytes(8),
    b"\xcf" + b"\xff" * 8,  # the largest
    b"\xcf\x80" + bytes(7),
    b"\xd3\x80" + bytes(7),  # the smallest
    b"\xff",  # -1
    b"\xca\x7f\xc0\x00\x00",  # not a number
    b"\xcb\x7f\xf8" + bytes(6),
    b"\xcb\x3f\xf0" + bytes(6),  # 1.0
    b"\xcb\x7f\xf0" + bytes(6),  # infinite
    b"\xa0",
    b"\xa2\xff\xfe",  # no UTF-8
    b"\xa2\xc0\x80",  # an overlong 0
    b"\xa3\xed\xa0\x80",  # half a pair
    b"\xa1\x00",
    b"\xda\x10\x00" + b"x" * 4096,
    b"\xc4\x00",
    b"\xc5\x10\x00" + bytes(4096),
    b"\xc6\x00\x00\x00\x01\x00",
    b"\x90",
    b"\x80",
    b"\x82\x01\x02\x01\x03",  # a key twice
    b"\x81\x80\x01",  # a key that cannot be one
    b"\xd4\x05\x01",  # extensions
    b"\xc7\xff\x05" + bytes(255),
    b"\xd6\xff" + bytes(4),  # a time
    b"\xd7\xff" + b"\xff" * 8,
    b"\xdb\xff\xff\xff\xff",  # lengths of what does not follow
    b"\xc6\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\x00\xff\xff\xff" + b"\xc0" * 64,
    b"\x91" * DEEP + b"\xc0",
    b"\x81\x01" * DEEP + b"\xc0",
)


def bend(sample: bytes, random: Random) -> bytes:
    """`sample` with one to three changes."""
    raw = sample
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        raw = random.choice(_WAYS)(raw, random)
    return raw


def _flip(raw: bytes, random: Random) -> bytes:
    if not raw:
        return b"\x00"
    at = random.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << random.randrange(8)]) + raw[at + 1 :]


def _replace(raw: bytes, random: Random) -> bytes:
    at = random.randrange(len(raw) + 1)
    return raw[:at] + random.randbytes(random.randint(1, 4)) + raw[at + random.randint(0, 4) :]


def _cut(raw: bytes, random: Random) -> bytes:
    return raw[: random.randrange(len(raw) + 1)]


def _extend(raw: bytes, random: Random) -> bytes:
    return raw + random.choice((b"\x00", b"\xc0", raw, random.randbytes(random.randint(1, 40))))


def _swap(raw: bytes, random: Random) -> bytes:
    """Puts a piece of it elsewhere."""
    start, end = sorted(random.randrange(len(raw) + 1) for _ in range(2))
    at = random.randrange(len(raw) + 1)
    return raw[:at] + raw[start:end] + raw[at:]


def _trick(raw: bytes, random: Random) -> bytes:
    """Puts something else in the place of one value in it, which may be the whole."""
    try:
        tree = msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        return _replace(raw, random)
    path = random.choice(list(_paths(tree)))
    try:
        return codec.encode(_put(tree, path, lambda old: _other(old, random)))
    except (TypeError, OverflowError, RecursionError):
        return _replace(raw, random)


_WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (_flip, _replace, _cut, _extend, _swap, _trick, _trick, _trick)


def _paths(tree: Any, at: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The places of all values in it, itself among them."""
    yield at
    if isinstance(tree, list) and len(at) < 12:
        for number, each in enumerate(tree):
            yield from _paths(each, (*at, number))


def _put(tree: Any, path: tuple[int, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(tree)
    return [_put(each, path[1:], change) if number == path[0] else each for number, each in enumerate(tree)]


def _other(old: Any, random: Random) -> Any:
    """A trick, the same in a longer form, or another value of its kind."""
    if random.random() < 0.5:
        return msgspec.Raw(random.choice(TRICKS))
    match old:
        case bool():
            return not old
        case int():
            return random.choice((old + 1, max(old - 1, 0), -old, 2**63, msgspec.Raw(b"\xcf" + _unsigned(old))))
        case str():
            text = old.encode()
            long = msgspec.Raw(b"\xdb" + len(text).to_bytes(4, "big") + text)
            return random.choice((old + "x", old[:-1], old.upper(), long))
        case bytes():
            long = msgspec.Raw(b"\xc6" + len(old).to_bytes(4, "big") + old)
            return random.choice((old + b"\x00", old[:-1], old[::-1], long))
        case list():
            body = b"".join(codec.encode(each) for each in old)
            long = msgspec.Raw(b"\xdd" + len(old).to_bytes(4, "big") + body)
            return random.choice((old[:-1], old + old[-1:], old[::-1], [old], long))
    return msgspec.Raw(random.choice(TRICKS))


def _unsigned(number: int) -> bytes:
    return (number % 2**64).to_bytes(8, "big")

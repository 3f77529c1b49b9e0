"""The one canonical encoding (MessagePack by msgspec) and the one hash (SHA-256, NIST FIPS 180-4).

Nothing else in the project encodes what is signed, hashed or sent between hosts.
"""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, TypeVar

import msgspec

from ledger.errors import Misuse, PeerFault

T = TypeVar("T")
DIGEST_BYTES = 32
Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]  # as a field of a type

_encoder = msgspec.msgpack.Encoder(order="deterministic")


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def encode(value: Any) -> bytes:
    """Bytes of `value`: the same value always gives the same bytes (dictionaries are sorted by key)."""
    return _encoder.encode(value)


def decode(raw: bytes | memoryview, kind: type[T], sender: str = "sender unknown") -> T:
    """`raw` as a `kind`. Raises PeerFault, naming `sender`, for bytes that are not one."""
    try:
        value: T = _decoder(kind).decode(raw)  # type: ignore[arg-type]  # a type is hashable
        return value
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError, Misuse) as error:
        name = getattr(kind, "__name__", str(kind))
        raise PeerFault(sender, f"sent bytes that are no {name}: {error}") from None


def decode_canonical(raw: bytes, kind: type[T], sender: str = "sender unknown") -> T:
    """Like `decode`, and refuses bytes that do not re-encode to themselves.

    MessagePack allows several encodings of one value (long integers, repeated keys); for what is signed
    or hashed, two encodings would be two identities of one thing.
    """
    value = decode(raw, kind, sender)
    if encode(value) != raw:
        raise PeerFault(sender, f"sent a {getattr(kind, '__name__', kind)} that is not canonically encoded")
    return value


def digest(domain: str, *parts: bytes) -> bytes:
    """SHA-256 over the domain and the length-prefixed parts, 32 bytes: no two splits of the same bytes collide."""
    pieces = [domain.encode(), b"\0"]
    for part in parts:
        pieces += (len(part).to_bytes(8, "big"), part)
    return sha256(b"".join(pieces)).digest()  # in one call: twice as fast for the few short parts that are usual


def digester(domain: str, size: int | None = None) -> Callable[[bytes], bytes]:
    """What `digest` gives for one part, in half the time: for trees. `size`: of every part, in a third of it."""
    begun = sha256(domain.encode() + b"\0")
    if size is not None:
        begun.update(size.to_bytes(8, "big"))

        def digest_sized(part: bytes) -> bytes:
            hashed = begun.copy()
            hashed.update(part)
            return hashed.digest()

        return digest_sized

    def digest_part(part: bytes) -> bytes:
        hashed = begun.copy()
        hashed.update(len(part).to_bytes(8, "big") + part)
        return hashed.digest()

    return digest_part

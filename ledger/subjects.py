"""What people ask proofs of: keys of the state by what they are about, and values in words. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ledger import codec
from ledger.certificate import Members
from ledger.contracts.records import Hop
from ledger.contracts.trust import Standing
from ledger.errors import PeerFault

_HOP = b"records/hop/"
_ORGANISATION = b"trust/organisation/"

KINDS: Mapping[bytes, Any] = {_HOP: Hop, _ORGANISATION: Standing, b"trust/members": Members}  # by how a key begins


def hop_key(agent: bytes, epoch: int) -> bytes:
    """Of the record by which an agent (digest of its id) came to `epoch`."""
    return _HOP + agent + epoch.to_bytes(8, "big")


def organisation_key(name: str) -> bytes:
    """Of an organisation's standing."""
    return _ORGANISATION + name.encode()


def title(key: bytes) -> str:
    """`key` as people read it: what is not text in hexadecimal, after the part that is."""
    prefix = next((prefix for prefix in KINDS if key.startswith(prefix)), b"")
    rest = key[len(prefix) :]
    if prefix == _HOP and len(rest) == codec.DIGEST_BYTES + 8:
        return f"records/hop of agent {rest[:-8].hex()}, epoch {int.from_bytes(rest[-8:], 'big')}"
    text = key.decode("ascii", errors="replace")
    return text if text.isascii() and text.isprintable() else f"key {key.hex()}"


def plain(key: bytes, value: bytes | None) -> Any:
    """`value` as plain data with the names of its fields, bytes in hexadecimal; None when there is none."""
    if value is None:
        return None
    kind = next((kind for prefix, kind in KINDS.items() if key.startswith(prefix)), None)
    try:
        return _named(codec.decode(value, kind if kind is not None else Any, "the state"))
    except PeerFault:
        return value.hex()  # of a later version: proven all the same


def _named(value: Any) -> Any:
    match value:
        case msgspec.Struct():
            return {field: _named(getattr(value, field)) for field in value.__struct_fields__}
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_named(each) for each in value]
        case dict():
            return {str(_named(name)): _named(each) for name, each in value.items()}
    return value

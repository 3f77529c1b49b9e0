"""The form of a code bundle. Code travels as source files named by content: the same sources have the same digest
on every host. What arrives is only ever opened by a worker (parcel.importer).
"""

import sys

import msgspec

from ledger import codec
from ledger.errors import PeerFault

MAX_BUNDLE_BYTES = 8 << 20


class Module(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One source file."""

    name: str  # dotted
    package: bool
    source: bytes


class Contents(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a bundle holds: source modules, or one class by value."""

    modules: tuple[Module, ...]  # sorted by name
    requires: tuple[str, ...]  # top-level modules that the host must have, sorted
    by_value: bytes | None  # a cloudpickled class that has no source file
    python: str | None  # "3.11": the only version that can open `by_value`


def open_bundle(raw: bytes) -> Contents:
    """The contents of a bundle. Raises PeerFault for bytes that are none."""
    if len(raw) > MAX_BUNDLE_BYTES:
        raise PeerFault("code bundle", f"has {len(raw)} bytes; at most {MAX_BUNDLE_BYTES} are taken")
    return codec.decode_canonical(raw, Contents, "code bundle")


def python_minor() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"

"""What people ask proofs of: keys of the state by what they are about, and values in words. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ledger import codec
from ledger.certificate import Members
from ledger.contracts.accounts import Account
from ledger.contracts.claims import Claimed
from ledger.contracts.membership import Pending, Removal
from ledger.contracts.pseudonyms import Opening, Pseudonym
from ledger.contracts.records import Blame, Decision, Hop
from ledger.contracts.residence import Residence, Votes
from ledger.contracts.rules import Rules
from ledger.contracts.shared import Shared
from ledger.contracts.trust import Holder, Proposal, Registered, Standing
from ledger.errors import PeerFault

NUMBER_BYTES = 8
_HOP = b"records/hop/"
_ORGANISATION = b"trust/organisation/"


class Subject(NamedTuple):
    """What stands under a key, and what the rest of the key is, behind the text that it begins with.

    Every word of `named` is a part of it: an "epoch" or "height" is a number, a "host" the text that is left, and
    anything else a key or a digest. No words: the rest is text that can be read as it is.
    """

    kind: Any
    named: tuple[str, ...] = ()


SUBJECTS: Mapping[bytes, Subject] = {  # by how a key begins; without a "/" at its end it is all of the key
    b"account/": Subject(Account, ("key",)),
    b"claims/": Subject(Claimed),
    b"membership/due/": Subject(tuple[str, ...], ("height",)),
    b"membership/pending/": Subject(tuple[Pending, ...]),
    b"membership/removed/": Subject(Removal),
    b"membership/rotated/": Subject(int),
    b"pseudonyms/name/": Subject(Pseudonym, ("key",)),
    b"pseudonyms/opened/": Subject(Opening, ("key",)),
    b"records/blame/": Subject(Blame, ("evidence", "host")),
    b"records/decision/": Subject(Decision, ("digest", "host")),
    _HOP: Subject(Hop, ("agent", "epoch")),
    b"residence/agent/": Subject(Residence, ("subject",)),
    b"residence/votes/": Subject(Votes, ("subject",)),
    b"rules": Subject(Rules),
    b"rules/auditor": Subject(bytes),
    b"shared/": Subject(Shared, ("owner", "digest")),
    b"trust/host/": Subject(Registered),
    b"trust/key/": Subject(Holder, ("key",)),
    b"trust/members": Subject(Members),
    b"trust/names": Subject(tuple[str, ...]),
    b"trust/open": Subject(tuple[bytes, ...]),
    _ORGANISATION: Subject(Standing),
    b"trust/proposal/": Subject(Proposal, ("digest",)),
    b"trust/registry": Subject(int),
}


def hop_key(agent: bytes, epoch: int) -> bytes:
    """Of the record by which an agent (digest of its id) came to `epoch`."""
    return _HOP + agent + epoch.to_bytes(NUMBER_BYTES, "big")


def organisation_key(name: str) -> bytes:
    """Of an organisation's standing."""
    return _ORGANISATION + name.encode()


def title(key: bytes) -> str:
    """`key` as people read it: what is not text in hexadecimal, with what it is."""
    start, subject = _find(key)
    parts = _parts(key[len(start) :], subject.named)
    if parts:
        return f"{start.decode().rstrip('/')} of {', '.join(parts)}"
    text = key.decode("ascii", errors="replace")
    return text if text.isascii() and text.isprintable() else f"key {key.hex()}"


def plain(key: bytes, value: bytes | None) -> Any:
    """`value` as plain data with the names of its fields, bytes in hexadecimal; None when there is none."""
    if value is None:
        return None
    try:
        return _named(codec.decode(value, _find(key)[1].kind, "the state"))
    except PeerFault:
        return value.hex()  # of a later version: proven all the same


def _find(key: bytes) -> tuple[bytes, Subject]:
    for start, subject in SUBJECTS.items():
        if key == start or (start.endswith(b"/") and key.startswith(start)):
            return start, subject
    return b"", Subject(Any)


def _parts(rest: bytes, named: tuple[str, ...]) -> list[str]:
    """The parts in words; none when `rest` does not have them."""
    parts = []
    for word in named:
        if word == "host":
            part, rest = rest, b""
            if not part.isascii() or not part.decode("ascii").isprintable():
                return []
            shown = part.decode("ascii")
        else:
            size = NUMBER_BYTES if word in ("epoch", "height") else codec.DIGEST_BYTES
            part, rest = rest[:size], rest[size:]
            shown = part.hex() if size == codec.DIGEST_BYTES else str(int.from_bytes(part, "big"))
            if len(part) != size:
                return []
        parts.append(f"{word} {shown}")
    return [] if rest else parts


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

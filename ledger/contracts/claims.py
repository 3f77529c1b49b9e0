"""Claims: what a host says of itself, such as its version and how strong its jail is. Pure.

A claim is the host's word, signed and dated, so that it can be held to it; nobody vouches that it is true.
"""

import re

import msgspec

from ledger.contracts import trust
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse

MAX_FACTS = 16
MAX_VALUE = 200  # characters
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,31}")


class Claim(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All that the calling host claims from now on; it takes the place of what it claimed before."""

    facts: tuple[tuple[str, str], ...]  # sorted: (("jail", "landlock, seccomp"), ("version", "0.1"))


class Claimed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    facts: tuple[tuple[str, str], ...]
    height: int


def of(state: View, host: str) -> Claimed | None:
    """What `host` claims; None when it claims nothing, or is not trusted any more."""
    return load(state, state_key(host), Claimed) if trust.host_key(state, host) is not None else None


def state_key(host: str) -> bytes:
    return b"claims/" + host.encode()


def execute(state: Overlay, call: Call) -> None:
    """Raises Misuse, with the reason, for a claim that the rules do not allow."""
    claim = call.decode(Claim)
    caller = trust.holder(state, call.account)
    if caller is None or caller.host is None:
        raise Misuse("only a trusted host makes claims, and about itself")
    names = [name for name, _ in claim.facts]
    if names != sorted(set(names)) or len(names) > MAX_FACTS:
        raise Misuse(f"a claim has at most {MAX_FACTS} facts, sorted by name, each name once")
    for name, value in claim.facts:
        if not _NAME.fullmatch(name):
            raise Misuse(f"{name[:32]!r} is no name of a fact: 1 to 32 lower case letters, digits, '.', '_' and '-'")
        if len(value) > MAX_VALUE or not value.isprintable():
            raise Misuse(f"the value of {name} has to be printable, in at most {MAX_VALUE} characters")
    save(state, state_key(caller.host), Claimed(claim.facts, call.height))

"""Pseudonyms: one-time names of owners, each with the identity sealed to the auditor that genesis names. Pure.

A name is a fresh key. A trusted host registers it for an owner that it knows, with a seal of one size that only the
auditor can open; the owner's signature for this name and chain is in the seal, so nobody can be framed with a seal
that was copied or made up. The ledger cannot look into a seal: the host that registered it answers for it. When
the auditor opens one it leaves a record here, with its reason, and without the identity.
"""

from typing import Any

import msgspec

from ledger import codec, identity
from ledger.contracts import auditor, trust
from ledger.contracts.accounts import Key
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse, PeerFault
from ledger.identity import KEY_BYTES, SEAL_BYTES, SIGNATURE_BYTES, Identity

NAME_DOMAIN = "agentplatform/pseudonym"  # what the name signs
OWNER_DOMAIN = "agentplatform/pseudonym-owner"  # what its owner signs, inside the seal
SEALED_BYTES = KEY_BYTES + SIGNATURE_BYTES + SEAL_BYTES  # always: a size must not tell owners apart


class Register(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="register"):
    """Make one with `registration`."""

    name: Key
    sealed: bytes
    signature: bytes  # of the name: nobody registers another's


class Open(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="open"):
    """The auditor opens, or is about to open, the seal of this name."""

    name: Key
    reason: str


_ACTION: Any = Register | Open


class Pseudonym(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    sealed: bytes
    host: str  # that registered it
    height: int
    used: int | None  # height at which something came to stand under it; a name serves once


class Opening(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    reason: str
    height: int


def registration(owner: Identity, name: Identity, chain: bytes, auditor: bytes, seed: bytes) -> Register:
    """What an owner gives to its host. `name` is a fresh key, `seed` 32 fresh random bytes: keep no seed."""
    content = owner.public + owner.sign(OWNER_DOMAIN, _claim(chain, name.public))
    sealed = identity.seal(content, auditor, seed)
    return Register(name.public, sealed, name.sign(NAME_DOMAIN, _registered(chain, sealed)))


def reveal(auditor: Identity, chain: bytes, name: bytes, pseudonym: Pseudonym) -> bytes:
    """The key of the owner. Raises PeerFault, naming the host that registered it, for a seal that proves nothing."""
    try:
        content = auditor.unseal(pseudonym.sealed)
    except PeerFault as fault:
        raise PeerFault(pseudonym.host, f"registered a pseudonym that cannot be opened: {fault}") from None
    owner, signature = content[:KEY_BYTES], content[KEY_BYTES:]
    if not identity.verify(owner, OWNER_DOMAIN, _claim(chain, name), signature):
        raise PeerFault(pseudonym.host, "registered a pseudonym whose seal names an owner that did not sign for it")
    return owner


def find(state: View, name: bytes) -> Pseudonym | None:
    return load(state, state_key(name), Pseudonym)


def opening(state: View, name: bytes) -> Opening | None:
    """That the auditor opened this name, and why."""
    return load(state, _opening_key(name), Opening)


def use(state: Overlay, name: bytes, height: int) -> None:
    """Raises Misuse for a name that has served already."""
    found = find(state, name)
    if found is None or found.used is not None:
        raise Misuse(f"the pseudonym {name.hex()[:16]} has served already, or is not registered: register a fresh one")
    save(state, state_key(name), msgspec.structs.replace(found, used=height))


def execute(state: Overlay, call: Call) -> None:
    """Registers a name, or records that it was opened. Raises Misuse for what the rules do not allow."""
    action: Register | Open = call.decode(_ACTION)
    key = auditor.find(state)
    if key is None:
        raise Misuse("the genesis of this chain names no auditor, so it has no pseudonyms")
    if isinstance(action, Open):
        _open(state, call, key, action)
        return
    host = trust.holder(state, call.account)
    if host is None or host.host is None:
        raise Misuse("only a trusted host registers a pseudonym, for an owner that it knows")
    if len(action.sealed) != SEALED_BYTES:
        raise Misuse(f"a seal has {SEALED_BYTES} bytes, not {len(action.sealed)}: its size must not tell who it is")
    if not identity.verify(action.name, NAME_DOMAIN, _registered(call.chain, action.sealed), action.signature):
        raise Misuse("the name did not sign this seal; let its owner make the registration for this chain")
    if find(state, action.name) is not None or trust.past_holder(state, action.name) is not None:
        raise Misuse(f"the name {action.name.hex()[:16]} is taken; draw a fresh key")
    save(state, state_key(action.name), Pseudonym(action.sealed, host.host, call.height, None))


def state_key(name: bytes) -> bytes:
    return b"pseudonyms/name/" + name


def _open(state: Overlay, call: Call, key: bytes, action: Open) -> None:
    if call.account != key:
        raise Misuse("only the auditor opens pseudonyms")
    trust.check_reason(action.reason)
    if find(state, action.name) is None:
        raise Misuse(f"there is no pseudonym {action.name.hex()[:16]}")
    earlier = opening(state, action.name)
    if earlier is not None:
        raise Misuse(f"the pseudonym {action.name.hex()[:16]} was opened at height {earlier.height}")
    save(state, _opening_key(action.name), Opening(action.reason, call.height))


def _claim(chain: bytes, name: bytes) -> bytes:
    return codec.encode((chain, name))


def _registered(chain: bytes, sealed: bytes) -> bytes:
    return codec.encode((chain, sealed))


def _opening_key(name: bytes) -> bytes:
    return b"pseudonyms/opened/" + name

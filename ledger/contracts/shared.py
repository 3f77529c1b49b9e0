"""Shared data: who shared what, by hash alone. Contents never reach the chain. Pure.

The hash is a commitment to owner, salt and content. The salt keeps others from guessing a short content, and from
seeing that two owners share the same; the owner in it keeps a copied hash from proving anything for the thief.
"""

from typing import Any

import msgspec

from ledger import codec
from ledger.codec import DIGEST_BYTES
from ledger.contracts import owners
from ledger.contracts.accounts import Key
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse
from ledger.identity import Identity

SALT_BYTES = 32
SHARE = "share"
WITHDRAW = "withdraw"


class Share(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=SHARE):
    owner: Key  # an account, or a pseudonym
    digest: bytes  # `commit`
    signature: bytes  # the owner's `consent`; empty when the owner calls itself


class Withdraw(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=WITHDRAW):
    """From now on it is not shared. That it was stays on the chain; who has a copy still has it."""

    owner: Key
    digest: bytes
    signature: bytes


_ACTION: Any = Share | Withdraw


class Shared(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    owner: bytes
    digest: bytes
    height: int
    withdrawn: int | None  # height


def commit(content: bytes, owner: bytes, salt: bytes) -> bytes:
    """The digest to share `content` by. `salt`: 32 fresh random bytes, given on with the content."""
    if len(salt) != SALT_BYTES:
        raise Misuse(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return codec.digest("agentplatform/shared", owner, salt, content)


def verify(shared: Shared, content: bytes, salt: bytes) -> bool:
    """Whether this content is what the record is about. Prove the record itself by `state_key` and a light client."""
    return shared.withdrawn is None and commit(content, shared.owner, salt) == shared.digest


def consent(owner: Identity, chain: bytes, kind: str, digest: bytes) -> bytes:
    """The owner's signature for a SHARE or WITHDRAW that another carries to the chain."""
    return owner.sign(owners.DOMAIN, _statement(chain, kind, digest))


def find(state: View, owner: bytes, digest: bytes) -> Shared | None:
    return load(state, state_key(owner, digest), Shared)


def state_key(owner: bytes, digest: bytes) -> bytes:
    return b"shared/" + owner + digest


def execute(state: Overlay, call: Call) -> None:
    """Shares or withdraws. Raises Misuse, with the reason, for what the rules do not allow."""
    action: Share | Withdraw = call.decode(_ACTION)
    if len(action.digest) != DIGEST_BYTES:
        raise Misuse(f"data is shared by a digest of {DIGEST_BYTES} bytes, not {len(action.digest)}")
    found = find(state, action.owner, action.digest)
    if isinstance(action, Share):
        if found is not None:
            raise Misuse(f"{action.digest.hex()[:16]} was shared at height {found.height}; commit with another salt")
        owners.admit(state, call, action.owner, _statement(call.chain, SHARE, action.digest), action.signature)
        save(state, state_key(action.owner, action.digest), Shared(action.owner, action.digest, call.height, None))
        return
    if found is None or found.withdrawn is not None:
        raise Misuse(f"{action.owner.hex()[:16]} does not share {action.digest.hex()[:16]}, so cannot withdraw it")
    owners.consent(state, call, action.owner, _statement(call.chain, WITHDRAW, action.digest), action.signature)
    save(state, state_key(action.owner, action.digest), msgspec.structs.replace(found, withdrawn=call.height))


def _statement(chain: bytes, kind: str, digest: bytes) -> bytes:
    return codec.encode((chain, "shared", kind, digest))

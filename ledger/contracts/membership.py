"""Membership: what a trusted organisation does to itself: leave, rotate keys, add or remove a host. Pure.

Only the organisation's own key does these, never a host's: who steals a host's key cannot keep it by rotating.
A new key proves that its owner has it, by a signature of its own: else an organisation could claim a key of another
and so keep it from joining. A rotation is announced, and takes effect at the height that it states: from the block of
that height on the old key is refused, as a caller, as a member and at the links.
"""

from typing import Any

import msgspec

from ledger import codec, identity
from ledger.contracts import accounts, trust
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, save
from ledger.contracts.trust import Standing
from ledger.errors import Misuse
from ledger.genesis import MAX_HOSTS, Organisation
from ledger.identity import KEY_BYTES, Identity
from ledger.links.base import Passport

POSSESSION_DOMAIN = "agentplatform/possession"
MAX_NOTICE = 100_000  # blocks by which a rotation may be announced ahead


class Leave(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="leave"):
    """The caller's organisation leaves for ever. The last one cannot."""

    reason: str


class AddHost(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="add-host"):
    passport: Passport
    possession: bytes  # the new host's `prove_possession`


class RemoveHost(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="remove-host"):
    """If it held the organisation's seat, the next host does. The last one cannot be removed: leave instead."""

    host: str
    reason: str


class Rotate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="rotate"):
    """From `height` on `key` takes the place of the present one. A later announcement replaces one that waits."""

    host: str | None  # None: the organisation's own key
    key: bytes
    height: int
    possession: bytes  # the new key's `prove_possession`


Action = Leave | AddHost | RemoveHost | Rotate
_ACTION: Any = Action


class Pending(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A rotation that was announced."""

    host: str | None
    key: bytes
    height: int
    since: int  # of the organisation's standing then: what was announced before a suspension is void after it


class Removal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Why a host is no longer its organisation's."""

    organisation: str
    reason: str
    height: int


def prove_possession(key: Identity, chain: bytes, organisation: str, host: str | None) -> bytes:
    """The signature by which a new key shows that its owner has it, and for what (`host` None: for votes)."""
    return key.sign(POSSESSION_DOMAIN, _possession(chain, organisation, host))


def pending(state: View, organisation: str) -> tuple[Pending, ...]:
    """Rotations that were announced and are not in effect yet."""
    return load(state, _pending_key(organisation), tuple[Pending, ...]) or ()


def rotated(state: View, host: str) -> int | None:
    """The height from which the host's present key counts; None for its first one."""
    return load(state, _rotated_key(host), int)


def removal(state: View, host: str) -> Removal | None:
    return load(state, _removal_key(host), Removal)


def execute(state: Overlay, call: Call) -> None:
    """One act. Raises Misuse, with the reason, for one that the rules do not allow."""
    action: Action = call.decode(_ACTION)
    caller = trust.holder(state, call.account)
    if caller is None or caller.host is not None:
        raise Misuse("only a trusted organisation's own key does this; a host's key does not")
    now = trust.standing(state, caller.organisation)
    assert now is not None  # its key is active
    match action:
        case Leave(reason=reason):
            trust.check_reason(reason)
            trust.put(state, Standing(now.organisation, trust.LEFT, call.height, reason, ()))
            trust.close_proposals(state)
        case AddHost():
            _add_host(state, call, now, action)
        case RemoveHost():
            _remove_host(state, call, now, action)
        case Rotate():
            _announce(state, call, now, action)


def apply_due(state: Overlay, height: int) -> None:
    """Rotations that take effect at `height`. Called at the end of the block before it."""
    due = load(state, _due_key(height), tuple[str, ...])
    if due is None:
        return
    state.put(_due_key(height), None)
    for name in due:
        waiting = pending(state, name)
        _set_pending(state, name, tuple(each for each in waiting if each.height != height))
        for each in waiting:
            now = trust.standing(state, name)
            if each.height == height and now is not None and now.status == trust.TRUSTED and each.since == now.since:
                _rotate(state, now, each)


def _add_host(state: Overlay, call: Call, now: Standing, action: AddHost) -> None:
    passport, organisation = action.passport, now.organisation
    if len(organisation.hosts) >= MAX_HOSTS:
        raise Misuse(f"{organisation.name} has {MAX_HOSTS} hosts, and no more can be")
    trust.check_new_host(state, passport.host)
    _check_key(state, call, organisation.name, passport.host, passport.key, action.possession)
    _put(state, now, organisation.key, (*organisation.hosts, passport))


def _remove_host(state: Overlay, call: Call, now: Standing, action: RemoveHost) -> None:
    trust.check_reason(action.reason)
    organisation = now.organisation
    _check_own(organisation, action.host)
    stay = tuple(passport for passport in organisation.hosts if passport.host != action.host)
    if not stay:
        raise Misuse(f"{action.host} is the last host of {organisation.name}; add another first, or leave")
    _put(state, now, organisation.key, stay)
    save(state, _removal_key(action.host), Removal(organisation.name, action.reason, call.height))


def _announce(state: Overlay, call: Call, now: Standing, action: Rotate) -> None:
    name = now.organisation.name
    if action.host is not None:
        _check_own(now.organisation, action.host)
    if not call.height < action.height <= call.height + MAX_NOTICE:
        raise Misuse(
            f"the rotation is for height {action.height}; this is {call.height}: name one of the next {MAX_NOTICE}"
        )
    _check_key(state, call, name, action.host, action.key, action.possession)
    trust.reserve_key(state, action.key, name, action.host)
    others = tuple(each for each in pending(state, name) if each.host != action.host)
    _set_pending(state, name, (*others, Pending(action.host, action.key, action.height, now.since)))
    due = load(state, _due_key(action.height), tuple[str, ...]) or ()
    if name not in due:
        save(state, _due_key(action.height), (*due, name))


def _rotate(state: Overlay, now: Standing, announced: Pending) -> None:
    organisation = now.organisation
    if announced.host is None:
        old = organisation.key
        _put(state, now, announced.key, organisation.hosts)
    else:
        found = next((each for each in organisation.hosts if each.host == announced.host), None)
        if found is None:
            return  # the host was removed meanwhile
        old = found.key
        save(state, _rotated_key(found.host), announced.height)
        changed = Passport(found.host, found.organisation, announced.key, found.address)
        _put(state, now, organisation.key, tuple(changed if each is found else each for each in organisation.hosts))
    accounts.hand_over(state, old, announced.key)


def _put(state: Overlay, now: Standing, key: bytes, hosts: tuple[Passport, ...]) -> None:
    """The same standing, of an organisation with these keys and hosts. Raises Misuse as Organisation does."""
    trust.put(
        state,
        Standing(Organisation(now.organisation.name, key, hosts), now.status, now.since, now.reason, now.votes),
    )


def _check_own(organisation: Organisation, host: str) -> None:
    if all(passport.host != host for passport in organisation.hosts):
        raise Misuse(f"{organisation.name} has no host {host[:63]!r}")


def _check_key(
    state: View, call: Call, organisation: str, host: str | None, key: bytes, possession: bytes
) -> None:
    if len(key) != KEY_BYTES:
        raise Misuse(f"the new key has {len(key)} bytes; an Ed25519 public key has {KEY_BYTES}")
    trust.check_new_key(state, key)
    if not identity.verify(key, POSSESSION_DOMAIN, _possession(call.chain, organisation, host), possession):
        raise Misuse("the new key's proof of possession does not hold; let its owner sign it for this chain and place")


def _possession(chain: bytes, organisation: str, host: str | None) -> bytes:
    return codec.encode((chain, organisation, host))


def _set_pending(state: Overlay, organisation: str, waiting: tuple[Pending, ...]) -> None:
    state.put(_pending_key(organisation), codec.encode(waiting) if waiting else None)


def _pending_key(organisation: str) -> bytes:
    return b"membership/pending/" + organisation.encode()


def _due_key(height: int) -> bytes:
    return b"membership/due/" + height.to_bytes(8, "big")


def _rotated_key(host: str) -> bytes:
    return b"membership/rotated/" + host.encode()


def _removal_key(host: str) -> bytes:
    return b"membership/removed/" + host.encode()

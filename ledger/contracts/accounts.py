"""Accounts: every key that calls contracts, how many calls it has made, and what it has. Pure.

Units are conserved. They come into being only when an organisation is admitted (GRANT, to its own key); from
then on they are moved. An account is opened with at least one unit out of its creator's own balance, so whoever was
given b units can open b accounts at most: that is what keeps the state from being filled.
"""

from typing import Annotated, Any

import msgspec

from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse
from ledger.identity import KEY_BYTES

GRANT = 10**12  # units that an organisation has when it is admitted
MAX_AMOUNT = 2**63 - 1  # of one balance

Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Amount = Annotated[int, msgspec.Meta(ge=1, le=MAX_AMOUNT)]


class Create(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="create"):
    """Opens an account for `account`, with `balance` of the caller's units. From then on its key may transact."""

    account: Key
    balance: Amount


class Transfer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="transfer"):
    to: Key
    amount: Amount


_ACTION: Any = Create | Transfer


class Account(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    nonce: int  # of its next transaction
    balance: int


_NONE_YET = Account(0, 0)


# Queries


def find(state: View, key: bytes) -> Account | None:
    """What the chain keeps for `key`; None when it never had anything to do with it."""
    return load(state, state_key(key), Account)


def nonce(state: View, key: bytes) -> int:
    """The nonce of the account's next transaction."""
    return (find(state, key) or _NONE_YET).nonce


def balance(state: View, key: bytes) -> int:
    """In units; 0 for a key without an account."""
    return (find(state, key) or _NONE_YET).balance


def state_key(key: bytes) -> bytes:
    """Where the account stands in the state: what a proof of it is asked for by."""
    return b"account/" + key


# Changes


def spend(state: Overlay, key: bytes, used: int) -> None:
    """Counts one transaction. Raises Misuse unless it is the account's next one."""
    account = find(state, key) or _NONE_YET
    if used != account.nonce:
        raise Misuse(f"the transaction has nonce {used}; the account's next is {account.nonce}: sign it with that")
    save(state, state_key(key), Account(account.nonce + 1, account.balance))


def grant(state: Overlay, key: bytes) -> None:
    """An organisation is admitted: its key has GRANT units more."""
    _add(state, key, find(state, key) or _NONE_YET, GRANT)


def hand_over(state: Overlay, old: bytes, new: bytes) -> None:
    """A key was rotated: what the old one had is the new one's. Each keeps its own nonce: nothing runs twice."""
    account = find(state, old)
    if account is not None:
        save(state, state_key(old), Account(account.nonce, 0))
        _add(state, new, find(state, new) or _NONE_YET, account.balance)


def execute(state: Overlay, call: Call) -> None:
    """Opens an account, or moves units. Raises Misuse, with the reason, for what the rules do not allow."""
    action: Create | Transfer = call.decode(_ACTION)
    if isinstance(action, Create):
        receiver = find(state, action.account)
        if receiver is not None:
            raise Misuse(f"account {action.account.hex()[:16]} is there already; use Transfer to give it units")
        _pay(state, call.account, action.account, _NONE_YET, action.balance)
        return
    receiver = find(state, action.to)
    if receiver is None:
        raise Misuse(f"there is no account {action.to.hex()[:16]}; create it first, or look for an error in its key")
    if action.to == call.account:
        raise Misuse("a transfer goes from one account to another; this one names the caller itself")
    _pay(state, call.account, action.to, receiver, action.amount)


def _pay(state: Overlay, payer: bytes, to: bytes, receiver: Account, amount: int) -> None:
    account = find(state, payer) or _NONE_YET
    if account.balance < amount:
        raise Misuse(f"account {payer.hex()[:16]} has {account.balance} units; {amount} were to be moved")
    _add(state, to, receiver, amount)
    save(state, state_key(payer), Account(account.nonce, account.balance - amount))


def _add(state: Overlay, key: bytes, account: Account, amount: int) -> None:
    if account.balance + amount > MAX_AMOUNT:
        raise Misuse(f"account {key.hex()[:16]} would have more than {MAX_AMOUNT} units")
    save(state, state_key(key), Account(account.nonce, account.balance + amount))

"""Accounts: every key that calls contracts, and how many calls it has made. Pure."""

from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse


def nonce(state: View, account: bytes) -> int:
    """The nonce of the account's next transaction."""
    return load(state, _key(account), int) or 0


def spend(state: Overlay, account: bytes, used: int) -> None:
    """Counts one transaction. Raises Misuse unless it is the account's next one."""
    expected = nonce(state, account)
    if used != expected:
        raise Misuse(f"the transaction has nonce {used}; the account's next is {expected}: sign it with that")
    save(state, _key(account), expected + 1)


def _key(account: bytes) -> bytes:
    return b"account/" + account

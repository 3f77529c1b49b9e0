"""Who may transact: trusted organisations, their hosts, accounts that were created on the chain,
and the auditor. Pure."""

from ledger.contracts import accounts, auditor, trust
from ledger.contracts.state import View
from ledger.errors import Misuse


def may_transact(state: View, key: bytes) -> bool:
    """A key that was ever an organisation's or a host's may only while it is one that is trusted: it is mute at once
    when trust ends, whatever account it has."""
    owner = trust.past_holder(state, key)
    if owner is not None:
        return owner.active
    return accounts.find(state, key) is not None or key == auditor.find(state)


def check(state: View, key: bytes) -> None:
    """Raises Misuse unless the key may transact."""
    if not may_transact(state, key):
        raise Misuse(
            f"key {key.hex()[:16]} is of no trusted organisation or host, and no account was created for it;"
            " only such keys may transact"
        )

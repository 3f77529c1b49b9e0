"""Contracts: deterministic functions from state and action to state. Pure."""

from collections.abc import Callable, Mapping

from ledger.contracts import accounts, records, trust
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay
from ledger.errors import Misuse
from ledger.transaction import Transaction

CONTRACTS: Mapping[str, Callable[[Overlay, Call], None]] = {
    "trust": trust.execute,
    "records": records.execute,
}


def run(state: Overlay, transaction: Transaction, height: int) -> None:
    """Runs one verified transaction in the block of `height`.

    Raises Misuse, with the reason, when it cannot run; `state` is then as it was.
    """
    if trust.holder(state, transaction.account) is None:
        raise Misuse(
            f"key {transaction.account.hex()[:16]} is of no trusted organisation or host; only they may transact"
        )
    contract = CONTRACTS.get(transaction.contract)
    if contract is None:
        raise Misuse(f"there is no contract {transaction.contract!r}; there are {', '.join(CONTRACTS)}")
    attempt = Overlay(state)
    accounts.spend(attempt, transaction.account, transaction.nonce)
    contract(attempt, Call(transaction.account, transaction.action, height))
    state.changes.update(attempt.changes)

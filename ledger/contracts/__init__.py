"""Contracts: deterministic functions from state and action to state. Pure."""

from collections.abc import Callable, Mapping

from ledger.contracts import (
    accounts,
    callers,
    claims,
    losses,
    membership,
    pseudonyms,
    records,
    residence,
    rules,
    shared,
    trust,
)
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay
from ledger.errors import Misuse
from ledger.transaction import Transaction

CONTRACTS: Mapping[str, Callable[[Overlay, Call], None]] = {
    "accounts": accounts.execute,
    "claims": claims.execute,
    "losses": losses.execute,
    "membership": membership.execute,
    "pseudonyms": pseudonyms.execute,
    "records": records.execute,
    "residence": residence.execute,
    "rules": rules.execute,
    "shared": shared.execute,
    "trust": trust.execute,
}


def run(state: Overlay, transaction: Transaction, height: int) -> None:
    """Runs one verified transaction in the block of `height`.

    Raises Misuse, with the reason, when it cannot run; `state` is then as it was.
    """
    callers.check(state, transaction.account)
    contract = CONTRACTS.get(transaction.contract)
    if contract is None:
        raise Misuse(f"there is no contract {transaction.contract!r}; there are {', '.join(CONTRACTS)}")
    attempt = Overlay(state)
    accounts.spend(attempt, transaction.account, transaction.nonce)
    contract(attempt, Call(transaction.account, transaction.action, height, transaction.chain))
    state.changes.update(attempt.changes)


def end_block(state: Overlay, height: int) -> None:
    """After the transactions of the block of `height`: what takes effect with the next one."""
    membership.apply_due(state, height + 1)
    rules.apply_due(state, height + 1)

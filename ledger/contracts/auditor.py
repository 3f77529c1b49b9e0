"""The auditor: the key that pseudonyms are sealed to. Genesis names it, and nothing changes it. Pure."""

from ledger.contracts.state import Overlay, View, load, save
from ledger.genesis import Genesis

_KEY = b"rules/auditor"


def find(state: View) -> bytes | None:
    """The auditor's key; None on a chain without one."""
    return load(state, _KEY, bytes)


def found(state: Overlay, genesis: Genesis) -> None:
    if genesis.auditor is not None:
        save(state, _KEY, genesis.auditor)

"""Owners: in whose name something stands on the chain, and how they consent when another carries it there. Pure.

An owner is a key that may transact, or a pseudonym (ledger.contracts.pseudonyms). A pseudonym's acts are carried to the
chain by a trusted host: an owner that carried them under its own account would show who it is.
"""

from ledger.contracts import callers, pseudonyms, trust
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay
from ledger.errors import Misuse

DOMAIN = "agentplatform/owner"


def admit(state: Overlay, call: Call, owner: bytes, statement: bytes, signature: bytes) -> None:
    """Something new is to stand in the name of `owner`. Raises Misuse unless the owner may, and consents.

    A pseudonym is used up by it: two things in one name could be linked to each other.
    """
    consent(state, call, owner, statement, signature)
    if not _use_pseudonym(state, call, owner):
        callers.check(state, owner)


def vouched(state: Overlay, call: Call, owner: bytes, statement: bytes, signature: bytes) -> None:
    """As `admit`, where a trusted host answers for what stands there: the owner needs no account. Raises Misuse for a
    key whose trust has ended."""
    consent(state, call, owner, statement, signature)
    if not _use_pseudonym(state, call, owner) and trust.past_holder(state, owner) is not None:
        callers.check(state, owner)


def consent(state: Overlay, call: Call, owner: bytes, statement: bytes, signature: bytes) -> None:
    """Raises Misuse unless the owner calls itself, or signed `statement` (which names the chain)."""
    if not call.is_signed(owner, DOMAIN, statement, signature):
        raise Misuse(f"the owner {owner.hex()[:16]} did not sign this; let it sign, or call itself")
    if pseudonyms.find(state, owner) is not None:
        carrier = trust.holder(state, call.account)
        if carrier is None or carrier.host is None:
            raise Misuse("only a trusted host carries what stands under a pseudonym: another key would show who it is")


def _use_pseudonym(state: Overlay, call: Call, owner: bytes) -> bool:
    found = pseudonyms.find(state, owner) is not None
    if found:
        pseudonyms.use(state, owner, call.height)
    return found

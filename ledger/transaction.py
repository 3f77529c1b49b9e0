"""What a client asks of the ledger."""

import msgspec

from ledger import codec
from ledger.errors import PeerFault
from ledger.identity import KEY_BYTES, Identity, Signed

DOMAIN = "agentplatform/transaction"
MAX_TRANSACTION_BYTES = 64 * 1024


class Transaction(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One call of one contract. `nonce` counts the account's transactions from 0, so that none runs twice."""

    chain: bytes  # the chain's id: the digest of its genesis
    account: bytes  # the caller's public key, which signs
    nonce: int
    contract: str  # a row of ledger.contracts.CONTRACTS
    action: bytes  # canonical bytes; the contract decodes them

    def __post_init__(self) -> None:
        if len(self.chain) != codec.DIGEST_BYTES or len(self.account) != KEY_BYTES or self.nonce < 0:
            raise ValueError("a transaction needs a chain id, an account key and a nonce of at least 0")


_digest = codec.digester(DOMAIN)


def sign(transaction: Transaction, identity: Identity) -> bytes:
    """The transaction as it is broadcast and stored: an encoded `Signed`."""
    return codec.encode(identity.signed(DOMAIN, codec.encode(transaction)))


def open_signed(raw: bytes, chain: bytes, sender: str = "sender unknown", decided: bool = False) -> Transaction:
    """Verifies, then parses. Raises PeerFault with the reason.

    `decided`: it is in a block whose certificate was verified. Honest members of that quorum have verified the
    client's signature before they voted, so it is not verified again.
    """
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise PeerFault(sender, f"sent a transaction of {len(raw)} bytes; at most {MAX_TRANSACTION_BYTES} are taken")
    signed = codec.decode_canonical(raw, Signed, sender)
    body = signed.body if decided else signed.verify(DOMAIN, sender)
    transaction = codec.decode_canonical(body, Transaction, sender)
    if transaction.account != signed.signer:
        raise PeerFault(sender, "sent a transaction that another key than its account's signed")
    if transaction.chain != chain:
        raise PeerFault(sender, "sent a transaction of another chain")
    return transaction


def transaction_id(raw: bytes) -> bytes:
    """The hash of all signed bytes: what a transaction is called elsewhere."""
    return _digest(raw)

"""A call as a contract sees it. Pure."""

from typing import TypeVar

import msgspec

from ledger import codec, identity
from ledger.errors import Misuse, PeerFault

T = TypeVar("T")


class Call(msgspec.Struct, frozen=True):
    account: bytes  # the caller's public key; its signature and nonce hold, and it may transact
    action: bytes  # canonical bytes, of a type that the contract knows
    height: int  # of the block that the call is in
    chain: bytes  # id of the chain; signatures inside an action are bound to it

    def is_signed(self, key: bytes, domain: str, body: bytes, signature: bytes) -> bool:
        """Whether `key` stands behind `body`: it signed it, or it is the caller itself (then without a signature)."""
        if not signature:
            return key == self.account
        return identity.verify(key, domain, body, signature)

    def decode(self, kind: type[T]) -> T:
        """The action as a `kind`. Raises Misuse for bytes that are not one."""
        try:
            return codec.decode_canonical(self.action, kind, "the transaction")
        except PeerFault as error:
            raise Misuse(f"{error}; see the contract for what it takes") from None

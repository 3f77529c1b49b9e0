"""Blocks and their headers. The header is what replicas sign; it has all that a light client needs."""

import msgspec

from ledger import codec

HEADER_DOMAIN = "agentplatform/block"
TRANSACTIONS_DOMAIN = "agentplatform/transactions"
RULES_VERSION = 1  # of chains that are founded now
KNOWN_RULES = frozenset({RULES_VERSION})  # versions that this software can follow


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The view is not in it: the same block may be decided in a later view than the one that proposed it."""

    chain: bytes  # id of the chain: the digest of its genesis
    height: int  # genesis is 0
    parent: bytes  # digest of the header before
    transactions_root: bytes
    state_root: bytes  # after this block
    members_digest: bytes  # of the members that decide THIS height
    rules: int  # version of the rules that this block was made by
    timestamp: int  # milliseconds since 1970, rising strictly along the chain
    proposer: str  # host that built the block

    def digest(self) -> bytes:
        return codec.digest(HEADER_DOMAIN, codec.encode(self))


class Block(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    header: Header
    transactions: tuple[bytes, ...]  # each an encoded Signed, see ledger.transaction

    def digest(self) -> bytes:
        return self.header.digest()


def transactions_root(transactions: tuple[bytes, ...]) -> bytes:
    return codec.digest(TRANSACTIONS_DOMAIN, *transactions)

"""A state in pieces, each of which can be checked by itself, under a block that the members decided. Pure.

A piece is all that lies under one node of the state tree (ledger.merkle); the nodes of that level lead to the state
root in the block's header. So a false piece is found out when it comes, and its sender is known. A piece is named by
its node's digest: what was fetched from one peer, at one height, serves wherever the same digest is asked for.
"""

import msgspec

from ledger import codec, merkle
from ledger.block import Block, transactions_root
from ledger.certificate import Certificate
from ledger.errors import PeerFault
from ledger.light import LightClient
from ledger.proof import StateProof

LEVEL = 4
PIECES = merkle.ARITY**LEVEL  # 256: at a million accounts some 160 kB each
EMPTY = merkle.empty_digest(LEVEL)

Buckets = tuple[bytes, ...]  # of one piece, empty ones too (ledger.bucket)
BUCKETS = merkle.BUCKETS // PIECES


class Ask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ask"):
    """Whoever is far above `height`: please make an offer."""

    height: int


class Offer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="offer"):
    """The state after `block` can be had from the sender, for a while."""

    block: Block
    certificate: Certificate
    nodes: tuple[bytes, ...]  # of LEVEL
    changes: tuple[StateProof, ...]  # of members, since the height that was told in Ask

    @property
    def height(self) -> int:
        return self.block.header.height

    def check(self, sender: str, client: LightClient) -> None:
        """Raises PeerFault unless the members decided a block with this state. `client` knows the changes before."""
        header = self.block.header
        try:
            for change in self.changes:
                client.follow(change)
            client.check_header(header, self.certificate)
        except PeerFault as fault:
            raise PeerFault(sender, f"offers a state that nobody decided: {fault}") from None
        if transactions_root(self.block.transactions) != header.transactions_root:
            raise PeerFault(sender, f"offers block {header.height} with other transactions than its header names")
        whole = len(self.nodes) == PIECES and all(len(node) == codec.DIGEST_BYTES for node in self.nodes)
        if not whole or merkle.root_above(self.nodes) != header.state_root:
            raise PeerFault(sender, f"offers pieces that do not lead to the state root of block {header.height}")


class Want(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="want"):
    height: int
    piece: int


class Piece(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="piece"):
    """The answer; `buckets` is None when the sender no longer keeps the state of that height."""

    height: int
    piece: int
    buckets: Buckets | None


Content = Ask | Offer | Want | Piece


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    content: Content


def encode(content: Content) -> bytes:
    return codec.encode(Envelope(content))


def decode(raw: bytes, sender: str) -> Content:
    """Raises PeerFault for anything else."""
    return codec.decode_canonical(raw, Envelope, sender).content


def encode_piece(buckets: Buckets) -> bytes:
    """As it is kept on disk."""
    return codec.encode(buckets)


def decode_piece(raw: bytes, piece: int) -> dict[int, bytes]:
    """The buckets by their numbers, without empty ones. Raises PeerFault for what is no piece."""
    buckets = codec.decode(raw, Buckets, "the database")
    if len(buckets) != BUCKETS:
        raise PeerFault("the database", f"has {len(buckets)} buckets in piece {piece}; it should have {BUCKETS}")
    return {number: content for number, content in enumerate(buckets, piece * BUCKETS) if content}


def check_piece(buckets: Buckets, piece: int, digest: bytes, sender: str) -> None:
    """Raises PeerFault, naming `sender`, unless `buckets` are all that lies under the node `piece` with `digest`."""
    if len(buckets) != BUCKETS or merkle.digest_above(buckets) != digest:
        raise PeerFault(sender, f"sent a piece {piece} of the state that is not the one that was decided")

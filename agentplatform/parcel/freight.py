"""A state that is too large for one message: its parcel has a table of pieces, and the pieces stream behind it. Pure.

On each host such a state is one file of the spool (agentplatform.parcel.spool), which no daemon ever holds in memory.
The host that signs the manifest signs the table with it, so each piece is verified by itself, whenever it comes.
"""

import hashlib

import msgspec

from ledger import codec

MAX_INLINE_BYTES = 1 << 20  # a larger state is spooled
PIECE_BYTES = 1 << 20
MAX_FREIGHT_BYTES = 16 << 30  # of one agent: its table then has 512 KiB
DIGEST_BYTES = 32


class Freight(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The table of one state: `size` bytes, and the digests of its pieces, one behind the other."""

    size: int
    digests: bytes

    def __post_init__(self) -> None:
        if not MAX_INLINE_BYTES < self.size <= MAX_FREIGHT_BYTES:
            raise ValueError(f"a spooled state has more than {MAX_INLINE_BYTES} bytes and at most {MAX_FREIGHT_BYTES}")
        if len(self.digests) != DIGEST_BYTES * self.count:
            raise ValueError(f"a state of {self.size} bytes has {self.count} pieces, and a digest for each")

    @property
    def count(self) -> int:
        """Of pieces."""
        return -(-self.size // PIECE_BYTES)

    def length(self, number: int) -> int:
        """Bytes of a piece; only the last is shorter than the others."""
        return min(PIECE_BYTES, self.size - number * PIECE_BYTES)

    def has(self, number: int, body: bytes) -> bool:
        """Whether `body` is this piece."""
        at = number * DIGEST_BYTES
        return 0 <= number < self.count and piece_digest(body) == self.digests[at : at + DIGEST_BYTES]


class Spooled(msgspec.Struct, frozen=True):
    """A state that lies in this host's spool."""

    freight: Freight
    file: str  # its name there, which means nothing elsewhere; "" in a worker, which knows no names


State = bytes | Freight  # as it travels
Stowed = bytes | Spooled  # as a host has it


def piece_digest(body: bytes | bytearray) -> bytes:
    # Not BLAKE2b: with the processor's own instructions SHA-256 hashes 1,700 MB/s where that does 700.
    return hashlib.sha256(body).digest()


def travelling(stowed: Stowed) -> State:
    return stowed.freight if isinstance(stowed, Spooled) else stowed


def state_digest(state: State) -> bytes:
    if isinstance(state, Freight):
        return codec.digest("agentplatform/freight", codec.encode(state))
    return codec.digest("agentplatform/state", state)

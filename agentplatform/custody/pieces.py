"""How the pieces of a large state come to the destination of a handoff: it asks for them, a few at a time.

They have a channel of their own, so that neither the messages of other handoffs nor anything else waits behind them.
Nothing here is remembered: what is lost with a link is asked for again.
"""

import msgspec

SLOWEST = 1 << 20  # bytes a second; what comes more slowly does not come at all
WINDOW = 8  # pieces that are asked for and not there yet, of one source: what either daemon has in memory of them


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    transfer: bytes
    agent: str


class Fetch(_Message, frozen=True):
    """Destination to source: send `count` pieces from `first` on. With a count of 0: it is still at work."""

    first: int
    count: int


class Piece(_Message, frozen=True):
    """Source to destination: one that was asked for."""

    number: int
    body: bytes


PieceMessage = Fetch | Piece

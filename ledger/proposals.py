"""Proposals without bodies: clients broadcast their transactions, so that a replica has most of a block's already.

Only the way over the links is shorter. The engine proposes, stores and votes on whole blocks: what a replica lacks it
asks the sender for, and hands the engine the proposal when it is complete. What was put together is the block that the
header names, since the engine compares its transactions' root as ever.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated

import msgspec

from ledger import codec
from ledger.block import Block, Header
from ledger.chain import MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS
from ledger.consensus import messages
from ledger.consensus.messages import Propose
from ledger.errors import PeerFault
from ledger.transaction import transaction_id

EACH_BYTES = 2 * 1024 * 1024  # that are remembered of one sender's transactions: about twice a block
ENTRY_BYTES = 256  # that remembering one takes besides
PATIENCE = 0.02  # seconds: what its client sent everybody may be just behind the proposal

_Positions = Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=MAX_BLOCK_TRANSACTIONS)]


class Short(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="short"):
    """A `Propose` with its transactions' ids."""

    view: int
    header: Header
    names: Annotated[tuple[codec.Digest, ...], msgspec.Meta(max_length=MAX_BLOCK_TRANSACTIONS)]


class Want(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="want"):
    """Please send these transactions of the block that you proposed."""

    block: codec.Digest
    positions: _Positions  # rising


class Bodies(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="bodies"):
    block: codec.Digest
    transactions: Annotated[
        tuple[bytes, ...], msgspec.Meta(max_length=MAX_BLOCK_TRANSACTIONS)
    ]  # in the order of the Want


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    content: Short | Want | Bodies


class Heard:
    """Transactions by their ids, as they came; verified or not. No sender can push out what others sent."""

    def __init__(self, each_bytes: int = EACH_BYTES) -> None:
        self._each_bytes = each_bytes
        self._raws: dict[bytes, bytes] = {}
        self._names: dict[str, deque[bytes]] = {}
        self._bytes: dict[str, int] = {}

    def put(self, sender: str, raws: Iterable[bytes]) -> None:
        names = self._names.setdefault(sender, deque())
        size = self._bytes.get(sender, 0)
        for raw in raws:
            name = transaction_id(raw)
            if name not in self._raws:
                self._raws[name] = raw
                names.append(name)
                size += len(raw) + ENTRY_BYTES
                while size > self._each_bytes:
                    size -= len(self._raws.pop(names.popleft())) + ENTRY_BYTES
        self._bytes[sender] = size

    def find(self, name: bytes) -> bytes | None:
        return self._raws.get(name)


class _Incomplete:
    """A proposal of which transactions are lacking."""

    def __init__(self, short: Short) -> None:
        self.short = short
        self.digest = short.header.digest()
        self._transactions: dict[int, bytes] = {}  # by their place in the block
        self.lacking = tuple(range(len(short.names)))

    def fill(self, find: Callable[[bytes], bytes | None]) -> bool:
        """Puts in what `find` has by its name; whether nothing is lacking any more."""
        found = {place: raw for place in self.lacking if (raw := find(self.short.names[place])) is not None}
        self._transactions |= found
        self.lacking = tuple(place for place in self.lacking if place not in found)
        return not self.lacking

    def proposal(self, sender: str) -> Propose:
        """Raises PeerFault for one that names few transactions so often that it is larger than any block."""
        transactions = tuple(self._transactions[place] for place in range(len(self.short.names)))
        if sum(map(len, transactions)) > MAX_BLOCK_BYTES:
            raise PeerFault(sender, f"proposed transactions of more than {MAX_BLOCK_BYTES} bytes")
        return Propose(self.short.view, Block(self.short.header, transactions))


class Proposals:
    def __init__(
        self,
        height: Callable[[], int],
        send: Callable[[str, bytes], None],
        deliver: Callable[[str, bytes], None],
        shielded: Callable[[str], AbstractContextManager[None]],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        """`height` of the best block: proposals up to there are of no use. `deliver` gives the engine a message of a
        sender, `later` calls after so many seconds.
        """
        self._height, self._send, self._deliver = height, send, deliver
        self._shielded, self._later = shielded, later
        self._heard = Heard()
        self._proposed: tuple[bytes, Block] | None = None  # what we proposed last, by its digest
        self._served: set[str] = set()  # who has had bodies of it since it was sent
        self._incomplete: dict[str, _Incomplete] = {}  # sender -> the last one that it proposed

    def heard(self, sender: str, raws: Sequence[bytes]) -> None:
        """Clients' transactions, from whomever."""
        self._heard.put(sender, raws)
        for proposer, waiting in list(self._incomplete.items()):
            self._fill(proposer, waiting, self._heard.find)

    def shorten(self, message: bytes, host: str) -> bytes | None:
        """What goes to the members in the place of an engine's `message`; None when that is no proposal."""
        content = messages.decode(message, host)
        if not isinstance(content, Propose):
            return None
        block = content.block
        self._proposed, self._served = (block.digest(), block), set()
        return codec.encode(Envelope(Short(content.view, block.header, tuple(map(transaction_id, block.transactions)))))

    def receive(self, sender: str, message: bytes) -> None:
        """Raises PeerFault for what must not be sent."""
        match codec.decode_canonical(message, Envelope, sender).content:
            case Short() as short:
                self._on_short(sender, short)
            case Want() as want:
                self._on_want(sender, want)
            case Bodies() as bodies:
                self._on_bodies(sender, bodies)

    def _on_short(self, sender: str, short: Short) -> None:
        self._incomplete.pop(sender, None)
        if short.header.height > self._height():
            waiting = self._incomplete[sender] = _Incomplete(short)
            if not self._fill(sender, waiting, self._heard.find):
                self._later(PATIENCE, lambda: self._ask(sender, waiting))

    def _fill(self, sender: str, waiting: _Incomplete, find: Callable[[bytes], bytes | None]) -> bool:
        complete = waiting.fill(find)
        if complete:
            del self._incomplete[sender]
            with self._shielded(sender):  # it may be another sender's message that completes it
                self._deliver(sender, messages.encode(waiting.proposal(sender)))
        return complete

    def _ask(self, sender: str, waiting: _Incomplete) -> None:
        if self._incomplete.get(sender) is waiting:
            self._send(sender, codec.encode(Envelope(Want(waiting.digest, waiting.lacking))))

    def _on_want(self, sender: str, want: Want) -> None:
        """Once for each time that we send it: a small message must not buy many large ones."""
        if self._proposed is None or self._proposed[0] != want.block or sender in self._served:
            return
        transactions, positions = self._proposed[1].transactions, want.positions
        if list(positions) != sorted(set(positions)) or positions[0] < 0 or positions[-1] >= len(transactions):
            raise PeerFault(sender, "asked for transactions that the proposal does not have")
        self._served.add(sender)
        self._send(sender, codec.encode(Envelope(Bodies(want.block, tuple(transactions[at] for at in positions)))))

    def _on_bodies(self, sender: str, bodies: Bodies) -> None:
        """Of what is lacking, so much as is there: any of it may have come from elsewhere since we asked."""
        waiting = self._incomplete.get(sender)
        if waiting is not None and waiting.digest == bodies.block:
            named = {transaction_id(raw): raw for raw in bodies.transactions}
            if not named.keys() <= set(waiting.short.names):
                raise PeerFault(sender, "sent other transactions than its proposal names")
            self._fill(sender, waiting, named.get)

"""Proposals without bodies: clients broadcast their transactions, so that a replica has most of a block's already.

Only the way over the links is shorter. The engine proposes, stores and votes on whole blocks: what a replica lacks it
asks the sender for, and hands the engine the proposal when it is complete. What was put together is the block that the
header names, since the engine compares its transactions' root as ever.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
ENTRY_BYTES = 384  # that remembering one takes besides
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
    """Transactions by their ids, as they came; verified or not. No sender can push out what others sent too."""

    def __init__(self, each_bytes: int = EACH_BYTES) -> None:
        self._each_bytes = each_bytes
        self._raws: dict[bytes, bytes] = {}
        self._senders: dict[bytes, int] = {}  # of how many each is remembered
        self._names: dict[str, OrderedDict[bytes, None]] = {}  # sender -> what is remembered of it, oldest first
        self._bytes: Counter[str] = Counter()  # that this takes

    def put(self, sender: str, raws: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns them by their names."""
        named = {transaction_id(raw): raw for raw in raws}
        own = self._names.setdefault(sender, OrderedDict())
        size = 0
        for name, raw in named.items():
            if name not in own:
                own[name] = None
                self._raws[name] = raw
                self._senders[name] = self._senders.get(name, 0) + 1
                size += len(raw) + ENTRY_BYTES
        self._bytes[sender] += size
        while self._bytes[sender] > self._each_bytes:
            self._drop(sender, next(iter(own)))
        return named

    def find(self, name: bytes) -> bytes | None:
        return self._raws.get(name)

    def keep_only(self, senders: Collection[str]) -> None:
        for sender in self._names.keys() - senders:
            for name in list(self._names[sender]):
                self._drop(sender, name)
            del self._names[sender], self._bytes[sender]

    def _drop(self, sender: str, name: bytes) -> None:
        del self._names[sender][name]
        self._bytes[sender] -= len(self._raws[name]) + ENTRY_BYTES
        self._senders[name] -= 1
        if not self._senders[name]:
            del self._raws[name], self._senders[name]


class _Incomplete:
    """A proposal of which transactions are lacking."""

    def __init__(self, short: Short) -> None:
        self.short = short
        self.digest = short.header.digest()
        self.lacking = set(short.names)
        self._found: dict[bytes, bytes] = {}
        self._bytes = 0

    def fill(self, named: Mapping[bytes, bytes]) -> bool:
        """Whether nothing is lacking any more, or it is more than there may be: then it is not to be kept."""
        found = {name: named[name] for name in self.lacking & named.keys()}
        self._found |= found
        self._bytes += sum(map(len, found.values()))
        self.lacking -= found.keys()
        return not self.lacking or self._bytes > MAX_BLOCK_BYTES

    def places(self) -> tuple[int, ...]:
        """Of what is lacking."""
        return tuple(place for place, name in enumerate(self.short.names) if name in self.lacking)

    def proposal(self, sender: str) -> Propose:
        """Raises PeerFault for one that is larger than any block."""
        if self._bytes > MAX_BLOCK_BYTES:
            raise PeerFault(sender, f"proposed transactions of more than {MAX_BLOCK_BYTES} bytes")
        return Propose(self.short.view, Block(self.short.header, tuple(map(self._found.__getitem__, self.short.names))))


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
        named = self._heard.put(sender, raws)
        for proposer, waiting in list(self._incomplete.items()):
            self._fill(proposer, waiting, named)

    def trust(self, hosts: Collection[str]) -> None:
        """Nothing of anybody else is kept any more."""
        self._heard.keep_only(hosts)
        self._incomplete = {host: waiting for host, waiting in self._incomplete.items() if host in hosts}

    def shorten(self, message: bytes, host: str) -> bytes | None:
        """What goes to the members in the place of an engine's `message`; None when that is no proposal."""
        if not messages.is_proposal(message):
            return None  # seen without opening it: votes come this way too
        content = messages.decode(message, host)
        assert isinstance(content, Propose)
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
        if len(set(short.names)) < len(short.names):
            raise PeerFault(sender, "proposed a transaction twice in one block")
        if short.header.height > self._height():
            waiting = self._incomplete[sender] = _Incomplete(short)
            found = ((name, self._heard.find(name)) for name in short.names)
            self._fill(sender, waiting, {name: raw for name, raw in found if raw is not None})
            if waiting.lacking:
                self._later(PATIENCE, lambda: self._ask(sender, waiting))

    def _fill(self, sender: str, waiting: _Incomplete, named: Mapping[bytes, bytes]) -> None:
        if waiting.fill(named):
            self._incomplete.pop(sender, None)  # gone already, if the block before ended the trust in its host
            with self._shielded(sender):  # it may be another sender's message that completes it
                self._deliver(sender, messages.encode(waiting.proposal(sender)))

    def _ask(self, sender: str, waiting: _Incomplete) -> None:
        if self._incomplete.get(sender) is waiting:
            self._send(sender, codec.encode(Envelope(Want(waiting.digest, waiting.places()))))

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
            self._fill(sender, waiting, named)

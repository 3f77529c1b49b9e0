"""Byzantine members, each a small wrapper around the honest engine that bends what it sends."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN, Ballot, Members
from ledger.consensus import messages
from ledger.consensus.engine import Effect, Engine, Send
from ledger.consensus.messages import (
    NEW_VIEW_DOMAIN,
    ChangeView,
    Content,
    EnterView,
    NewView,
    Propose,
    Status,
    Vote,
)
from ledger.consensus.standing import Signer, Standing
from ledger.errors import PeerFault
from ledger.identity import Signed
from ledger.simulation.twins import FastKey


class Adversary:
    """An honest engine whose messages pass through `bend`."""

    def __init__(
        self,
        engine: Engine,
        host: str,
        members: Members,
        standing: type[Standing[Any]],
        key: Signer | None = None,
    ) -> None:
        """`key` is the host's, where the others verify real signatures."""
        self._engine = engine
        self._key = key or FastKey(host)
        self._others = [member.host for member in members.members if member.host != host]
        self._host = host
        self._version = members.version
        self._view_change: Any = standing.view_change
        self._view_change_domain = standing.view_change_domain
        self._echoed: set[tuple[str, Ballot]] = set()
        self._split: set[bytes] = set()  # of blocks that only some are to hear of

    votes = True
    pledged = None  # it is asked for no heartbeats

    def start(self, now: float, wall: int) -> list[Effect]:
        return self._bent(self._engine.start(now, wall))

    def command(self, transactions: Sequence[bytes], now: float, wall: int) -> list[Effect]:
        return self._bent(self._engine.command(transactions, now, wall))

    def message(self, sender: str, message: bytes, now: float, wall: int) -> list[Effect]:
        extra = self.hear(sender, messages.decode(message, sender))
        try:
            return self._bent(self._engine.message(sender, message, now, wall)) + extra
        except PeerFault:
            return extra

    def tick(self, now: float, wall: int) -> list[Effect]:
        return self._bent(self._engine.tick(now, wall))

    def _bent(self, effects: list[Effect]) -> list[Effect]:
        bent: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send):
                content = messages.decode(effect.message, self._host)
                bent += [Send(to, messages.encode(other)) for to, other in self.bend(effect.to, content)]
            else:
                bent.append(effect)
        return bent

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        """What goes out in place of `content`."""
        return [(to, content)]

    def hear(self, sender: str, content: Content) -> list[Effect]:
        """What it adds when it hears something."""
        return []

    def _vote(self, ballot: Ballot) -> Vote:
        return Vote(ballot, self._key.sign(VOTE_DOMAIN, ballot.encode()))

    def _sign(self, domain: str, body: bytes) -> Signed:
        return Signed(self._key.public, body, self._key.sign(domain, body))


class Equivocator(Adversary):
    """Proposes one block to half of the members and another to the rest, and votes for whatever it hears of."""

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        half = len(self._others) // 2
        if isinstance(content, Vote) and to is None and content.ballot.digest in self._split:
            return [(host, content) for host in self._others[:half]]
        if not isinstance(content, Propose) or to is not None:
            return [(to, content)]
        self._split.add(content.block.digest())
        header = content.block.header
        later = msgspec.structs.replace(header, timestamp=header.timestamp + 1)
        other = Block(later, content.block.transactions)
        ballot = Ballot(header.chain, self._version, PREPARE, header.height, content.view, other.digest())
        first: list[tuple[str | None, Content]] = [(host, content) for host in self._others[:half]]
        second = Propose(content.view, other), self._vote(ballot)
        return first + [(host, each) for host in self._others[half:] for each in second]

    def hear(self, sender: str, content: Content) -> list[Effect]:
        if not isinstance(content, Vote) or (sender, content.ballot) in self._echoed:
            return []  # two of this kind would answer each other for ever
        self._echoed.add((sender, content.ballot))
        both = [msgspec.structs.replace(content.ballot, kind=kind) for kind in (PREPARE, COMMIT)]
        return [Send(sender, messages.encode(self._vote(ballot))) for ballot in both]


class Withholder(Adversary):
    """Sends its proposals to one member only."""

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        return [(self._others[0], content)] if isinstance(content, Propose) else [(to, content)]


class Forgetter(Adversary):
    """Leaves the prepared certificate out of its VIEW-CHANGE and its NEW-VIEW, and says it is higher than it is."""

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        match content:
            case ChangeView():
                change = codec.decode(content.signed.body, self._view_change)
                change = msgspec.structs.replace(change, prepared=() if isinstance(change.prepared, tuple) else None)
                return [(to, ChangeView(self._sign(self._view_change_domain, codec.encode(change)), None))]
            case EnterView() if content.signed.signer == self._key.public:
                new_view = codec.decode(content.signed.body, NewView)
                new_view = msgspec.structs.replace(new_view, forced=())
                return [(to, EnterView(self._sign(NEW_VIEW_DOMAIN, codec.encode(new_view))))]
            case Status():
                return [(to, msgspec.structs.replace(content, height=content.height + 1000))]
        return [(to, content)]

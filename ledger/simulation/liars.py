"""Byzantine members that lie about where they stand: in VIEW-CHANGE and NEW-VIEW, and to who catches up."""

from random import Random
from typing import Any

import msgspec

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, Ballot, Certificate
from ledger.consensus import messages
from ledger.consensus.agreement import Agreement
from ledger.consensus.engine import Effect, Send, Serve
from ledger.consensus.messages import (
    NEW_VIEW_DOMAIN,
    Blocks,
    ChangeView,
    Content,
    EnterView,
    Fetch,
    NewView,
    Propose,
    Status,
    Vote,
)
from ledger.consensus.standing import Standing
from ledger.simulation.adversaries import Adversary

FLOOD = 600  # messages of one life of a Flooder: two of them must not answer each other for ever


class Liar(Adversary):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._random = Random(self._host)  # noqa: S311  repeatable

    @property
    def _at(self) -> Standing[Any]:
        assert isinstance(self._engine, Agreement)
        return self._engine._at

    def _coin(self) -> bool:
        return self._random.random() < 0.5

    def _own_block(self) -> Block:
        """A valid one that nobody asked for."""
        best = self._at.best.header
        text = b"%s wants %d" % (self._host.encode(), best.height + 1)
        return self._at.chain.block((text,), best.timestamp + 1, self._host)  # type: ignore[attr-defined]

    def _forged(self, ballot: Ballot) -> Certificate:
        """With the names of a quorum, and signatures that nobody gave."""
        members = self._at.members
        hosts = sorted(member.host for member in members.members)[: members.quorum]
        return Certificate(ballot, tuple((host, bytes(64)) for host in hosts))

    def _help(self, ballot: Ballot) -> list[tuple[str | None, Content]]:
        """Votes of both kinds, before anything is prepared."""
        return [(None, self._vote(msgspec.structs.replace(ballot, kind=kind))) for kind in (PREPARE, COMMIT)]


class Forger(Liar):
    """Its VIEW-CHANGEs, another one for each host, show forged certificates: prepared, or of a block above."""

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        if not isinstance(content, ChangeView):
            return [(to, content)]
        return [(host, self._lie(content)) for host in ([to] if to else self._others)]

    def _lie(self, message: ChangeView) -> ChangeView:
        change = codec.decode(message.signed.body, self._view_change)
        if change.view == 0 or self._random.random() < 0.2:
            return message
        block, many = self._own_block(), isinstance(change.prepared, tuple)
        if many or self._coin():
            certificate = self._forged(self._at.ballot(PREPARE, change.view - 1, block.digest()))
            change = msgspec.structs.replace(change, prepared=(certificate,) if many else certificate)
        else:
            certificate = self._forged(self._at.ballot(COMMIT, 0, block.digest()))
            change = msgspec.structs.replace(change, committed=block.header, certificate=certificate, prepared=None)
        signed = self._sign(self._view_change_domain, codec.encode(change))
        return ChangeView(signed, block if change.prepared else None)

    def hear(self, sender: str, content: Content) -> list[Effect]:
        """Helps what it has brought about."""
        if isinstance(content, Propose) and content.block.header.proposer == self._host:
            ballot = self._at.ballot(PREPARE, content.view, content.block.digest())
            return [Send(to, messages.encode(vote)) for to, vote in self._help(ballot)]
        return []


class Usurper(Liar):
    """As the new primary it takes those VIEW-CHANGEs that suit it, or says that nothing is forced; then it proposes
    a block of its own."""

    _lied_in = -1

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        match content:
            case EnterView() if content.signed.signer == self._key.public and to is None:
                return [(None, self._new_view(content))]
            case Propose() if content.view == self._lied_in:
                block = self._own_block()
                ballot = self._at.ballot(PREPARE, content.view, block.digest())
                return [(None, Propose(content.view, block)), *self._help(ballot)]
            case Vote() if content.ballot.view == self._lied_in:
                return []
        return [(to, content)]

    def _new_view(self, honest: EnterView) -> EnterView:
        at = self._at
        new_view = codec.decode(honest.signed.body, NewView)
        if not new_view.forced:
            return honest
        self._lied_in = new_view.view
        mine = [received for received in at.changes.for_view(at.view) if not received.change.prepared]
        if len(mine) >= at.members.quorum:
            return at.new_view(mine)[1]
        return EnterView(self._sign(NEW_VIEW_DOMAIN, codec.encode(msgspec.structs.replace(new_view, forced=()))))


class Impostor(Liar):
    """Says that it is higher than it is, and serves blocks that nobody decided, or nothing."""

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        if isinstance(content, Status):
            content = msgspec.structs.replace(content, height=content.height + self._random.choice((1, 1, 1000)))
        return [(to, content)]

    def hear(self, sender: str, content: Content) -> list[Effect]:
        if not isinstance(content, Fetch) or content.first != self._at.height:
            return []
        block = self._own_block()
        ballot = self._at.ballot(COMMIT, self._at.view, block.digest())
        certificate = self._forged(ballot)
        if self._coin():  # a short one, which holds as far as it goes
            certificate = Certificate(ballot, ((self._host, self._vote(ballot).signature),))
        return [Send(sender, messages.encode(Blocks(((block, certificate),))))]

    def _bent(self, effects: list[Effect]) -> list[Effect]:
        return [effect for effect in super()._bent(effects) if not isinstance(effect, Serve)]


class Flooder(Liar):
    """Votes for everything, everywhere: far heights and views, other members, other blocks; and asks for far views."""

    _left = FLOOD

    def hear(self, sender: str, content: Content) -> list[Effect]:
        flood: list[Effect] = []
        while len(flood) < 4 and self._left > 0:
            self._left -= 1
            flood.append(Send(None, messages.encode(self._noise())))
        return flood

    def _noise(self) -> Content:
        at, random = self._at, self._random
        if random.random() < 0.1:
            change = at._change_to(at.view + random.randint(1, 10 ** random.randint(1, 12)))
            block = at.prepared.block if at.prepared else None
            return ChangeView(self._sign(self._view_change_domain, codec.encode(change)), block)
        kind, height = random.choice((PREPARE, COMMIT)), max(0, at.height + random.randint(-2, 8))
        version = at.members.version + (random.random() < 0.1)
        view = max(0, at.view + random.randint(-20, 20))
        return self._vote(Ballot(at.best.header.chain, version, kind, height, view, random.randbytes(32)))


class LateDater(Liar):
    """Sends whoever asks for a view a block of a later date than any, though it is not its turn to propose."""

    def hear(self, sender: str, content: Content) -> list[Effect]:
        if not isinstance(content, ChangeView):
            return []
        block, view = self._own_block(), self._at.view + self._random.randint(0, 1)
        later = msgspec.structs.replace(block.header, timestamp=2 * block.header.timestamp)
        return [Send(sender, messages.encode(Propose(view, Block(later, block.transactions))))]

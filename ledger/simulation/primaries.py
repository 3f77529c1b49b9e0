"""Byzantine primaries that propose too little, too late, or what nobody may vote for."""

from collections.abc import Sequence

import msgspec

from ledger.block import Block
from ledger.consensus import messages
from ledger.consensus.engine import Effect, Send, WakeAt
from ledger.consensus.messages import Content, Propose
from ledger.simulation.liars import Liar

SLOW = 1.5  # seconds; less than an honest replica waits


class Blunderer(Liar):
    """Before each good proposal it sends bad ones: wrong parent, time, root, height, view; a transaction twice; an
    old one. Who is sent more than one sees another each time."""

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        if not isinstance(content, Propose):
            return [(to, content)]
        bad = [self._spoilt(content) for _ in range(3)]
        return [*((self._random.choice(self._others), each) for each in bad), (to, content)]

    def _spoilt(self, good: Propose) -> Propose:
        header, body, chain = good.block.header, good.block.transactions, self._at.chain
        make = chain.block  # type: ignore[attr-defined]
        old = sorted(chain.decided)[:1]  # type: ignore[attr-defined]
        spoilt = {
            "parent": Block(msgspec.structs.replace(header, parent=bytes(32)), body),
            "time": Block(msgspec.structs.replace(header, timestamp=0), body),
            "far future": Block(msgspec.structs.replace(header, timestamp=header.timestamp * 2), body),
            "state": Block(msgspec.structs.replace(header, state_root=bytes(32)), body),
            "body": Block(header, (*body, b"more")),
            "height": Block(msgspec.structs.replace(header, height=header.height + 1), body),
            "members": Block(msgspec.structs.replace(header, members_digest=bytes(32)), body),
            "twice": make((*body, *body), header.timestamp, self._host),
            "stale": make((*body, *old), header.timestamp, self._host),
            "view": good.block,
        }
        kind = self._random.choice(list(spoilt))
        return Propose(good.view + (kind == "view"), spoilt[kind])


class Censor(Liar):
    """Never puts some of the transactions into a block."""

    def command(self, transactions: Sequence[bytes], now: float, wall: int) -> list[Effect]:
        return super().command(self._pleasing(transactions), now, wall)

    def message(self, sender: str, message: bytes, now: float, wall: int) -> list[Effect]:
        self._pleasing([])
        return super().message(sender, message, now, wall)

    def tick(self, now: float, wall: int) -> list[Effect]:
        self._pleasing([])
        return super().tick(now, wall)

    def _pleasing(self, transactions: Sequence[bytes]) -> list[bytes]:
        waiting: dict[bytes, None] = self._at.chain.waiting  # type: ignore[attr-defined]
        for transaction in [each for each in waiting if sum(each) % 2]:
            del waiting[transaction]
        return [each for each in transactions if sum(each) % 2 == 0]


class Sluggard(Liar):
    """Proposes as late as it can without being suspected."""

    _late: tuple[float, list[Effect]] | None = None
    _now = 0.0
    _wake: float | None = None

    def command(self, transactions: Sequence[bytes], now: float, wall: int) -> list[Effect]:
        self._now = now
        return super().command(transactions, now, wall)

    def message(self, sender: str, message: bytes, now: float, wall: int) -> list[Effect]:
        self._now = now
        return super().message(sender, message, now, wall)

    def tick(self, now: float, wall: int) -> list[Effect]:
        self._now = now
        due: list[Effect] = []
        if self._late and self._late[0] <= now:
            due, self._late = self._late[1], None
        return due + super().tick(now, wall)

    def _bent(self, effects: list[Effect]) -> list[Effect]:
        prompt: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send) and isinstance(messages.decode(effect.message, self._host), Propose):
                self._late = self._late or (self._now + SLOW, [])
                self._late[1].append(effect)
            elif isinstance(effect, WakeAt):
                self._wake = effect.time
            else:
                prompt.append(effect)
        times = [time for time in (self._wake, self._late[0] if self._late else None) if time is not None]
        return [*prompt, WakeAt(min(times))] if times else prompt

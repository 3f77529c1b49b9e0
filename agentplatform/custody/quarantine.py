"""After a bad restore (docs/custody.md): data that is an old copy of itself runs nothing until all other hosts have
said what they know [L11]. Pure.

    the host on old data                       every other host
      Begin -> Write(Started)
      RECALL: my life, my agents       -->       Write(Met)
                                       <--       RECALLED when Met is durable: what was told here before,
      Confirm or Left, when all said             what is known of the agents

An agent that left this host after the copy was made was received elsewhere, durably, before this host could commit it.
Whoever received it remembers that for ever, and so does everybody after him: one of those that are asked has it, or
knows where it went. So the last place of an agent is the highest epoch that anybody knows of.

What the lost life of this host had sent is not on its way any more: a new link ends the one before.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agentplatform.custody.declaring import Declaring
from agentplatform.custody.events import (
    Begin,
    Complete,
    Confirm,
    Effect,
    Event,
    Left,
    Outdated,
    Restart,
    Revoke,
    Send,
)
from agentplatform.custody.messages import HandoffMessage, Life, Recall, Recalled, Sighting
from agentplatform.custody.records import Confirmed, Met, Record, Restored, Revoked, Started, Whole
from agentplatform.custody.state import Phase

LETTERS_BITS = 32  # so many letters to one receiver, in powers of two, no agent sends in one life of its host
MAX_INCARNATION = 2**29


class Word(NamedTuple):
    """What one host says of one agent (messages.Sighting)."""

    epoch: int
    host: str
    settled: bool = True
    proven: bool = True  # a pass that this host signed after the copy was made leads away from here
    transfer: bytes = b""  # by which it went from there, if that is not acknowledged yet


class Claim(NamedTuple):
    """What the old data says: the agent was here in `epoch`; or, `inert`, on its way here at the next one."""

    epoch: int
    inert: bool = False


class Here(NamedTuple):
    """It goes on here, at this epoch."""

    epoch: int


class Gone(NamedTuple):
    epoch: int
    host: str  # "": it has ended


class Blocked(NamedTuple):
    on: str  # a host; "": its owner has to say
    why: str


def judge(own: str, claim: Claim, said: Mapping[str, Word | None], hosts: Iterable[str]) -> Here | Gone | Blocked:
    """What becomes of an agent in quarantine on `own`. `said`: by host, None when that knows nothing of it; `hosts`:
    all that have to say something."""
    for host in hosts:
        if host not in said:
            return Blocked(host, "it has not said yet whether it has them, or had")
    words = {host: word for host, word in said.items() if word is not None}
    moving = next((host for host, word in words.items() if not word.settled), None)
    if moving is not None:
        return Blocked(moving, "it is just taking them in, or giving them on")
    teller, last = max(words.items(), key=lambda each: each[1].epoch, default=("", Word(-1, "")))
    if claim.inert:
        if last.epoch < claim.epoch:
            return Blocked("", "they were on their way here, and no host knows any more what became of that")
        return Gone(last.epoch, last.host) if last.host != own else Here(last.epoch + 1)
    if last.epoch <= claim.epoch:
        return Here(claim.epoch + 1)
    if last.host == own:
        return Here(last.epoch + 1)
    if not any(word.proven for word in words.values()):
        return Blocked("", f"{teller} says that they left at epoch {last.epoch}, and shows no pass from here")
    return Gone(last.epoch, last.host)


def unacknowledged(own: str, words: Iterable[Word | None]) -> tuple[bytes, ...]:
    """Handoffs by which an agent came to `own` in its lost life, and whose sources wait for word."""
    return tuple(sorted({word.transfer for word in words if word is not None and word.host == own and word.transfer}))


def is_other(life: Life, told: Life) -> bool:
    """Whether `told`, which another host has heard of, is a life of this host that `life` knows nothing of."""
    return told.nonce != life.nonce and told.incarnation >= life.incarnation


def floor(life: Life) -> int:
    """Above all numbers of letters of earlier lives: each has its own part of the numbers."""
    return life.incarnation << LETTERS_BITS


class Quarantine(Declaring):
    def __init__(self, host: str) -> None:
        super().__init__(host)
        self._asked: dict[str, tuple[Recall, Life]] = {}  # by whom, and what it told before; Met is not durable yet

    def step(self, event: Event) -> list[Effect]:
        match event:
            case Begin(life):
                return [self._write(Started(life))]
            case Outdated():
                return [] if self.restored else [self._write(Restored())]
            case Confirm(agent, epoch, above, transfers) if agent in self.quarantined:
                known = self.agents[agent]
                confirmed = Confirmed(agent, epoch, above, transfers)
                return [self._write(confirmed), Restart(agent, epoch, known.kept, known.mail)]
            case Left(agent, epoch, host) if agent in self.quarantined:
                return [self._write(Revoked(agent, epoch, host)), Revoke(agent, epoch, host, restored=True)]
            case Complete() if self.restored and not self.quarantined:
                return [self._write(Whole())]
        return super().step(event)

    def _message(self, sender: str, message: HandoffMessage) -> list[Effect]:
        if isinstance(message, Recall):
            return self._recalled(sender, message)
        return super()._message(sender, message)

    # A host that is asked

    def _recalled(self, sender: str, asked: Recall) -> list[Effect]:
        before = self.met.get(sender, Life())
        if asked.life.incarnation > before.incarnation:
            self._asked[sender] = asked, before
            return [self._write(Met(sender, asked.life))]
        return [] if sender in self._asked else [self._answer(sender, asked, before)]

    def _durable(self, record: Record) -> list[Effect]:
        effects = super()._durable(record)
        if isinstance(record, Met) and record.host in self._asked:
            asked, before = self._asked[record.host]
            if asked.life == record.life:
                del self._asked[record.host]
                effects.append(self._answer(record.host, asked, before))
        return effects

    def _answer(self, sender: str, asked: Recall, before: Life) -> Send:
        sightings = tuple(seen for agent in asked.agents if (seen := self._sighting(agent)) is not None)
        return Send(sender, Recalled(asked.life.nonce, before, sightings))

    def _sighting(self, agent: str) -> Sighting | None:
        """Only what is durable is settled. An inert copy is none: what this host says of that is its source's word."""
        known = self.agents.get(agent)
        if known is None:
            return None
        arriving, transfer = self.arriving_by.get(agent), self.leaving_by.get(agent, b"")
        coming = arriving is not None and self.arriving[arriving].phase is Phase.ACTIVATING
        if coming or (transfer and self.leaving[transfer].phase is Phase.COMMITTING):
            return Sighting(agent, known.epoch, self.host, settled=False)
        if known.here or known.to is None:
            return Sighting(agent, known.epoch, self.host if known.here else "")
        return Sighting(agent, known.epoch + 1, known.to, transfer=transfer)

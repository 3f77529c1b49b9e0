"""Declarations of loss (docs/custody.md): what one host's machine does when the source of a handoff is gone for good
and the destination has only an inert copy. Pure.

    destination                                  every other host                    ledger
      Canvass                            -->       Write(Forsworn)
                                         <--       FORSWEAR when Forsworn is durable, or OBJECT
      all signatures             --------------------------------------------->     (agent, epoch, destination)
      Lost -> Write(Declared), Activate            Lost -> what is left of it here is given up

The canvass and the entry are the edge's part (agentplatform.custody.declarations).
"""

from agentplatform.custody.events import Activate, Decided, Effect, Event, Lost, Resume, Revoke, Send
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.messages import Canvass, Cargo, Forswear, HandoffMessage, Object
from agentplatform.custody.records import Aborted, Closed, Declared, Forsworn, Record, Revoked
from agentplatform.custody.state import Open, Phase, replace


def fresh(cargo: tuple[Cargo, ...]) -> tuple[Cargo, ...]:
    """At the epochs of a declaration: above what the source may have made of the handoff."""
    return tuple(replace(load, epoch=load.epoch + 1) for load in cargo)


class Declaring(Handoff):
    def step(self, event: Event) -> list[Effect]:
        return self._lost(event) if isinstance(event, Lost) else super().step(event)

    def _message(self, sender: str, message: HandoffMessage) -> list[Effect]:
        if isinstance(message, Canvass):
            return self._canvassed(sender, message)
        return super()._message(sender, message)

    # A host that is asked

    def _canvassed(self, sender: str, asked: Canvass) -> list[Effect]:
        reasons = [reason for load in asked.cargo if (reason := self._objection(load))]
        if reasons:
            return [Send(sender, Object(asked.transfer, "; ".join(reasons)))]
        return [self._write(Forsworn(asked.transfer, sender, asked.source, fresh(asked.cargo)))]

    def _objection(self, load: Cargo) -> str | None:
        """Why this host cannot swear that it neither runs, holds nor forwarded it, at this epoch or later."""
        agent, known = load.agent, self.agents.get(load.agent)
        if self.here(agent) is not None:
            return f"{agent} is on {self.host}"
        if agent in self.arriving_by:
            held = self.arriving[self.arriving_by[agent]]
            return f"{self.host} has a copy of {agent} too, from {held.peer}"
        if known is None:
            return None
        if known.to is None:
            return f"{agent} ended on {self.host}"
        if known.epoch + 1 >= load.epoch:
            return f"{agent} went from {self.host} to {known.to} at epoch {known.epoch + 1}"
        return None

    def _replayed(self, transfer: bytes, cargo: tuple[Cargo, ...]) -> str | None:
        """An oath is kept: else what is offered next runs beside the declared copy."""
        for load in cargo:
            if load.epoch <= self.sworn.get(load.agent, 0):
                return f"{self.host} swore that it has nothing of {load.agent} up to epoch {self.sworn[load.agent]}"
        return super()._replayed(transfer, cargo)

    # The ledger's word

    def _lost(self, entry: Lost) -> list[Effect]:
        agent, effects = entry.agent, list[Effect]()
        known, arriving = self.agents.get(agent), self.arriving_by.get(agent)
        if known is not None and not known.held and known.epoch < entry.epoch:
            effects += self._give_up_claim(entry)
        if arriving is None or self.arriving[arriving].by_ledger:
            return effects
        held = self.arriving[arriving]
        if (entry.host, entry.transfer) == (self.host, arriving):
            return [*effects, *self._declared(arriving, held)]
        if held.phase is not Phase.ACTIVATING and any(
            load.agent == agent and load.epoch <= entry.epoch for load in held.cargo
        ):
            effects += self._discard(arriving, held, f"{agent} was declared to be on {entry.host}")
        return effects

    def _declared(self, transfer: bytes, held: Open) -> list[Effect]:
        if held.phase is not Phase.RECEIVED:
            return []
        cargo = fresh(held.cargo)
        return [
            *self._close_earlier(cargo),
            self._write(Declared(transfer, cargo)),
            Activate(transfer, held.peer, cargo, ()),
        ]

    def _give_up_claim(self, entry: Lost) -> list[Effect]:
        """A copy that ran here, or is on its way from here: the agent goes on elsewhere. Others of its handoff do not
        suffer for that."""
        agent, effects = entry.agent, list[Effect]()
        transfer = self.leaving_by.get(agent)
        if transfer is not None:
            held = self.leaving[transfer]
            if held.phase is not Phase.OFFERED:  # they are the destination's, which will not say so any more
                later = held.phase is Phase.COMMITTED and entry.host != self.host
                return [self._write(Closed(transfer, held.cargo))] if later else []
            reason = f"{agent} was declared to be on {entry.host}"
            others = tuple(load for load in held.cargo if load.agent != agent)
            effects.append(self._write(Aborted(transfer, held.cargo)))
            if others:
                effects.append(Resume(transfer, held.peer, others, reason))
        if self.here(agent) is not None:
            effects += self._revoke(entry)
        return effects

    def _revoke(self, entry: Decided | Lost) -> list[Effect]:
        """The ledger has given away what is here."""
        return [
            self._write(Revoked(entry.agent, entry.epoch, entry.host)),
            Revoke(entry.agent, entry.epoch, entry.host),
        ]

    # Both

    def _durable(self, record: Record) -> list[Effect]:
        effects = super()._durable(record)
        if isinstance(record, Forsworn):
            effects.append(Send(record.asker, Forswear(record.transfer)))
        return effects

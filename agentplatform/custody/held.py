"""Held custody (docs/custody.md): what one host's machine does where the ledger decides. Pure.

    source                                    destination                         ledger
      Depart -> Write(Prepare)
      OFFER when Prepare is durable    -->      Examine
                                                Admitted -> Write(Received)
      Ask, with both signatures        <--      ACCEPT when Received is durable, and Examined
                                       ------------------------------------->     (agent, epoch, destination, transfer)
      Decided -> Write(Commit)                  Decided -> Write(Active), Activate
      NOTICE when Commit is durable    -->
      Write(Closed)                    <--      ACKNOWLEDGE when Active is durable

From Ask on, the source ends the handoff only through the ledger: Withdraw asks for (agent, epoch, source), and one of
the two entries fails. Both hosts take the outcome from their own chains. Without a quorum they wait. In a convoy
(custody.convoys) the offer has the source's signature already, and its destination asks.
"""

from agentplatform.custody.changing import Changing
from agentplatform.custody.events import (
    Ask,
    Decided,
    Depart,
    Dismiss,
    Effect,
    Event,
    Rehomed,
    Restart,
    Resume,
    Return,
    Send,
    Withdraw,
)
from agentplatform.custody.messages import Abort, Accept, Cargo, HandoffMessage, Inquire, Offer
from agentplatform.custody.records import (
    BIRTH,
    Born,
    Closed,
    Commit,
    Dismissed,
    Ended,
    Kept,
    Prepare,
    Record,
    Withdrawn,
)
from agentplatform.custody.state import Open, Phase, replace
from ledger.errors import Misuse, PeerFault


class Held(Changing):
    """The machine of a host: for agents in local custody it is a Handoff, for those in held custody what follows."""

    def step(self, event: Event) -> list[Effect]:
        match event:
            case Decided():
                return self._decided(event)
            case Rehomed(agent, epoch, subject):
                return self._rehomed(agent, epoch, subject)
            case Depart(transfer, to, cargo, True):
                effects = self._depart(transfer, to, cargo)
                self.leaving[transfer] = replace(self.leaving[transfer], signed=True)
                return effects
        return super().step(event)

    def _message(self, sender: str, message: HandoffMessage) -> list[Effect]:
        match message:
            case Accept(transfer, True) | Inquire(transfer, True) if transfer not in self.leaving:
                return self._over(sender, transfer)
            case _:
                return super()._message(sender, message)

    # Source

    def _depart(self, transfer: bytes, to: str, cargo: tuple[Cargo, ...]) -> list[Effect]:
        effects = super()._depart(transfer, to, cargo)
        if cargo[0].held:
            return [effect for effect in effects if not isinstance(effect, Send)]
        return effects

    def _commit(self, transfer: bytes, held: Open) -> list[Effect]:
        """The destination accepted. PREPARE is durable: the offer waited for it [H2]."""
        if not held.by_ledger:
            return super()._commit(transfer, held)
        self.leaving[transfer] = replace(held, phase=Phase.ASKED)
        return [Ask(transfer, held.peer, held.cargo)]

    def _refuse(self, sender: str, transfer: bytes, reason: str) -> list[Effect]:
        held = self._between(self.leaving, sender, transfer)
        if held is not None and held.signed and held.phase is Phase.ASKED:
            return self._withdraw(transfer, held)  # it has the signature: its word ends nothing
        return super()._refuse(sender, transfer, reason)

    def _over(self, sender: str, transfer: bytes) -> list[Effect]:
        """Only what it remembers counts. A host that knows nothing of the transfer has lost its disk, and the ledger
        may yet be asked in its name."""
        if self.past.get(transfer) in ("Withdrawn", "Kept"):
            return [Send(sender, Abort(transfer, "the agent stayed at its source"))]
        return []

    def _may_abort(self, held: Open) -> bool:
        return super()._may_abort(held) or held.phase is Phase.PREPARING

    def _abort(self, transfer: bytes, held: Open, reason: str) -> list[Effect]:
        if not held.by_ledger:
            return super()._abort(transfer, held, reason)
        return [self._write(Withdrawn(transfer, held.cargo)), Resume(transfer, held.peer, held.cargo, reason)]

    def _give_up(self, transfer: bytes, reason: str) -> list[Effect]:
        held = self.leaving.get(transfer)
        if held is not None and held.phase is Phase.ASKED:
            return self._withdraw(transfer, held)
        if held is not None and held.peer == self.host and self._may_abort(held):
            return self._abort(transfer, held, reason)  # nobody was offered anything
        return super()._give_up(transfer, reason)

    def _withdraw(self, transfer: bytes, held: Open) -> list[Effect]:
        """The signature may have left: only the ledger takes it back [H4]."""
        self.leaving[transfer] = replace(held, phase=Phase.WITHDRAWING)
        return [Withdraw(transfer, held.cargo, held.entry)]

    def _presume_abort(self, transfer: bytes, held: Open) -> list[Effect]:
        """After a restart, PREPARE and no decision: the ledger may have been asked. `_remind` comes next."""
        if not held.by_ledger:
            return super()._presume_abort(transfer, held)
        self._withdraw(transfer, held)
        return []

    # Destination

    def _offer(self, sender: str, transfer: bytes, cargo: tuple[Cargo, ...]) -> list[Effect]:
        if len({load.held for load in cargo}) > 1:
            raise PeerFault(sender, f"offered agents in held and in local custody in one handoff, {transfer.hex()}")
        return super()._offer(sender, transfer, cargo)

    def _notice(self, sender: str, transfer: bytes, mail: tuple[bytes, ...]) -> list[Effect]:
        held = self._between(self.arriving, sender, transfer)
        if held is not None and held.by_ledger and held.phase is Phase.RECEIVED:
            return []  # the source's chain is ahead; ours will say so
        return super()._notice(sender, transfer, mail)

    def _acknowledge(self, sender: str, transfer: bytes) -> list[Effect]:
        held = self._between(self.leaving, sender, transfer)
        if held is not None and held.by_ledger and held.phase is not Phase.COMMITTED:
            return []  # its chain is ahead of ours; it answers our notice again
        return super()._acknowledge(sender, transfer)

    # The ledger's word

    def _decided(self, entry: Decided) -> list[Effect]:
        effects: list[Effect] = []
        leaving, arriving = self.leaving_by.get(entry.agent), self.arriving_by.get(entry.agent)
        known = self.agents.get(entry.agent)
        if leaving is not None:
            effects += self._decided_at_source(entry, leaving, self.leaving[leaving])
        elif known is not None and known.held and entry.epoch > known.epoch:
            if known.here and entry.host != self.host:
                effects += self._revoke(entry)
            elif entry.agent in self.ended:
                effects.append(self._write(Dismissed(entry.agent)))
        if arriving is not None:
            effects += self._decided_at_destination(entry, arriving, self.arriving[arriving])
        return effects

    def _rehomed(self, agent: str, epoch: int, subject: bytes) -> list[Effect]:
        known = self.agents.get(agent)
        busy = agent in self.leaving_by or agent in self.arriving_by
        if busy or (known is not None and (known.here or known.epoch >= epoch)):
            raise Misuse(f"{agent} is on {self.host}, or was there at epoch {epoch} or later: it cannot go on here")
        return [self._write(Born(agent, epoch, subject)), Restart(agent, epoch, BIRTH, ())]

    def _decided_at_source(self, entry: Decided, transfer: bytes, held: Open) -> list[Effect]:
        if held.peer == self.host:
            return self._decided_change(entry, transfer, held)
        load = _load(held, entry.agent)
        if entry.epoch < load.epoch:
            return []
        if held.phase in (Phase.COMMITTING, Phase.COMMITTED):
            # A later epoch acknowledges: the destination gave the agent on, or the ledger did, which has all there.
            later = held.phase is Phase.COMMITTED and entry.epoch > load.epoch
            return [self._write(Closed(transfer, held.cargo))] if later else []
        if _by(entry, load, held.peer, transfer):  # then so it is with all of them
            return [self._write(Commit(transfer, held.cargo))]
        effects: list[Effect] = []
        if (entry.epoch, entry.host) == (load.epoch, self.host):
            reason = f"the handoff to {held.peer} was withdrawn before the ledger decided it"
            effects += [self._write(Kept(transfer, (load,))), Return(transfer, held.peer, (load,), reason)]
        else:
            effects += self._revoke(entry)
        # Those that were to go with it stay, as soon as the ledger says so of each: it may have been asked for all.
        return [*effects, *self._give_up(transfer, f"{entry.agent} does not go to {held.peer} with them")]

    def _decided_at_destination(self, entry: Decided, transfer: bytes, held: Open) -> list[Effect]:
        load = _load(held, entry.agent)
        if entry.epoch < load.epoch or held.phase is Phase.ACTIVATING:
            return []
        if _by(entry, load, self.host, transfer):  # then so it is with all of them
            return self._activate(transfer, held, ()) if held.phase is Phase.RECEIVED else []
        return self._discard(transfer, held, f"the ledger gave {entry.agent} to {entry.host or 'nobody'}")

    # Both

    def _durable(self, record: Record) -> list[Effect]:
        effects = super()._durable(record)
        match record:
            case Prepare(transfer, to, cargo) if self._is_offered(transfer, cargo):
                effects.append(Send(to, Offer(transfer, cargo, ())))
                held = self.leaving[transfer]
                if held.signed:
                    self.leaving[transfer] = replace(held, phase=Phase.ASKED)
            case Ended(agent) if agent in self.ended:
                effects.append(self._dismiss(agent))
        return effects

    def _remind(self) -> list[Effect]:
        effects = super()._remind()
        for transfer, held in self.leaving.items():
            if held.phase is Phase.ASKED:
                effects.append(Ask(transfer, held.peer, held.cargo, held.entry))
            elif held.phase is Phase.WITHDRAWING:
                effects.append(Withdraw(transfer, held.cargo, held.entry))
        return [*effects, *(self._dismiss(agent) for agent in sorted(self.ended))]

    def _is_offered(self, transfer: bytes, cargo: tuple[Cargo, ...]) -> bool:
        return cargo[0].held and transfer in self.leaving and self.leaving[transfer].phase is Phase.OFFERED

    def _dismiss(self, agent: str) -> Dismiss:
        known = self.agents[agent]
        return Dismiss(agent, known.subject, known.epoch + 1)


def _load(held: Open, agent: str) -> Cargo:
    return next(load for load in held.cargo if load.agent == agent)


def _by(entry: Decided, load: Cargo, host: str, transfer: bytes) -> bool:
    """Whether this transfer is what made the entry."""
    return (entry.epoch, entry.host, entry.transfer) == (load.epoch, host, transfer)

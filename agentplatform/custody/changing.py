"""A change of an agent's custody while it lives, local to held and back: it stays on its host, and the ledger decides.
Pure.

      ChangeCustody -> Write(Convert)
      Ask, when Convert is durable         ----->   (agent, epoch, host): held, or (agent, epoch, nobody): local
      Decided -> Write(Kept), Changed

As a handoff of held custody to its own host, and for the same reasons: from Ask on, only the ledger ends it. Withdraw
asks for the other of the two entries, so that a delayed one fails, and either has the epoch. The custody in which the
agent goes on is the one that the entry says.
"""

from agentplatform.custody.events import Ask, ChangeCustody, Changed, Decided, Effect, Event, Return
from agentplatform.custody.messages import Cargo
from agentplatform.custody.quarantine import Quarantine
from agentplatform.custody.records import Convert, Kept, Record
from agentplatform.custody.state import Open, Phase, replace
from ledger.errors import Misuse


class Changing(Quarantine):
    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, ChangeCustody):
            return self._change(event.transfer, event.load, event.entry)
        return super().step(event)

    def _change(self, transfer: bytes, load: Cargo, entry: bytes) -> list[Effect]:
        epoch, known = self.free(load.agent), self.agents[load.agent]
        if transfer in self.leaving or transfer in self.arriving or transfer in self.past:
            raise Misuse(f"transfer {transfer.hex()} was used before; draw a new id")
        if known.held is bool(entry):
            raise Misuse(f"{load.agent} is in {'held' if known.held else 'local'} custody already")
        if load.epoch != epoch + 1 or not load.held or known.subject not in (b"", load.subject):
            raise Misuse(f"{load.agent} is at epoch {epoch}: its custody changes at the next, under its own subject")
        return [self._write(Convert(transfer, (load,), entry))]

    def _durable(self, record: Record) -> list[Effect]:
        effects = super()._durable(record)
        match record:
            case Convert(transfer) if transfer in self.leaving and self.leaving[transfer].phase is Phase.OFFERED:
                held = self.leaving[transfer] = replace(self.leaving[transfer], phase=Phase.ASKED)
                effects.append(Ask(transfer, self.host, held.cargo, held.entry))
        return effects

    def _decided_change(self, entry: Decided, transfer: bytes, held: Open) -> list[Effect]:
        (load,) = held.cargo
        if entry.epoch < load.epoch:
            return []
        was_held = not held.entry
        is_held = (entry.epoch, entry.host) == (load.epoch, self.host)
        if was_held and not is_held and (entry.epoch, entry.host) != (load.epoch, ""):
            return self._revoke(entry)  # a quorum gave it to another host
        load = replace(load, subject=load.subject if is_held else b"")
        kept = self._write(Kept(transfer, (load,)))
        if is_held is not was_held:
            return [kept, Changed(transfer, load)]
        reason = "the change of its custody was withdrawn before the ledger decided it"
        return [kept, Return(transfer, self.host, (load,), reason)]

"""The handoff of agents between two hosts, local custody (docs/custody.md): one host's machine, both roles. Pure.
In held custody the ledger decides in the place of COMMIT: agentplatform.custody.held. When the source is lost:
agentplatform.custody.declaring.

    source                                    destination
      Depart -> Write(Prepare), OFFER  -->      Examine
                                                Admitted -> Write(Received)
      Write(Commit)                    <--      ACCEPT when Received is durable, and Examined
      NOTICE when Commit is durable    -->      Write(Active), Activate
      Write(Closed)                    <--      ACKNOWLEDGE when Active is durable

One event in, a list of effects out (agentplatform.custody.events). What must be durable before a message leaves
is decided here; what running agents do before Active is durable waits in the gateway.
"""

from collections.abc import Iterable
from typing import Self

from agentplatform.custody import messages
from agentplatform.custody.events import (
    Activate,
    Admitted,
    Begin,
    ChangeCustody,
    Complete,
    Confirm,
    Created,
    Decided,
    Depart,
    Discard,
    Disposed,
    Durable,
    Effect,
    Event,
    Examine,
    Examined,
    GiveUp,
    Left,
    Lost,
    Message,
    Outdated,
    Rehomed,
    Release,
    Remind,
    Reopen,
    Restart,
    Restore,
    Resume,
    Send,
    Write,
)
from agentplatform.custody.messages import (
    Abort,
    Accept,
    Acknowledge,
    Canvass,
    Cargo,
    Forswear,
    HandoffMessage,
    Inquire,
    Notice,
    Object,
    Offer,
    Recall,
    Recalled,
    Refuse,
)
from agentplatform.custody.records import (
    Aborted,
    Active,
    Born,
    Closed,
    Commit,
    Discarded,
    Ended,
    Prepare,
    Received,
    Record,
)
from agentplatform.custody.state import Custody, Open, Phase, replace
from ledger.errors import Misuse, PeerFault

UNPROMISED = (Phase.EXAMINING, Phase.ADMITTED, Phase.WRITTEN, Phase.RECEIVING)
"""Of an arrival: no ACCEPT has left."""


class Handoff(Custody):
    def step(self, event: Event) -> list[Effect]:
        """Raises Misuse for what the edge must not ask, PeerFault for what `sender` must not send; then nothing
        has changed."""
        match event:
            case Message(sender, message):
                return self._message(sender, message)
            case Durable(record):
                return self._durable(record)
            case Depart(transfer, to, cargo):
                return self._depart(transfer, to, cargo)
            case Admitted(transfer):
                return self._admitted(transfer)
            case Examined(transfer, refusal):
                return self._examined(transfer, refusal)
            case GiveUp(transfer, reason):
                return self._give_up(transfer, reason)
            case Remind():
                return self._remind()
            case Created(agent, subject):
                if agent in self.agents:
                    raise Misuse(f"{agent} was on {self.host} before: an agent's id is never used again")
                return [self._write(Born(agent, 0, subject))]
            case Disposed(agent):
                if agent not in self.quarantined:  # its owner may end what nobody can decide
                    self.free(agent)
                return [self._write(Ended(agent))]
            case Decided(agent) | Rehomed(agent):
                raise Misuse(f"{self.host} takes no agents in held custody; {agent} was none")
            case ChangeCustody():
                raise Misuse(f"{self.host} takes no agents in held custody")
            case Lost():
                return []  # the declaration is for whoever may have the agent: custody.declaring
            case Begin() | Outdated() | Confirm() | Left() | Complete():
                return []  # custody.quarantine

    def _message(self, sender: str, message: HandoffMessage) -> list[Effect]:
        match message:
            case Offer(transfer, cargo):
                return self._offer(sender, transfer, cargo)
            case Accept(transfer):
                return self._accept(sender, transfer)
            case Refuse(transfer, reason):
                return self._refuse(sender, transfer, reason)
            case Notice(transfer, mail):
                return self._notice(sender, transfer, mail)
            case Acknowledge(transfer):
                return self._acknowledge(sender, transfer)
            case Inquire(transfer):
                return self._inquire(sender, transfer)
            case Abort(transfer, reason):
                return self._forsaken(sender, transfer, reason)
            case messages.Closed(transfer):
                return self._forsaken(sender, transfer, f"{sender} finished this handoff long ago")
            case Canvass() | Forswear() | Object() | Recall() | Recalled():
                return []

    # Source

    def _depart(self, transfer: bytes, to: str, cargo: tuple[Cargo, ...]) -> list[Effect]:
        if to == self.host:
            raise Misuse(f"the agents are on {to} already; name another host")
        if transfer in self.leaving or transfer in self.arriving or transfer in self.past:
            raise Misuse(f"transfer {transfer.hex()} was used before; draw a new id")
        if not cargo or cargo != self.cargo(load.agent for load in cargo):
            raise Misuse(f"the cargo of transfer {transfer.hex()} has wrong epochs; take it from Handoff.cargo")
        if len({load.agent for load in cargo}) != len(cargo):
            raise Misuse(f"the cargo of transfer {transfer.hex()} names an agent twice; name each once")
        # The offer does not wait for the record: it promises nothing.
        return [Send(to, Offer(transfer, cargo, ())), self._write(Prepare(transfer, to, cargo))]

    def _accept(self, sender: str, transfer: bytes) -> list[Effect]:
        held = self._between(self.leaving, sender, transfer)
        if held is None:  # given up before the answer came, or finished and this one is late
            return [] if transfer in self.past else [Send(sender, _unknown(transfer))]
        return self._commit(transfer, held) if held.phase is Phase.OFFERED else []

    def _commit(self, transfer: bytes, held: Open) -> list[Effect]:
        return [self._write(Commit(transfer, held.cargo))]

    def _committed(self, transfer: bytes, held: Open) -> list[Effect]:
        return [Send(held.peer, Notice(transfer, ())), Release(transfer, held.peer, held.cargo)]

    def _refuse(self, sender: str, transfer: bytes, reason: str) -> list[Effect]:
        held = self._between(self.leaving, sender, transfer)
        if held is None or not self._may_abort(held):
            return []  # the refusal of a repeated offer
        return self._abort(transfer, held, f"{sender} refused: {reason}")

    def _give_up(self, transfer: bytes, reason: str) -> list[Effect]:
        held = self.leaving.get(transfer)
        if held is None or not self._may_abort(held):
            return []
        return [*self._abort(transfer, held, reason), Send(held.peer, Abort(transfer, reason))]

    def _inquire(self, sender: str, transfer: bytes) -> list[Effect]:
        held = self._between(self.leaving, sender, transfer)
        if held is None:
            finished = self.past.get(transfer) == "Closed"
            return [Send(sender, messages.Closed(transfer) if finished else _unknown(transfer))]
        if self._may_abort(held):
            reason = f"{sender} asked about the handoff before its answer to the offer came"
            return [*self._abort(transfer, held, reason), Send(sender, Abort(transfer, reason))]
        return [Send(sender, Notice(transfer, ()))] if held.phase is Phase.COMMITTED else []

    def _may_abort(self, held: Open) -> bool:
        return held.phase is Phase.OFFERED

    def _abort(self, transfer: bytes, held: Open, reason: str) -> list[Effect]:
        return [
            self._write(Aborted(transfer, held.cargo)),
            Resume(transfer, held.peer, held.cargo, reason),
        ]

    def _acknowledge(self, sender: str, transfer: bytes) -> list[Effect]:
        held = self._between(self.leaving, sender, transfer)
        if held is None:
            return []  # repeated
        if held.phase is not Phase.COMMITTED:
            raise PeerFault(sender, f"acknowledged handoff {transfer.hex()}, of which it had no notice")
        return [self._write(Closed(transfer, held.cargo))]

    # Destination

    def _offer(self, sender: str, transfer: bytes, cargo: tuple[Cargo, ...]) -> list[Effect]:
        if not cargo or len({load.agent for load in cargo}) != len(cargo):
            raise PeerFault(sender, f"offered handoff {transfer.hex()} with no agent, or with one agent twice")
        held = self._between(self.arriving, sender, transfer)
        if held is not None:
            return [Send(sender, Accept(transfer, held.by_ledger))] if held.phase is Phase.RECEIVED else []
        refusal = self._replayed(transfer, cargo) or self._occupied(cargo)
        if refusal is not None:
            return [Send(sender, Refuse(transfer, refusal))]
        self.examine(transfer, Open(sender, cargo, Phase.EXAMINING))
        return [Examine(transfer, sender, cargo)]

    def _replayed(self, transfer: bytes, cargo: tuple[Cargo, ...]) -> str | None:
        """Without this, a late OFFER and NOTICE revive a copy that has gone on [L1]."""
        if transfer in self.past or transfer in self.leaving:
            return f"handoff {transfer.hex()} was here before"
        for load in cargo:
            known = self.agents.get(load.agent)
            if load.epoch <= (known.epoch if known is not None else 0):
                return f"{load.agent} was here before, at epoch {load.epoch} or later"
        return None

    def _occupied(self, cargo: tuple[Cargo, ...]) -> str | None:
        for load in cargo:
            if self.here(load.agent) is not None:
                return f"{load.agent} is here"
            other = self.arriving_by.get(load.agent)
            if other is not None:
                source = self.arriving[other].peer
                return f"a copy of {load.agent} waits here for {source} to say what became of {other.hex()}"
        return None

    def _admitted(self, transfer: bytes) -> list[Effect]:
        """RECEIVED promises nothing: ACCEPT does. So it is written while the parcels are being opened."""
        held = self.arriving.get(transfer)
        if held is None or held.phase is not Phase.EXAMINING:
            return []  # aborted meanwhile
        effects: list[Effect] = [self._write(Received(transfer, held.peer, held.cargo))]
        self.arriving[transfer] = replace(held, phase=Phase.ADMITTED)
        return effects

    def _examined(self, transfer: bytes, refusal: str | None) -> list[Effect]:
        held = self.arriving.get(transfer)
        if held is None:
            return []  # aborted meanwhile
        match held.phase, refusal:
            case Phase.EXAMINING, None:
                return [self._write(Received(transfer, held.peer, held.cargo))]
            case Phase.EXAMINING, str(reason):
                self.forget(transfer)
                return [Send(held.peer, Refuse(transfer, reason))]
            case ((Phase.ADMITTED | Phase.WRITTEN), str(reason)):
                return [self._write(Discarded(transfer)), Send(held.peer, Refuse(transfer, reason))]
            case Phase.ADMITTED, _:
                self.arriving[transfer] = replace(held, phase=Phase.RECEIVING)
                return []
            case Phase.WRITTEN, _:
                self.arriving[transfer] = replace(held, phase=Phase.RECEIVED)
                return [Send(held.peer, Accept(transfer, held.by_ledger))]
        return []

    def _notice(self, sender: str, transfer: bytes, mail: tuple[bytes, ...]) -> list[Effect]:
        held = self._between(self.arriving, sender, transfer)
        if held is None and self.past.get(transfer) == "Active":
            return [Send(sender, Acknowledge(transfer))]  # repeated
        if held is None or held.phase in UNPROMISED:
            raise PeerFault(
                sender,
                f"gave notice of handoff {transfer.hex()}, which {self.host} did not accept; if {self.host} "
                "was started on an old copy of its data, stop it and restore the right one",
            )
        return self._activate(transfer, held, mail) if held.phase is Phase.RECEIVED else []

    def _activate(self, transfer: bytes, held: Open, mail: tuple[bytes, ...]) -> list[Effect]:
        return [
            *self._close_earlier(held.cargo),
            self._write(Active(transfer, mail)),
            Activate(transfer, held.peer, held.cargo, mail),
        ]

    def _close_earlier(self, cargo: tuple[Cargo, ...]) -> list[Effect]:
        """A notice of a later epoch acknowledges all earlier ones: the agents went on from there. Written first, for
        no log may say that an agent is here again and on its way from here."""
        earlier = {self.leaving_by[load.agent] for load in cargo if load.agent in self.leaving_by}
        return [self._write(Closed(left, self.leaving[left].cargo)) for left in sorted(earlier)]

    def _activated(self, transfer: bytes, held: Open) -> list[Effect]:
        return [Send(held.peer, Acknowledge(transfer))]

    def _forsaken(self, sender: str, transfer: bytes, reason: str) -> list[Effect]:
        """The source aborted, or finished: only an inert copy may go [L9]."""
        held = self._between(self.arriving, sender, transfer)
        if held is None or held.phase is Phase.ACTIVATING:
            return []
        return self._discard(transfer, held, reason)

    def _discard(self, transfer: bytes, held: Open, reason: str) -> list[Effect]:
        if held.phase is Phase.EXAMINING:
            self.forget(transfer)
            self.past[transfer] = "Discarded"  # so that the offer, repeated, is not examined twice at once
            return [Discard(transfer, held.cargo, reason)]
        return [self._write(Discarded(transfer)), Discard(transfer, held.cargo, reason)]

    # Both

    def _durable(self, record: Record) -> list[Effect]:
        held = self.sink(record)
        match record:
            case Received(transfer, source) if held is not None and held.phase is Phase.RECEIVED:
                return [Send(source, Accept(transfer, held.by_ledger))]
            case Commit(transfer) if held is not None:
                return self._committed(transfer, held)
            case Active(transfer) if held is not None:
                return self._activated(transfer, held)
        return []

    def _remind(self) -> list[Effect]:
        """Whoever waits asks; it never decides by itself."""
        effects: list[Effect] = []
        for transfer, held in self.leaving.items():
            if held.phase is Phase.COMMITTED:
                effects.append(Send(held.peer, Notice(transfer, ())))
        for transfer, held in self.arriving.items():
            if held.phase is Phase.RECEIVED:
                effects.append(Send(held.peer, Inquire(transfer, held.by_ledger)))
        return effects

    @classmethod
    def recover(cls, host: str, records: Iterable[Record]) -> tuple[Self, list[Effect]]:
        """The machine after a restart, from all that is durable, and what is to be done first.

        The records must have been synced before they were read [L2]; agentplatform.custody.journal sees to that.
        """
        machine = cls(host)
        for record in records:
            machine.apply(record)
            machine.sink(record)
        return machine, machine._resolve()

    def _resolve(self) -> list[Effect]:
        effects: list[Effect] = []
        restored: set[str] = set()
        for transfer, held in list(self.leaving.items()):
            if held.phase is Phase.OFFERED:
                restored.update(load.agent for load in held.cargo)
                effects += self._presume_abort(transfer, held)
        for known in self.agents.values():
            if known.here and known.agent not in restored and known.agent not in self.quarantined:
                effects.append(Restart(known.agent, known.epoch, known.kept, known.mail))
        for transfer, held in self.arriving.items():
            effects.append(Reopen(transfer, held.peer, held.cargo))
        return [*effects, *self._remind()]

    def _presume_abort(self, transfer: bytes, held: Open) -> list[Effect]:
        """Always: "abort" may have been told before the crash [L3]."""
        reason = f"{self.host} was restarted before the handoff to {held.peer} was committed"
        return [
            self._write(Aborted(transfer, held.cargo)),
            Restore(transfer, held.peer, held.cargo, reason),
            Send(held.peer, Abort(transfer, reason)),
        ]

    def _write(self, record: Record) -> Write:
        self.apply(record)
        return Write(record)

    def _between(self, transfers: dict[bytes, Open], sender: str, transfer: bytes) -> Open | None:
        held = transfers.get(transfer)
        if held is not None and held.peer != sender:
            raise PeerFault(sender, f"spoke of handoff {transfer.hex()}, which is between {self.host} and {held.peer}")
        return held


def _unknown(transfer: bytes) -> Abort:
    return Abort(transfer, "the handoff is not known at its source, so it was never committed")

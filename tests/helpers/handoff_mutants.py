"""Handoffs with one rule of docs/custody.md left out each. The explorer must find what it breaks."""

from collections.abc import Iterable
from typing import NamedTuple, Self

from agentplatform.custody.events import (
    Ask,
    Changed,
    Decided,
    Discard,
    Durable,
    Effect,
    Reopen,
    Restart,
    Resume,
    Send,
    Withdraw,
    Write,
)
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Accept, Acknowledge, Cargo
from agentplatform.custody.records import Active, Convert, Discarded, Ended, Kept, Past, Received, Record, Withdrawn
from agentplatform.custody.state import Open, Phase, replace
from tests.helpers.handoff_model import AGENT, Host, Memory, Stimulus


class ForgetsWhoWasHere(Held):
    """[L1] Neither epochs nor transfer ids are compared with what was here before."""

    def _replayed(self, transfer: bytes, cargo: tuple[Cargo, ...]) -> str | None:
        return None


class ForgetsTheAbort(Held):
    """[L3] Restarted with PREPARE and no COMMIT, it goes on waiting for the answer to its offer."""

    def _presume_abort(self, transfer: bytes, held: Open) -> list[Effect]:
        return [Reopen(transfer, held.peer, held.cargo)]


class FreezesAgain(Host):
    """The edge of ForgetsTheAbort: what is reopened at the source is frozen."""

    def perform(self, effects: list[Effect]) -> None:
        super().perform(effects)
        for copy in self.kind("inert"):
            if copy.transfer in self.machine.leaving:
                self.swap(copy, copy._replace(kind="frozen", epoch=copy.epoch - 1))


class NotifiesBeforeCommit(Held):
    """[L4] The notice leaves when COMMIT is handed to the log."""

    def _commit(self, transfer: bytes, held: Open) -> list[Effect]:
        return [*super()._commit(transfer, held), *self._committed(transfer, held)]


class DropsWhatItAccepted(Held):
    """[L5] An inert copy goes when the source is silent for long."""

    def _remind(self) -> list[Effect]:
        effects = super()._remind()
        for transfer, held in list(self.arriving.items()):
            if held.phase is Phase.RECEIVED:
                effects += [self._write(Discarded(transfer)), Discard(transfer, held.cargo, "")]
        return effects


class LeavesCursorsBehind(Host):
    """[L7] How far the agent has read does not travel with it."""

    @staticmethod
    def unpack(memory: Memory) -> Memory:
        return memory._replace(cursor=0)


class DiscardsActiveCopies(Held):
    """[L9] "Closed" or "abort" ends an agent that runs."""

    def _forsaken(self, sender: str, transfer: bytes, reason: str) -> list[Effect]:
        cargo = tuple(
            Cargo(known.agent, known.epoch)
            for known in self.agents.values()
            if known.kept == transfer and known.here and transfer not in self.arriving
        )
        if self.past.get(transfer) == "Active" and cargo:
            return [*(self._write(Ended(load.agent)) for load in cargo), Discard(transfer, cargo, reason)]
        return super()._forsaken(sender, transfer, reason)


class ActivatesOnItsOwn(Held):
    """The destination runs an accepted copy when the source is silent for long."""

    def _remind(self) -> list[Effect]:
        effects = super()._remind()
        for transfer, held in list(self.arriving.items()):
            if held.phase is Phase.RECEIVED:
                effects += self._activate(transfer, held, ())
        return effects


class ResumesAfterCommit(Held):
    """The source lets the agents go on at its deadline, though COMMIT is on its way to the disk."""

    def _give_up(self, transfer: bytes, reason: str) -> list[Effect]:
        held = self.leaving.get(transfer)
        if held is not None and held.phase is Phase.COMMITTING:
            return [Resume(transfer, held.peer, held.cargo, reason)]
        return super()._give_up(transfer, reason)


class AcknowledgesTooEarly(Held):
    """The acknowledgement leaves before ACTIVE is durable."""

    def _activate(self, transfer: bytes, held: Open, mail: tuple[bytes, ...]) -> list[Effect]:
        return [*super()._activate(transfer, held, mail), Send(held.peer, Acknowledge(transfer))]


class ForgetsThePast(Held):
    """The journal's short log drops the ids of finished transfers."""

    @classmethod
    def recover(cls, host: str, records: Iterable[Record]) -> tuple[Self, list[Effect]]:
        return super().recover(host, [record for record in records if not isinstance(record, Past)])


class CleansTooEarly(Host):
    """The journal drops an arrival's parcel when ACTIVE is durable, as if the agent were safe by then."""

    def harden(self, record: Record, memory: Memory | None) -> None:
        super().harden(record, memory)
        if isinstance(record, Active):
            del self.parcels[record.transfer]


class AcknowledgesMailTooEarly(Host):
    """[H6] A message is acknowledged when it is handled, before that is durable."""

    def act(self, stimulus: Stimulus) -> None:
        super().act(stimulus)
        self.acked = self.acked or stimulus[0] == "handle"


class NeverSyncs(Host):
    """fsync is off: what is said to be durable is lost with the power all the same."""

    told = 0  # of `pending`, that they are durable

    def clone(self) -> Self:
        other = super().clone()
        other.told = self.told
        return other

    def key(self) -> tuple[object, ...]:
        return (*super().key(), self.told)

    def may_depart(self) -> bool:
        return self.machine.here(AGENT) is not None and bool(self.kind("running"))

    def act(self, stimulus: Stimulus) -> None:
        if stimulus[0] == "crash":
            self.told = 0
        if stimulus[0] != "durable":
            super().act(stimulus)
        elif self.told < len(self.pending):
            record, _ = self.pending[self.told]
            self.told += 1
            self.hopped = isinstance(record, Active)
            self.step(Durable(record))


class ActsOnWhatItOnlyRead(NeverSyncs):
    """[L2] A host that was killed starts from its log as it reads it, and does not sync that first."""

    def act(self, stimulus: Stimulus) -> None:
        match stimulus:
            case ("crash", kept, newest):
                log, parcels = self.disk.copy(), dict(self.parcels)
                read = self.pending[:kept]
                for record, memory in read:
                    self.harden(record, memory)
                self.pending = ()
                super().act(("crash", 0, newest))
                self.disk = log  # what a loss of power leaves
                self.parcels = parcels | self.parcels
                self.pending, self.told = read + self.pending, len(read)
            case ("durable",) if self.told < len(self.pending):  # one sync is for all that was written before
                for record, memory in self.pending[: self.told]:
                    self.harden(record, memory)
                self.pending, self.told = self.pending[self.told :], 0
                Host.act(self, stimulus)
            case ("durable",):
                pass
            case _:
                Host.act(self, stimulus)


class AcceptsUnopened(Held):
    """ACCEPT leaves when RECEIVED is durable, though the parcel is still being opened, and may yet be refused."""

    def _durable(self, record: Record) -> list[Effect]:
        effects = super()._durable(record)
        held = self.arriving.get(record.transfer) if isinstance(record, Received) else None
        if held is not None and held.phase is Phase.WRITTEN:
            effects.append(Send(held.peer, Accept(record.transfer, held.by_ledger)))  # type: ignore[union-attr]
        return effects


class OffersBeforePrepare(Held):
    """[H2] The signature for the ledger's entry leaves while PREPARE is on its way to the disk."""

    def _depart(self, transfer: bytes, to: str, cargo: tuple[Cargo, ...]) -> list[Effect]:
        effects = Handoff._depart(self, transfer, to, cargo)
        self.leaving[transfer] = replace(self.leaving[transfer], phase=Phase.OFFERED)
        return effects


class SignsBeforeReceived(Held):
    """[H3] The destination's signature leaves before RECEIVED is durable."""

    def _examined(self, transfer: bytes, refusal: str | None) -> list[Effect]:
        held, effects = self.arriving.get(transfer), super()._examined(transfer, refusal)
        if held is not None and refusal is None:
            effects.append(Send(held.peer, Accept(transfer, True)))
        return effects


class AbortsAlone(Held):
    """[H4] The source lets the agent go on at its deadline, though it signed for the destination's entry."""

    def _withdraw(self, transfer: bytes, held: Open) -> list[Effect]:
        return self._abort(transfer, held, "")


class AsksOnceOnly(Held):
    """What the ledger was asked, and did not hear, is never asked again."""

    def _remind(self) -> list[Effect]:
        return [effect for effect in super()._remind() if not isinstance(effect, Ask | Withdraw)]


class AsksBeforeItIsWritten(Held):
    """[H2] The ledger is asked for the other custody while CONVERT is on its way to the disk."""

    def _change(self, transfer: bytes, load: Cargo, entry: bytes) -> list[Effect]:
        return [*super()._change(transfer, load, entry), Ask(transfer, self.host, (load,), entry)]


class ForgetsTheChange(Held):
    """Restarted with CONVERT and no word of the ledger, the host lets the agent go on as it was."""

    def _presume_abort(self, transfer: bytes, held: Open) -> list[Effect]:
        if held.peer != self.host:
            return super()._presume_abort(transfer, held)
        load = held.cargo[0]
        return [self._write(Withdrawn(transfer, held.cargo)), Restart(load.agent, load.epoch - 1, transfer, ())]


class DoesNotWaitForTheLedger(Held):
    """The agent goes on in the other custody as soon as the ledger is asked for it."""

    def _durable(self, record: Record) -> list[Effect]:
        effects = super()._durable(record)
        if isinstance(record, Convert) and record.transfer in self.leaving:
            host = self.host if record.entry else ""
            word = Decided(AGENT, record.cargo[0].epoch, host, b"")
            effects += self._decided_change(word, record.transfer, self.leaving[record.transfer])
        return effects


class KeepsItsEpoch(Held):
    """A change of custody is no change of epoch for the host, though it is one for the ledger."""

    def _decided_change(self, entry: Decided, transfer: bytes, held: Open) -> list[Effect]:
        effects: list[Effect] = []
        for effect in super()._decided_change(entry, transfer, held):
            match effect:
                case Write(Kept(transfer, (load,))):
                    self.agents[AGENT] = replace(self.agents[AGENT], epoch=load.epoch - 1)
                    effect = Write(Kept(transfer, (replace(load, epoch=load.epoch - 1),)))
                case Changed(transfer, load):
                    effect = Changed(transfer, replace(load, epoch=load.epoch - 1))
            effects.append(effect)
        return effects


class Mutant(NamedTuple):
    kinds: str  # of custody in which it shows: "local", "held", or both
    machine: type[Handoff]
    host: type[Host]
    scope: tuple[int, int] | tuple[int, int, int]  # the smallest that shows it: dispatches, crashes, changes of custody


MUTANTS: dict[str, Mutant] = {
    "L1": Mutant("local", ForgetsWhoWasHere, Host, (2, 0)),
    "L2": Mutant("local held", Held, ActsOnWhatItOnlyRead, (1, 2)),
    "L3": Mutant("local", ForgetsTheAbort, FreezesAgain, (1, 1)),
    "L4": Mutant("local", NotifiesBeforeCommit, Host, (1, 1)),
    "L5": Mutant("local held", DropsWhatItAccepted, Host, (1, 0)),
    "L7": Mutant("local held", Held, LeavesCursorsBehind, (1, 0)),
    "L9": Mutant("local", DiscardsActiveCopies, Host, (1, 0)),
    "H2": Mutant("held", OffersBeforePrepare, Host, (1, 1)),
    "H3": Mutant("held", SignsBeforeReceived, Host, (1, 0)),
    "H4": Mutant("held", AbortsAlone, Host, (1, 0)),
    "H6": Mutant("local held", Held, AcknowledgesMailTooEarly, (1, 1)),
    "fsync-off": Mutant("local held", Held, NeverSyncs, (1, 1)),
    "activates-on-its-own": Mutant("local held", ActivatesOnItsOwn, Host, (1, 0)),
    "resumes-after-commit": Mutant("local", ResumesAfterCommit, Host, (1, 0)),
    "acknowledges-too-early": Mutant("local", AcknowledgesTooEarly, Host, (1, 1)),
    "forgets-the-past": Mutant("local held", ForgetsThePast, Host, (1, 1)),
    "cleans-too-early": Mutant("local held", Held, CleansTooEarly, (1, 1)),
    "H2-change": Mutant("local held", AsksBeforeItIsWritten, Host, (0, 1, 1)),
    "H4-change": Mutant("local held", AbortsAlone, Host, (0, 0, 1)),
    "forgets-the-change": Mutant("local held", ForgetsTheChange, Host, (0, 1, 1)),
    "does-not-wait-for-the-ledger": Mutant("local held", DoesNotWaitForTheLedger, Host, (0, 0, 1)),
    "keeps-its-epoch": Mutant("local held", KeepsItsEpoch, Host, (0, 0, 1)),
    "accepts-unopened": Mutant("local held", AcceptsUnopened, Host, (1, 0)),
    "asks-once-only": Mutant("held", AsksOnceOnly, Host, (1, 1)),
}

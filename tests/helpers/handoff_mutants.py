"""Handoffs with one rule of docs/custody.md left out each. The explorer must find what it breaks."""

from collections.abc import Iterable
from typing import Self

from agentplatform.custody.events import Discard, Effect, Reopen, Resume, Send
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.messages import Acknowledge, Cargo
from agentplatform.custody.records import Active, Discarded, Ended, Past, Record
from agentplatform.custody.state import Open, Phase
from tests.helpers.handoff_model import Host, Memory


class ForgetsWhoWasHere(Handoff):
    """[L1] Neither epochs nor transfer ids are compared with what was here before."""

    def _replayed(self, transfer: bytes, cargo: tuple[Cargo, ...]) -> str | None:
        return None


class ForgetsTheAbort(Handoff):
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


class NotifiesBeforeCommit(Handoff):
    """[L4] The notice leaves when COMMIT is handed to the log."""

    def _commit(self, transfer: bytes, held: Open) -> list[Effect]:
        return [*super()._commit(transfer, held), *self._committed(transfer, held)]


class DropsWhatItAccepted(Handoff):
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


class DiscardsActiveCopies(Handoff):
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


class ActivatesOnItsOwn(Handoff):
    """The destination runs an accepted copy when the source is silent for long."""

    def _remind(self) -> list[Effect]:
        effects = super()._remind()
        for transfer, held in list(self.arriving.items()):
            if held.phase is Phase.RECEIVED:
                effects += self._activate(transfer, held, ())
        return effects


class ResumesAfterCommit(Handoff):
    """The source lets the agents go on at its deadline, though COMMIT is on its way to the disk."""

    def _give_up(self, transfer: bytes, reason: str) -> list[Effect]:
        held = self.leaving.get(transfer)
        if held is not None and held.phase is Phase.COMMITTING:
            return [Resume(transfer, held.peer, held.cargo, reason)]
        return super()._give_up(transfer, reason)


class AcknowledgesTooEarly(Handoff):
    """The acknowledgement leaves before ACTIVE is durable."""

    def _activate(self, transfer: bytes, held: Open, mail: tuple[bytes, ...]) -> list[Effect]:
        return [*super()._activate(transfer, held, mail), Send(held.peer, Acknowledge(transfer))]


class ForgetsThePast(Handoff):
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


MUTANTS: dict[str, tuple[type[Handoff], type[Host]]] = {
    "L1": (ForgetsWhoWasHere, Host),
    "L3": (ForgetsTheAbort, FreezesAgain),
    "L4": (NotifiesBeforeCommit, Host),
    "L5": (DropsWhatItAccepted, Host),
    "L7": (Handoff, LeavesCursorsBehind),
    "L9": (DiscardsActiveCopies, Host),
    "activates-on-its-own": (ActivatesOnItsOwn, Host),
    "resumes-after-commit": (ResumesAfterCommit, Host),
    "acknowledges-too-early": (AcknowledgesTooEarly, Host),
    "forgets-the-past": (ForgetsThePast, Host),
    "cleans-too-early": (Handoff, CleansTooEarly),
}

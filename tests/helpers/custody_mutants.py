"""Daemons with one rule of docs/custody.md left out each: what the chaos driver must catch.

They are put in place by benchmarks.chaos_host, from outside: production code knows no switch for them. Those of the
pure machine are shared with the exhaustive exploration (tests.helpers.handoff_mutants).
"""

import asyncio
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import msgspec

from agentplatform import ground, rooms
from agentplatform.custody import carry, keeper
from agentplatform.custody.arrivals import Arrivals
from agentplatform.custody.departures import Departures
from agentplatform.custody.events import Effect, Resume
from agentplatform.custody.held import Held
from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Cargo, HandoffMessage, Notice, Offer
from agentplatform.custody.records import Active
from agentplatform.custody.state import Open
from agentplatform.mail import Change, Letter, Reply
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom import room
from ledger import codec, leases
from tests.helpers import handoff_mutants
from tests.helpers.lease_explorer import ForgetsAtStart, NoCheckAfterWaking, RunsToTheNextLook, VotesThenGives


class ResumesAfterCommit(Held):
    """The source lets the agents go on while COMMIT is on its way to the disk."""

    def _commit(self, transfer: bytes, held: Open) -> list[Effect]:
        return [*super()._commit(transfer, held), Resume(transfer, held.peer, held.cargo, "it takes so long")]


class CleansTooEarly(Journal):
    """The parcel goes when ACTIVE is written, as if the agent were safe by then."""

    def _clean(self, record: Any) -> Any:
        gone = [("DELETE FROM parcels WHERE transfer = ?", (record.transfer,))] if isinstance(record, Active) else []
        return [*super()._clean(record), *gone]


class AnswersTooEarly(Journal):
    """What an agent did leaves before the transaction is durable."""

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        super().checkpoint(agent, change)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class DropsItsSpool(Departures):
    """[L6] The mail goes with the offer, and at the end all that waits counts as handed over."""

    def send(self, to: str, message: HandoffMessage) -> None:
        journey = self._journeys.get(message.transfer) if isinstance(message, Offer | Notice) else None
        if isinstance(message, Offer) and journey is not None:
            journey.mail = self._packer.mail(to, journey.cargo)
        super().send(to, message)

    def release(self, to: str, cargo: tuple[Cargo, ...]) -> None:
        for load in cargo:
            if load.agent in self._residents.known:
                for letter in self._mailroom.waiting(load.agent):
                    taken = Reply(
                        letter.receiver, letter.sender, letter.sequence, letter.origin, True, codec.encode(None)
                    )
                    self._mailroom.route(taken)
        super().release(to, cargo)


class LeavesCursorsBehind(Arrivals):
    """[L7] How far the agent has read does not travel with it."""

    def verify(self, host: str, offer: Offer) -> None:
        super().verify(host, offer)
        for guest in self._offered[offer.transfer]:
            guest.luggage.senders.clear()


class TakesGaps(Mailbox):
    """[L8] A letter is taken though the one before it is missing."""

    def take(self, letter: Letter, *now: float) -> Any:
        return super().take(msgspec.structs.replace(letter, settled=letter.sequence - 1), *now)


class NoLeaseCheckAfterWaking(NoCheckAfterWaking, RunsToTheNextLook):
    """Neither the daemon nor a worker knows that the lease has ended, until the daemon looks again."""


class Mutant(msgspec.Struct, frozen=True):
    seconds: float  # of chaos that find it; 0: its moment is too short, and other tests do (docs/custody-tests.md)
    patches: Mapping[ModuleType, Mapping[str, type]] = {}
    disk: tuple[str, ...] = ()  # what its disk lacks (tests.helpers.losing_disk)
    agents: int = 50
    held: int = 0  # agents in held custody: they leave rules of local custody out
    faults: tuple[str, ...] = ()  # that it needs (tests.helpers.chaos_faults), when its moment is short

    def apply(self) -> None:
        """To this process."""
        for module, parts in self.patches.items():
            for name, part in parts.items():
                assert hasattr(module, name)
                setattr(module, name, part)


def _machine(kind: type[Held], seconds: float, *faults: str) -> Mutant:
    return Mutant(seconds, {rooms: {"Held": kind}}, faults=faults)


def _lease(seconds: float, module: ModuleType, part: str, kind: type, *faults: str) -> Mutant:
    return Mutant(seconds, {module: {part: kind}}, held=20, faults=faults)


MUTANTS: dict[str, Mutant] = {
    "fsync-off": Mutant(60, disk=("syncs",)),
    "L1": _machine(handoff_mutants.ForgetsWhoWasHere, 60),
    # With few agents, since whatever one writes after the start syncs the log.
    "L2": Mutant(0, disk=("syncs_first",), agents=12, faults=("killed_in_a_slow_sync_and_again_with_the_power",)),
    "L3": _machine(handoff_mutants.ForgetsTheAbort, 0),  # met once in six runs of a minute
    "L4": _machine(handoff_mutants.NotifiesBeforeCommit, 30),
    "L5": _machine(handoff_mutants.DropsWhatItAccepted, 60),
    "L6": Mutant(60, {carry: {"Departures": DropsItsSpool}}),
    "L7": Mutant(30, {carry: {"Arrivals": LeavesCursorsBehind}}),
    "L8": Mutant(60, {room: {"Mailbox": TakesGaps}}),
    "L9": _machine(handoff_mutants.DiscardsActiveCopies, 60),
    "activates-on-its-own": _machine(handoff_mutants.ActivatesOnItsOwn, 30),
    "resumes-after-commit": _machine(ResumesAfterCommit, 30),
    "acknowledges-too-early": _machine(handoff_mutants.AcknowledgesTooEarly, 60, "power_lost_in_a_slow_sync"),
    "cleans-too-early": Mutant(60, {ground: {"Journal": CleansTooEarly}}),
    "answers-too-early": Mutant(60, {ground: {"Journal": AnswersTooEarly}}),
    "H1": _lease(0, leases, "Giver", VotesThenGives, "linked_again_in_the_midst_of_the_votes"),
    "H1-forgets-at-start": _lease(0, leases, "Giver", ForgetsAtStart, "cut_off_while_the_others_start_again"),
    "no-lease-check-after-waking": _lease(
        60, keeper, "Watch", NoLeaseCheckAfterWaking, "stopped_past_its_lease", "daemon_stopped_past_its_lease"
    ),
}

"""What one host knows about custody: a fold of its records (agentplatform.custody.records). Pure.

What a host does while it runs and what it finds after a restart come from the same two methods: `apply`, what
a record means from the moment it is handed to the log, and `sink`, what it means once it is durable.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Self

import msgspec

from agentplatform.custody.messages import Cargo, Life
from agentplatform.custody.records import (
    BIRTH,
    Aborted,
    Active,
    Born,
    Closed,
    Commit,
    Confirmed,
    Convert,
    Declared,
    Discarded,
    Dismissed,
    Ended,
    Forsworn,
    Kept,
    Known,
    Met,
    Outcome,
    Past,
    Prepare,
    Quarantined,
    Received,
    Record,
    Restored,
    Revoked,
    Started,
    Sworn,
    Whole,
    Withdrawn,
)
from agentplatform.messages import Custody as Kind
from ledger.errors import Misuse

replace = msgspec.structs.replace


class Phase(IntEnum):
    OFFERED = 1  # source: may still abort
    COMMITTING = 2  # source: COMMIT was handed to the log; no abort from here
    COMMITTED = 3  # source: COMMIT is durable; the notice is repeated until it is acknowledged
    EXAMINING = 4  # destination: nothing is promised, nothing written
    RECEIVING = 5  # destination: RECEIVED was handed to the log
    RECEIVED = 6  # destination: accepted, inert; it waits for the source's word
    ACTIVATING = 7  # destination: the agents run; ACTIVE was handed to the log
    PREPARING = 8  # source, held: PREPARE (or CONVERT) was handed to the log; the offer (the question) waits for that
    ASKED = 9  # source, held: the ledger was asked to give them to the destination, and decides
    WITHDRAWING = 10  # source, held: it may have been asked that, and is asked to leave them here
    ADMITTED = 11  # destination: as RECEIVING, and they are still being opened: nothing is promised
    WRITTEN = 12  # destination: as RECEIVED, and they are still being opened: nothing is promised


DURABLE = {Phase.RECEIVING: Phase.RECEIVED, Phase.ADMITTED: Phase.WRITTEN}
"""What becomes of an arrival when its RECEIVED is durable."""


class Open(msgspec.Struct, frozen=True):
    """A transfer that is not finished. `peer` is the other host; this one for a change of custody."""

    peer: str
    cargo: tuple[Cargo, ...]
    phase: Phase
    entry: bytes = b""  # as in Convert
    signed: bool = False  # source, as in Depart; a restart need not know: it asks the ledger in any case

    @property
    def by_ledger(self) -> bool:
        """Held custody: the ledger decides who has the agent."""
        return self.cargo[0].held


class Custody:
    """It changes in place, so that a step costs the same however much is remembered; `copy` and `key` explore."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.agents: dict[str, Known] = {}  # every agent that ever ran here
        self.leaving: dict[bytes, Open] = {}  # this host is the source
        self.arriving: dict[bytes, Open] = {}  # this host is the destination
        self.past: dict[bytes, Outcome] = {}  # finished transfers, for ever; an abort by the source leaves no trace
        self.leaving_by: dict[str, bytes] = {}  # agent -> its transfer in `leaving`
        self.arriving_by: dict[str, bytes] = {}  # agent -> its transfer in `arriving`
        self.sworn: dict[str, int] = {}  # agent -> the epoch up to which this host forswore it (custody.declaring)
        self.ended: set[str] = set()  # here, in held custody, and the ledger may not know it yet
        self.life = Life()  # this start of the host
        self.met: dict[str, Life] = {}  # the newest of each other host that was told here
        self.restored = False  # the data was put back from a backup, and others have not all said what they know
        self.quarantined: dict[str, bool] = {}  # agents that are not to run yet; True: the copy was inert (quarantine)

    # What others ask

    def here(self, agent: str) -> int | None:
        """The epoch of a resident agent (running, or frozen for a handoff without a COMMIT), else None."""
        known = self.agents.get(agent)
        return known.epoch if known is not None and known.here else None

    def went(self, agent: str) -> tuple[str, int] | None:
        """The forwarding address of an agent that left: (host, its epoch there)."""
        known = self.agents.get(agent)
        return (known.to, known.epoch + 1) if known is not None and known.to is not None else None

    def free(self, agent: str) -> int:
        """The epoch of a resident agent that is not on its way. Raises Misuse for any other."""
        epoch = self.here(agent)
        if epoch is None:
            went = self.went(agent)
            where = f"it went to {went[0]}; ask there" if went else "ask where it is"
            raise Misuse(f"{agent} is not on {self.host}: {where}")
        if agent in self.quarantined:
            raise Misuse(
                f"{agent} is in quarantine: {self.host} was restored from a backup, and others have not all said "
                "whether it went on elsewhere; look at: agentplatform status"
            )
        if agent in self.leaving_by:
            to = self.leaving[self.leaving_by[agent]].peer
            if to == self.host:
                raise Misuse(f"{agent} is about to change its custody on {self.host}; wait for the ledger's word")
            raise Misuse(f"{agent} is on its way from {self.host} to {to}; wait for the outcome")
        return epoch

    def cargo(self, agents: Iterable[str]) -> tuple[Cargo, ...]:
        """What a Depart of these agents carries. Raises Misuse when one is not here, or is on its way already, and when
        they are in different custody: of some the ledger decides, of others the two hosts, so they cannot go as one."""
        cargo = tuple(Cargo(agent, self.free(agent) + 1, self.agents[agent].subject) for agent in agents)
        if {load.held for load in cargo} == {True, False}:
            held = ", ".join(load.agent for load in cargo if load.held)
            local = ", ".join(load.agent for load in cargo if not load.held)
            raise Misuse(
                f"{held} in held custody and {local} in local custody cannot move as one; change the custody of some "
                "(agentplatform custody AGENT held), or move them one by one"
            )
        return cargo

    def custody(self, agent: str) -> Kind:
        """Of an agent that is here, or on its way here."""
        if (transfer := self.arriving_by.get(agent)) is not None:
            return "held" if self.arriving[transfer].by_ledger else "local"
        known = self.agents.get(agent)
        return "held" if known is not None and known.held else "local"

    def offered(self, to: str) -> tuple[bytes, ...]:
        """Transfers to `to` that may still be given up."""
        return tuple(
            transfer
            for transfer, held in self.leaving.items()
            if held.peer == to and (held.phase is Phase.OFFERED or (held.signed and held.phase is Phase.ASKED))
        )

    # The fold

    def apply(self, record: Record) -> None:
        """What `record` means from the moment it is handed to the log."""
        match record:
            case Born(agent, epoch, subject):
                self.agents[agent] = Known(agent, epoch, True, None, BIRTH, (), subject)
            case Ended(agent):
                self._know(replace(self.agents[agent], here=False, mail=()))
            case Dismissed(agent):
                self._know(replace(self.agents[agent], subject=b""))
            case Prepare(transfer, to, cargo):
                self.leaving[transfer] = Open(to, cargo, Phase.PREPARING if cargo[0].held else Phase.OFFERED)
                for load in cargo:
                    self.leaving_by[load.agent] = transfer
            case Convert(transfer, cargo, entry):
                self.leaving[transfer] = Open(self.host, cargo, Phase.PREPARING, entry)
                self.leaving_by[cargo[0].agent] = transfer
            case Commit(transfer):
                held = self.leaving[transfer]
                self.leaving[transfer] = replace(held, phase=Phase.COMMITTING)
                for load in held.cargo:
                    known = self.agents[load.agent]
                    self.agents[load.agent] = replace(known, here=False, to=held.peer, mail=())
            case Aborted(transfer, cargo):
                # The captured state is newer than the one in which they came: a restart takes it from now on.
                self._drop_leaving(transfer)
                for load in cargo:
                    self.agents[load.agent] = replace(self.agents[load.agent], kept=transfer, mail=())
            case Withdrawn(transfer, cargo):
                self._drop_leaving(transfer)
                for load in cargo:
                    self.agents[load.agent] = replace(self.agents[load.agent], kept=transfer, mail=())
                self.past[transfer] = "Withdrawn"
            case Kept(transfer, cargo):
                for load in cargo:
                    self._drop_one(load.agent)
                    stays = replace(self.agents[load.agent], epoch=load.epoch, subject=load.subject)
                    self.agents[load.agent] = replace(stays, kept=transfer, mail=())
                self.past[transfer] = "Kept"
            case Revoked(agent, epoch, host):
                if agent in self.leaving_by:
                    self._drop_one(agent)
                gone = replace(self.agents[agent], epoch=epoch - 1, here=False, to=host or None, mail=())
                self._know(gone if host else replace(gone, subject=b""))
            case Closed(transfer):
                self._drop_leaving(transfer)
                self.past[transfer] = "Closed"
            case Received(transfer, source, cargo):
                self.examine(transfer, Open(source, cargo, Phase.RECEIVING))
            case Discarded(transfer):
                self.forget(transfer)
                self.past[transfer] = "Discarded"
            case Active(transfer, mail):
                held = self.arriving[transfer]
                self.arriving[transfer] = replace(held, phase=Phase.ACTIVATING)
                for load in held.cargo:
                    self.agents[load.agent] = Known(load.agent, load.epoch, True, None, transfer, mail, load.subject)
            case Declared(transfer, cargo):
                self.arriving[transfer] = replace(self.arriving[transfer], cargo=cargo, phase=Phase.ACTIVATING)
                for load in cargo:
                    self.agents[load.agent] = Known(load.agent, load.epoch, True, None, transfer, ())
            case Forsworn(_, _, _, cargo):
                for load in cargo:
                    self.sworn[load.agent] = max(load.epoch, self.sworn.get(load.agent, 0))
            case Sworn(agent, epoch):
                self.sworn[agent] = epoch
            case Started(life):
                self.life = life
            case Met(host, life):
                self.met[host] = life
            case Restored():
                self._restore()
            case Quarantined(agent, inert):
                self.restored = True
                if agent:
                    self.quarantined[agent] = inert
            case Confirmed(agent, epoch, _, transfers):
                self._know(replace(self.agents[agent], epoch=epoch))
                self.past |= dict.fromkeys(transfers, "Active")
            case Whole():
                self.restored = False
            case Known():
                self._know(record)
            case Past(transfer, outcome):
                self.past[transfer] = outcome

    def sink(self, record: Record) -> Open | None:
        """What `record` means once it is durable. The transfer that waited for that, if one did."""
        match record:
            case Prepare(transfer) | Convert(transfer):
                leaving = self.leaving.get(transfer)
                if leaving is None or leaving.phase is not Phase.PREPARING:
                    return None  # local: the offer did not wait; or given up meanwhile
                self.leaving[transfer] = replace(leaving, phase=Phase.OFFERED)
                return self.leaving[transfer]
            case Commit(transfer):
                self.leaving[transfer] = replace(self.leaving[transfer], phase=Phase.COMMITTED)
                return self.leaving[transfer]
            case Received(transfer):
                held = self.arriving.get(transfer)
                if held is None or held.phase not in DURABLE:
                    return None  # aborted meanwhile
                self.arriving[transfer] = replace(held, phase=DURABLE[held.phase])
                return self.arriving[transfer]
            case Active(transfer):
                self.past[transfer] = "Active"
                return self.forget(transfer)
            case Declared(transfer):
                self.past[transfer] = "Declared"
                return self.forget(transfer)
        return None

    def summary(self) -> list[Record]:
        """A short log that folds to this state but for `past`, which the journal keeps by itself."""
        records: list[Record] = list(self.agents.values())
        records += [Sworn(agent, epoch) for agent, epoch in self.sworn.items()]
        records += [Met(host, life) for host, life in self.met.items()]
        records += [Quarantined(agent, inert) for agent, inert in self.quarantined.items()]
        if self.restored:
            records.append(Quarantined("", False))
        if self.life.incarnation:
            records.append(Started(self.life))
        for transfer, held in self.leaving.items():
            if held.peer == self.host:
                records.append(Convert(transfer, held.cargo, held.entry))
                continue
            records.append(Prepare(transfer, held.peer, held.cargo))
            if held.phase in (Phase.COMMITTING, Phase.COMMITTED):
                records.append(Commit(transfer, held.cargo))
        for transfer, held in self.arriving.items():
            if held.phase in (*DURABLE, *DURABLE.values()):
                records.append(Received(transfer, held.peer, held.cargo))
        return records

    # What needs no record, because nothing is promised yet

    def examine(self, transfer: bytes, held: Open) -> None:
        self.arriving[transfer] = held
        for load in held.cargo:
            self.arriving_by[load.agent] = transfer

    def forget(self, transfer: bytes) -> Open:
        held = self.arriving.pop(transfer)
        for load in held.cargo:
            del self.arriving_by[load.agent]
        return held

    def _restore(self) -> None:
        """All that is here, was on offer from here, or came here and was not begun, is in doubt. What was committed
        stays so. An inert copy counts as one that is here, one epoch below its own: it was never active, as far as this
        data knows, and its source need not wait."""
        self.restored = True
        for transfer, held in list(self.leaving.items()):
            if held.phase not in (Phase.COMMITTING, Phase.COMMITTED):
                self._drop_leaving(transfer)
        inert: set[str] = set()
        for transfer in list(self.arriving):
            for load in self.forget(transfer).cargo:
                self.agents[load.agent] = Known(load.agent, load.epoch - 1, True, None, transfer, (), load.subject)
                inert.add(load.agent)
            self.past[transfer] = "Active"
        self.quarantined |= {known.agent: known.agent in inert for known in self.agents.values() if known.here}

    def _know(self, known: Known) -> None:
        self.agents[known.agent] = known
        self.quarantined.pop(known.agent, None)
        ended = known.held and not known.here and known.to is None
        (self.ended.add if ended else self.ended.discard)(known.agent)

    def _drop_leaving(self, transfer: bytes) -> None:
        for load in self.leaving.pop(transfer).cargo:
            del self.leaving_by[load.agent]

    def _drop_one(self, agent: str) -> None:
        """Held: the ledger has an entry for each agent, and so an end of the transfer for each that does not go."""
        transfer = self.leaving_by.pop(agent)
        held = self.leaving[transfer]
        left = tuple(load for load in held.cargo if load.agent != agent)
        if left:
            self.leaving[transfer] = replace(held, cargo=left)
        else:
            del self.leaving[transfer]

    # Exploration

    def copy(self) -> Self:
        """Another machine in the same state."""
        other = type(self)(self.host)
        other.agents, other.past = self.agents.copy(), self.past.copy()
        other.leaving, other.leaving_by = self.leaving.copy(), self.leaving_by.copy()
        other.arriving, other.arriving_by = self.arriving.copy(), self.arriving_by.copy()
        other.ended, other.sworn = self.ended.copy(), self.sworn.copy()
        other.life, other.met = self.life, self.met.copy()
        other.restored, other.quarantined = self.restored, self.quarantined.copy()
        return other

    def key(self) -> tuple[object, ...]:
        """Equal for machines of one host that are in the same state."""
        parts = (self.agents, self.leaving, self.arriving, self.past, self.sworn, self.met, self.quarantined)
        return (self.life, self.restored, *(frozenset(part.items()) for part in parts))

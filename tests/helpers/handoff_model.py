"""One host of the handoff explorer: the production machine, a disk, and a model of the edge around it.

The edge keeps the contract: records in order; what an agent does waits for its ACTIVE record; the message is
acknowledged when a state that has handled it is durable. Every crash goes through the machine's own `summary`
and `recover`, so the short log of the journal is explored too.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import msgspec

from agentplatform.custody.events import (
    Activate,
    Admitted,
    Ask,
    ChangeCustody,
    Changed,
    Decided,
    Depart,
    Discard,
    Durable,
    Effect,
    Event,
    Examine,
    Examined,
    GiveUp,
    Message,
    Release,
    Remind,
    Reopen,
    Restart,
    Restore,
    Resume,
    Return,
    Revoke,
    Send,
    Withdraw,
    Write,
)
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.messages import HandoffMessage, Offer
from agentplatform.custody.records import (
    Aborted,
    Active,
    Closed,
    Convert,
    Discarded,
    Kept,
    Past,
    Prepare,
    Received,
    Record,
    Revoked,
    Withdrawn,
)
from agentplatform.custody.state import Phase

AGENT = "x"
SUBJECT = b"its residence"
FOUND = b"an entry that begins held custody"
LEDGER = "the ledger"


class Memory(NamedTuple):
    """The agent's state: how far it has read (it travels as luggage), and how often it handled the message."""

    cursor: int
    handled: int


class Copy(NamedTuple):
    kind: str  # running | frozen (at the source) | offered (not examined yet) | inert (at the destination)
    transfer: bytes  # by which it goes, or came
    epoch: int
    memory: Memory


class Entry(NamedTuple):
    """What the ledger has, or is asked for: at `epoch` the agent is on `host`, or in nobody's custody there ("")."""

    epoch: int
    host: str
    transfer: bytes
    begins: bool = False  # it is for an agent that is in nobody's custody there


class Wire(NamedTuple):
    """A message on the network, an OFFER with the state that it carries; or an entry on its way to the ledger."""

    sender: str
    to: str
    message: HandoffMessage | Entry
    memory: Memory | None


Stimulus = tuple[Any, ...]
WAITING = (Phase.COMMITTED, Phase.RECEIVED, Phase.ASKED, Phase.WITHDRAWING)


class Host:
    """The machine of one host, its disk, and the model of its edge. Mutants of the edge change `unpack`."""

    def __init__(self, machine: Handoff, disk: Handoff) -> None:
        self.machine = machine
        self.disk = disk  # the fold of all that is durable
        self.parcels: dict[bytes, tuple[int, Memory]] = {}  # durable, by transfer: epoch and state
        self.pending: tuple[tuple[Record, Memory | None], ...] = ()  # handed to the log, not durable
        self.copies: frozenset[Copy] = frozenset()
        self.offered: Memory | None = None  # what the OFFER of this step carries
        self.sent: list[Wire] = []  # by this step
        self.ran: list[int] = []  # epochs that began to run in this step
        self.acked = False  # the message, in this step
        self.hopped = False  # an ACTIVE became durable in this step

    def clone(self) -> Self:
        other = type(self)(self.machine.copy(), self.disk.copy())
        other.parcels, other.pending, other.copies = dict(self.parcels), self.pending, self.copies
        return other

    def key(self) -> tuple[object, ...]:
        durable = frozenset(self.parcels.items())
        return (self.machine.key(), self.disk.key(), durable, self.pending, self.copies)

    @staticmethod
    def unpack(memory: Memory) -> Memory:
        return memory

    # What can happen to it, the network aside

    def stimuli(self) -> Iterator[Stimulus]:
        if self.pending:
            yield ("durable",)
        for copy in sorted(self.copies):
            if copy.kind == "offered":
                if self.machine.arriving[copy.transfer].phase is Phase.EXAMINING:
                    yield ("admitted", copy.transfer)
                yield ("opened", copy.transfer)
                yield ("refused", copy.transfer)
            elif copy.kind == "running" and copy.memory.cursor == 0:
                yield ("handle", copy)
        for transfer, held in self.machine.leaving.items():
            if held.phase is not Phase.COMMITTED:
                yield ("give up", transfer)
        if any(held.phase in WAITING for held in self.transfers()):
            yield ("remind",)

    def transfers(self) -> list[Any]:
        return [*self.machine.leaving.values(), *self.machine.arriving.values()]

    def may_depart(self) -> bool:
        """The gateway holds what a new arrival does, its dispatch too, until ACTIVE is durable."""
        active = any(isinstance(record, Active) for record, _ in self.pending)
        return not active and self.machine.here(AGENT) is not None and bool(self.kind("running"))

    def kind(self, kind: str) -> list[Copy]:
        return [copy for copy in self.copies if copy.kind == kind]

    def act(self, stimulus: Stimulus) -> None:
        match stimulus:
            case ("deliver", wire):
                self.offered = wire.memory
                self.step(Message(wire.sender, wire.message))
            case ("durable",):
                (record, memory), self.pending = self.pending[0], self.pending[1:]
                self.harden(record, memory)
                self.hopped = isinstance(record, Active)
                self.acked = isinstance(record, Prepare | Convert) and memory is not None and memory.cursor == 1
                self.step(Durable(record))
            case ("admitted", transfer):
                self.step(Admitted(transfer))
            case ("opened", transfer):
                for copy in self.kind("offered"):
                    if copy.transfer == transfer:
                        self.swap(copy, copy._replace(kind="inert"))
                self.step(Examined(transfer, None))
            case ("refused", transfer):
                self.drop(copy for copy in self.kind("offered") if copy.transfer == transfer)
                self.step(Examined(transfer, "no room"))
            case ("handle", copy):
                self.swap(copy, copy._replace(memory=Memory(1, copy.memory.handled + 1)))
            case ("give up", transfer):
                self.step(GiveUp(transfer, ""))
            case ("remind",):
                self.step(Remind())
            case ("learn", (epoch, host, transfer, _)):
                self.step(Decided(AGENT, epoch, host, transfer))
            case ("depart", transfer, to):
                (copy,) = self.kind("running")
                self.swap(copy, copy._replace(kind="frozen", transfer=transfer))
                self.step(Depart(transfer, to, self.machine.cargo([AGENT])))
            case ("change", transfer):
                (copy,) = self.kind("running")
                self.swap(copy, copy._replace(kind="frozen", transfer=transfer))
                (load,) = self.machine.cargo([AGENT])
                entry = b"" if load.held else FOUND
                self.step(ChangeCustody(transfer, msgspec.structs.replace(load, subject=SUBJECT), entry))
            case ("crash", kept, newest):
                for record, memory in self.pending[:kept]:
                    self.harden(record, memory)
                self.pending, self.copies = (), frozenset()
                past = [Past(transfer, outcome) for transfer, outcome in self.disk.past.items()]
                records: list[Record] = [*past, *self.disk.summary()]
                self.machine, effects = type(self.machine).recover(self.machine.host, records)
                self.perform(effects)
                if newest is not None:  # of the host's own chain
                    self.act(("learn", newest))

    # The edge

    def step(self, event: Event) -> None:
        self.perform(self.machine.step(event))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Write(record):
                    captured = isinstance(record, Prepare | Received | Convert)
                    memory = self.of(record.transfer) if captured else None
                    self.pending += ((record, memory),)
                case Send(to, message):
                    memory = self.of(message.transfer) if isinstance(message, Offer) else None
                    self.sent.append(Wire(self.machine.host, to, mute(message), memory))
                case Examine(transfer, _, (load,)):
                    assert self.offered is not None
                    self.copies |= {Copy("offered", transfer, load.epoch, self.unpack(self.offered))}
                case Activate(transfer, _, (load,)):
                    self.start(Copy("inert", transfer, load.epoch, self.of(transfer)))
                case Discard(transfer):
                    self.drop(copy for copy in self.copies if copy.transfer == transfer)
                case Release(transfer):
                    self.drop(copy for copy in self.kind("frozen") if copy.transfer == transfer)
                case Resume(transfer, _, (load,)):
                    for copy in self.kind("frozen"):
                        if copy.transfer == transfer:
                            self.start(copy)
                case Return(transfer, _, (load,)):
                    frozen = [copy for copy in self.kind("frozen") if copy.transfer == transfer]
                    for copy in frozen:
                        self.swap(copy, copy._replace(epoch=load.epoch))
                        self.start(copy._replace(epoch=load.epoch))
                    if not frozen:  # the host was started again since
                        self.start_from(transfer, load.epoch)
                case Revoke(_, epoch):
                    self.drop(copy for copy in self.copies if copy.epoch < epoch)
                case Changed(transfer, load):
                    self.drop(copy for copy in self.kind("frozen") if copy.transfer == transfer)
                    self.start_from(transfer, load.epoch)
                case Ask(transfer, to, (load,)) if to != self.machine.host:
                    self.submit(Entry(load.epoch, to, transfer))
                case Ask(_, host, (load,), entry):
                    self.submit(Entry(load.epoch, host if entry else "", b"", entry == FOUND))
                case Withdraw(_, (load,), entry):
                    self.submit(Entry(load.epoch, "" if entry else self.machine.host, b"", entry == FOUND))
                case Restore(transfer, _, (load,)):
                    self.start_from(transfer, load.epoch - 1)
                case Restart(_, epoch, kept):
                    self.start_from(kept, epoch)
                case Reopen(transfer, _, (load,)):
                    self.copies |= {Copy("inert", transfer, load.epoch, self.parcels[transfer][1])}

    def submit(self, entry: Entry) -> None:
        self.sent.append(Wire(self.machine.host, LEDGER, entry, None))

    def start(self, copy: Copy) -> None:
        self.swap(copy, copy._replace(kind="running"))
        self.ran.append(copy.epoch)

    def start_from(self, transfer: bytes, epoch: int) -> None:
        if transfer in self.parcels:  # a journal that was cleaned too early has nothing to start
            self.start(Copy("", transfer, epoch, self.parcels[transfer][1]))

    def drop(self, copies: Iterable[Copy]) -> None:
        self.copies -= frozenset(copies)

    def swap(self, old: Copy, new: Copy) -> None:
        self.copies = (self.copies - {old}) | {new}

    def of(self, transfer: bytes) -> Memory:
        return next(copy.memory for copy in self.copies if copy.transfer == transfer)

    def harden(self, record: Record, memory: Memory | None) -> None:
        """What the journal does: it keeps the record, keeps its parcel, drops the parcels that it makes needless."""
        self.disk.apply(record)
        self.disk.sink(record)
        match record:
            case Prepare(transfer, _, (load,)) | Received(transfer, _, (load,)) | Convert(transfer, (load,)):
                assert memory is not None
                self.parcels[transfer] = (load.epoch, memory)
            case Closed(_, (load,)):
                self.parcels = {key: held for key, held in self.parcels.items() if held[0] > load.epoch}
            case Aborted(transfer) | Withdrawn(transfer) | Kept(transfer):
                self.parcels = {transfer: self.parcels[transfer]}
            case Revoked(_, epoch):
                self.parcels = {key: held for key, held in self.parcels.items() if held[0] > epoch}
            case Discarded(transfer):
                del self.parcels[transfer]


def mute(message: HandoffMessage) -> HandoffMessage:
    """Without the reason, which decides nothing: fewer states."""
    return msgspec.structs.replace(message, reason="") if hasattr(message, "reason") else message

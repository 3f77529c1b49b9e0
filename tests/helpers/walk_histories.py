"""Histories of schedules in the handoff model (tests.helpers.handoff_walks): what the processes of its hosts would have
written, found from one state to the next. Time is counted in steps."""

from agentplatform.custody.messages import Cargo, Notice, Offer
from agentplatform.custody.records import Active, Commit, Convert, Prepare, Received
from agentplatform.custody.state import Phase
from tests.helpers.handoff_explorer import HOSTS, Explorer, State
from tests.helpers.handoff_model import AGENT, SUBJECT, Host, Memory, Stimulus
from tests.helpers.virtual_history import Chronicle

SENDER = "sender"  # of the one message


class Scribe:
    """Of one schedule. `name` tells its hosts and its agent from those of other schedules."""

    def __init__(self, explorer: Explorer, name: str = "") -> None:
        self._explorer, self._name, self._steps = explorer, name, 0
        self.chronicle = Chronicle(lambda: float(self._steps))
        self._lives = [self.chronicle.begin(host + name) for host in HOSTS]
        born = Cargo(AGENT, 0, SUBJECT if explorer.start.history else b"")
        self._cargo: dict[bytes, Cargo] = {b"": born}  # by transfer
        self._handled = 0
        self._worker(0, "running", 0)
        self._say(0, "active", b"")

    def saw(self, before: State, after: State, where: int, stimulus: Stimulus) -> None:
        """One step of the schedule."""
        self._steps += 1
        if stimulus[0] == "decide":
            return  # the ledger's: no process of a host sees it yet
        was, now = (self._explorer._hosts[state.hosts[where]] for state in (before, after))
        if stimulus[0] == "crash":
            self.chronicle.killed(HOSTS[where] + self._name)
            self._lives[where] = self.chronicle.begin(HOSTS[where] + self._name)
            self._begin_again(where, now)
        ran, runs = (set() if stimulus[0] == "crash" else _running(was)), _running(now)
        for epoch in sorted(ran - runs):
            self._worker(where, "frozen", epoch)
        if stimulus[0] == "durable":
            self._durable(where, was)
        self._sent(where, after.network & ~before.network)
        for epoch in sorted(runs - ran):
            self._worker(where, "running", epoch)
        if after.acked and not before.acked:
            self._lives[where].write("acked", sender=SENDER, sequence=1, receiver=AGENT + self._name)

    def _begin_again(self, where: int, host: Host) -> None:
        """As a daemon does (agentplatform.witnesses): the crash may have come before the line."""
        for transfer, held in host.machine.leaving.items():
            if held.phase is Phase.COMMITTED:
                self._say(where, "commit", transfer)
        for _, memory in host.parcels.values():
            self._handling(where, memory)

    def _durable(self, where: int, host: Host) -> None:
        record, memory = host.pending[0]
        match record:
            case Prepare(transfer, _, (load,)) | Received(transfer, _, (load,)) | Convert(transfer, (load,)):
                self._cargo[transfer] = load
        if not isinstance(record, Received):
            self._handling(where, memory)
        match record:
            case Prepare(transfer) | Convert(transfer):
                self._say(where, "prepare", transfer)
            case Received(transfer) | Commit(transfer) | Active(transfer):
                self._say(where, type(record).__name__.lower(), transfer)

    def _handling(self, where: int, memory: Memory | None) -> None:
        while memory is not None and memory.handled > self._handled:
            self._handled += 1
            self._lives[where].write("handled", sender=SENDER, sequence=1, receiver=AGENT + self._name)

    def _sent(self, where: int, wires: int) -> None:
        for bit, wire in enumerate(self._explorer._list):
            if wires >> bit & 1:
                match wire.message:
                    case Offer(transfer, (load,)):
                        self._cargo[transfer] = load
                        self._say(where, "offer", transfer)
                    case Notice(transfer) if transfer in self._cargo:
                        self._say(where, "notice", transfer)

    def _worker(self, where: int, event: str, epoch: int) -> None:
        self.chronicle.worker(HOSTS[where] + self._name, event, agent=AGENT + self._name, epoch=epoch)

    def _say(self, where: int, event: str, transfer: bytes) -> None:
        load = self._cargo[transfer]
        custody = "held" if load.held else "local"
        agent = AGENT + self._name
        self._lives[where].write(event, agent=agent, epoch=load.epoch, transfer=transfer.hex(), custody=custody)


def _running(host: Host) -> set[int]:
    return {copy.epoch for copy in host.kind("running")}

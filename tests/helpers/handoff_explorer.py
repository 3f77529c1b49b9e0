"""Breadth-first search through all that two hosts can do to one agent (tests.helpers.handoff_model).

Hosts A and B; one agent, born on A; one message for it, that its sender repeats for ever; a network that only ever
gains messages, so that each may come never, late, twice and out of order; crashes that keep any part of what
was not yet durable. A host's part of the state is interned, and its steps are remembered, so that a state of
the whole is a short tuple of numbers.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from agentplatform.custody.events import Created, Write
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.held import Held
from agentplatform.custody.records import BIRTH
from ledger.errors import PeerFault
from tests.helpers.explored import never_well_again
from tests.helpers.handoff_model import AGENT, LEDGER, SUBJECT, Copy, Entry, Host, Memory, Stimulus, Wire

HOSTS = ("A", "B")
_Step = tuple[int, int, int, bool, bool]  # the host's new number; messages sent, epochs begun; acked; hopped


class State(NamedTuple):
    hosts: tuple[int, int]  # numbers of the hosts' states
    network: int  # a bit for each message ever sent
    transfers: int
    crashes: int
    changes: int  # of custody
    ran: int  # bit 2 * epoch + host: that epoch ran on that host
    acked: bool
    history: tuple[Entry, ...]  # held: the ledger's entries
    seen: tuple[int, int]  # how many of them each host has acted on


class Violation(NamedTuple):
    rule: str
    trace: list[str]  # the shortest way there


class Result(NamedTuple):
    """`violation` is the first that was met, if any: the search ends there."""

    states: int
    completed_hops: int  # steps by which an ACTIVE became durable
    complaints: int  # messages that a machine refused as a fault of its peer
    violation: Violation | None


class Explorer:
    def __init__(self, machine: type[Handoff] = Held, host: type[Host] = Host, held: bool = False) -> None:
        """`held`: the agent is in held custody."""
        self._ids: dict[object, int] = {}
        self._hosts: list[Host] = []
        self._stimuli: list[list[Stimulus]] = []
        self._steps: dict[tuple[int, Stimulus], _Step | None] = {}
        self._wires: dict[Wire, int] = {}
        self._list: list[Wire] = []
        self.complaints = 0
        start = []
        for name in HOSTS:
            built = host(machine(name), machine(name))
            if name == HOSTS[0]:
                for write in built.machine.step(Created(AGENT, SUBJECT if held else b"")):
                    assert isinstance(write, Write)
                    built.harden(write.record, None)
                built.parcels[BIRTH] = (0, Memory(0, 0))
                built.copies = frozenset({Copy("running", BIRTH, 0, Memory(0, 0))})
            start.append(self._intern(built))
        history = (Entry(0, HOSTS[0], b""),) if held else ()
        self.start = State((start[0], start[1]), 0, 0, 0, 0, 1, False, history, (len(history), len(history)))

    def run(self, transfers: int, crashes: int, changes: int = 0) -> Result:
        """All states with at most so many dispatches, crashes of either host, and changes of the agent's custody."""
        came: dict[State, tuple[State, int, Stimulus] | None] = {self.start: None}
        before: dict[State, list[State]] = {}
        queue = deque([self.start])
        hops = 0
        while queue:
            state = queue.popleft()
            broken = self.broken(state)
            if broken:
                return Result(len(came), hops, self.complaints, Violation(broken, self._trace(came, state)))
            for where, stimulus in self.possible(state, transfers, crashes, changes):
                taken = self.take(state, where, stimulus)
                if taken is None:
                    continue
                following, hopped = taken
                hops += hopped
                if stimulus[0] != "crash":
                    before.setdefault(following, []).append(state)
                if following not in came:
                    came[following] = (state, where, stimulus)
                    queue.append(following)
        lost = never_well_again(came, before, self.is_well)
        violation = None
        if lost is not None:
            violation = Violation("the agent is lost, or in doubt for ever", self._trace(came, lost))
        return Result(len(came), hops, self.complaints, violation)

    def possible(self, state: State, transfers: int, crashes: int, changes: int) -> Iterator[tuple[int, Stimulus]]:
        for where in (0, 1):
            number = state.hosts[where]
            host = self._hosts[number]
            for stimulus in self._stimuli[number]:
                yield where, stimulus
            if state.transfers < transfers and host.may_depart():
                yield where, ("depart", bytes([state.transfers + 1]), HOSTS[1 - where])
            if state.changes < changes and host.may_depart():
                yield where, ("change", bytes([0xC0 + state.changes]))
            if state.crashes < crashes:
                newest = state.history[state.seen[where] - 1] if state.seen[where] else None
                for kept in range(len(host.pending) + 1):
                    yield where, ("crash", kept, newest)
            if state.seen[where] < len(state.history):
                yield where, ("learn", state.history[state.seen[where]])
        network, bit = state.network, 0
        while network:
            if network & 1:
                wire = self._list[bit]
                if wire.to != LEDGER:
                    yield HOSTS.index(wire.to), ("deliver", wire)
                elif self._fits(wire, state.history):
                    yield HOSTS.index(wire.sender), ("decide", wire.message)
            network >>= 1
            bit += 1

    @staticmethod
    def _fits(wire: Wire, history: tuple[Entry, ...]) -> bool:
        """The rules of ledger.contracts.residence."""
        asked = wire.message
        if not isinstance(asked, Entry):
            return False
        if asked.begins:
            return not history or (history[-1].host == "" and asked.epoch > history[-1].epoch)
        return bool(history) and (asked.epoch, wire.sender) == (history[-1].epoch + 1, history[-1].host)

    def take(self, state: State, where: int, stimulus: Stimulus) -> tuple[State, bool] | None:
        if stimulus[0] == "decide":
            return state._replace(history=(*state.history, stimulus[1])), False
        key = (state.hosts[where], stimulus)
        if key not in self._steps:
            self._steps[key] = self._compute(*key)
        step = self._steps[key]
        if step is None:
            return None
        number, wires, epochs, acked, hopped = step
        hosts = (number, state.hosts[1]) if where == 0 else (state.hosts[0], number)
        following = State(
            hosts,
            state.network | wires,
            state.transfers + (stimulus[0] == "depart"),
            state.crashes + (stimulus[0] == "crash"),
            state.changes + (stimulus[0] == "change"),
            state.ran | epochs << where,
            state.acked or acked,
            state.history,
            self._seen(state, where, stimulus),
        )
        return (following, hopped) if following != state else None

    @staticmethod
    def _seen(state: State, where: int, stimulus: Stimulus) -> tuple[int, int]:
        first, second = state.seen
        if stimulus[0] != "learn":
            return state.seen
        return (first + 1, second) if where == 0 else (first, second + 1)

    def _compute(self, number: int, stimulus: Stimulus) -> _Step | None:
        host = self._hosts[number].clone()
        try:
            host.act(stimulus)
        except PeerFault:
            self.complaints += 1
            return None
        wires = epochs = 0
        for wire in host.sent:
            if wire not in self._wires:
                self._wires[wire] = len(self._list)
                self._list.append(wire)
            wires |= 1 << self._wires[wire]
        for epoch in host.ran:
            epochs |= 1 << 2 * epoch
        return self._intern(host), wires, epochs, host.acked, host.hopped

    def _intern(self, host: Host) -> int:
        key = (host.machine.host, host.key())
        number = self._ids.setdefault(key, len(self._hosts))
        if number == len(self._hosts):
            host.sent, host.ran = [], []
            self._hosts.append(host)
            self._stimuli.append(list(host.stimuli()))
        return number

    # The rules

    def _running(self, state: State) -> list[Copy]:
        return [copy for number in state.hosts for copy in self._hosts[number].kind("running")]

    def broken(self, state: State) -> str | None:
        running = self._running(state)
        if len(running) > 1:
            return "two copies run"
        epoch, ran = 0, state.ran
        while ran:
            if ran & 3 == 3:
                return f"epoch {epoch} ran on two hosts"
            ran >>= 2
            epoch += 1
        for copy in running:
            if copy.epoch != epoch - 1:
                return f"epoch {copy.epoch} runs after epoch {epoch - 1} did"
            if copy.memory.handled > 1:
                return "the message was handled twice"
            if state.acked and copy.memory.handled == 0:
                return "the message was acknowledged, and is not handled"
        return self._against_the_ledger(state) if state.changes else None

    def _against_the_ledger(self, state: State) -> str | None:
        """A copy that runs is in the custody, and at an epoch, that the ledger knows of."""
        for where, number in enumerate(state.hosts):
            host = self._hosts[number]
            for copy in host.kind("running"):
                if host.machine.agents[AGENT].held:
                    if not any((each.epoch, each.host) == (copy.epoch, HOSTS[where]) for each in state.history):
                        return f"epoch {copy.epoch} runs in held custody, and the ledger does not have it there"
                elif state.history and state.history[-1].host:
                    return f"epoch {copy.epoch} runs in local custody, and the ledger has it in held"
                elif state.history and state.history[-1].epoch > copy.epoch:
                    return f"epoch {copy.epoch} runs in local custody, and the ledger is at a later one"
        return None

    def is_well(self, state: State) -> bool:
        """One copy runs, and nothing is in doubt."""
        in_doubt = any(self._hosts[number].transfers() for number in state.hosts)
        return len(self._running(state)) == 1 and not in_doubt

    def _trace(self, came: dict[State, Any], state: State) -> list[str]:
        lines: list[str] = []
        while (origin := came[state]) is not None:
            previous, where, stimulus = origin
            lines.append(self.tell(previous, state, where, stimulus))
            state = previous
        return lines[::-1]

    def tell(self, previous: State, state: State, where: int, stimulus: Stimulus) -> str:
        name, host = HOSTS[where], self._hosts[previous.hosts[where]]
        match stimulus:
            case ("decide", entry):
                what = f"the ledger has: epoch {entry.epoch} on {entry.host or 'no host'}"
            case ("learn", entry):
                what = f"{name} learns from its chain: epoch {entry.epoch} on {entry.host or 'no host'}"
            case ("deliver", wire):
                what = f"{name} takes {_name(wire.message)} {wire.message.transfer.hex()} of {wire.sender}"
            case ("durable",):
                what = f"{name}: {_name(host.pending[0][0])} is durable"
            case ("crash", kept, _):
                what = f"{name} crashes and starts again"
                if host.pending:
                    what += f"; of {', '.join(_name(record) for record, _ in host.pending)} {kept} were on disk"
            case ("depart", transfer, to):
                what = f"{name}: the agent departs to {to} by {transfer.hex()}"
            case ("change", _):
                what = f"{name}: the agent is to change its custody"
            case ("handle", _):
                what = f"{name}: the agent handles the message"
            case (verb, *transfers):
                what = " ".join([f"{name}: {verb}", *(transfer.hex() for transfer in transfers)])
        running = [
            f"{HOSTS[i]} at epoch {copy.epoch}" for i in (0, 1) for copy in self._hosts[state.hosts[i]].kind("running")
        ]
        return f"{what}. Running: {', '.join(running) or 'none'}."


def _name(value: object) -> str:
    return type(value).__name__.upper()

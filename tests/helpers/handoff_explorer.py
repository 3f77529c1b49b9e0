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
from agentplatform.custody.records import BIRTH
from ledger.errors import PeerFault
from tests.helpers.handoff_model import AGENT, Copy, Host, Memory, Stimulus, Wire

HOSTS = ("A", "B")


class State(NamedTuple):
    hosts: tuple[int, int]  # numbers of the hosts' states
    network: int  # a bit for each message ever sent
    transfers: int
    crashes: int
    ran: int  # bit 2 * epoch + host: that epoch ran on that host
    acked: bool


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
    def __init__(self, machine: type[Handoff] = Handoff, host: type[Host] = Host) -> None:
        self._ids: dict[object, int] = {}
        self._hosts: list[Host] = []
        self._stimuli: list[list[Stimulus]] = []
        self._steps: dict[tuple[int, Stimulus], tuple[int, int, int, bool, bool] | None] = {}
        self._wires: dict[Wire, int] = {}
        self._list: list[Wire] = []
        self.complaints = 0
        start = []
        for name in HOSTS:
            built = host(machine(name), machine(name))
            if name == HOSTS[0]:
                for write in built.machine.step(Created(AGENT)):
                    assert isinstance(write, Write)
                    built.harden(write.record, None)
                built.parcels[BIRTH] = (0, Memory(0, 0))
                built.copies = frozenset({Copy("running", BIRTH, 0, Memory(0, 0))})
            start.append(self._intern(built))
        self.start = State((start[0], start[1]), 0, 0, 0, 1, False)

    def run(self, transfers: int, crashes: int) -> Result:
        """All states with at most so many dispatches and crashes of either host."""
        came: dict[State, tuple[State, int, Stimulus] | None] = {self.start: None}
        before: dict[State, list[State]] = {}
        queue = deque([self.start])
        hops = 0
        while queue:
            state = queue.popleft()
            broken = self._broken(state)
            if broken:
                return Result(len(came), hops, self.complaints, Violation(broken, self._trace(came, state)))
            for where, stimulus in self._possible(state, transfers, crashes):
                taken = self._take(state, where, stimulus)
                if taken is None:
                    continue
                following, hopped = taken
                hops += hopped
                if stimulus[0] != "crash":
                    before.setdefault(following, []).append(state)
                if following not in came:
                    came[following] = (state, where, stimulus)
                    queue.append(following)
        lost = self._never_well_again(came, before)
        violation = None
        if lost is not None:
            violation = Violation("the agent is lost, or in doubt for ever", self._trace(came, lost))
        return Result(len(came), hops, self.complaints, violation)

    def _possible(self, state: State, transfers: int, crashes: int) -> Iterator[tuple[int, Stimulus]]:
        for where in (0, 1):
            number = state.hosts[where]
            host = self._hosts[number]
            for stimulus in self._stimuli[number]:
                yield where, stimulus
            if state.transfers < transfers and host.may_depart():
                yield where, ("depart", bytes([state.transfers + 1]), HOSTS[1 - where])
            if state.crashes < crashes:
                for kept in range(len(host.pending) + 1):
                    yield where, ("crash", kept)
        network, bit = state.network, 0
        while network:
            if network & 1:
                yield HOSTS.index(self._list[bit].to), ("deliver", self._list[bit])
            network >>= 1
            bit += 1

    def _take(self, state: State, where: int, stimulus: Stimulus) -> tuple[State, bool] | None:
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
            state.ran | epochs << where,
            state.acked or acked,
        )
        return (following, hopped) if following != state else None

    def _compute(self, number: int, stimulus: Stimulus) -> tuple[int, int, int, bool, bool] | None:
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

    def _broken(self, state: State) -> str | None:
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
        return None

    def _never_well_again(self, came: dict[State, Any], before: dict[State, list[State]]) -> State | None:
        """The nearest state from which, crashes aside, no way leads to one running copy and nothing in doubt."""
        well = [
            state
            for state in came
            if len(self._running(state)) == 1
            and not any(self._hosts[number].transfers() for number in state.hosts)
        ]
        reached = set(well)
        while well:
            for state in before.get(well.pop(), ()):
                if state not in reached:
                    reached.add(state)
                    well.append(state)
        return next((state for state in came if state not in reached), None)

    def _trace(self, came: dict[State, Any], state: State) -> list[str]:
        lines: list[str] = []
        while (origin := came[state]) is not None:
            previous, where, stimulus = origin
            lines.append(self._tell(previous, state, where, stimulus))
            state = previous
        return lines[::-1]

    def _tell(self, previous: State, state: State, where: int, stimulus: Stimulus) -> str:
        name, host = HOSTS[where], self._hosts[previous.hosts[where]]
        match stimulus:
            case ("deliver", wire):
                what = f"{name} takes {_name(wire.message)} {wire.message.transfer.hex()} of {wire.sender}"
            case ("durable",):
                what = f"{name}: {_name(host.pending[0][0])} is durable"
            case ("crash", kept):
                what = f"{name} crashes and starts again"
                if host.pending:
                    what += f"; of {', '.join(_name(record) for record, _ in host.pending)} {kept} were on disk"
            case ("depart", transfer, to):
                what = f"{name}: the agent departs to {to} by {transfer.hex()}"
            case ("handle", _):
                what = f"{name}: the agent handles the message"
            case (verb, *transfers):
                what = " ".join([f"{name}: {verb}", *(transfer.hex() for transfer in transfers)])
        running = [
            f"{HOSTS[i]} at epoch {copy.epoch}"
            for i in (0, 1)
            for copy in self._hosts[state.hosts[i]].kind("running")
        ]
        return f"{what}. Running: {', '.join(running) or 'none'}."


def _name(value: object) -> str:
    return type(value).__name__.upper()

"""Breadth-first search through all that two hosts and the ledger can do to a group of two agents in held custody.

Host A has x and y, and sends both to B by one transfer. Meanwhile a quorum may give one of them to a third host, C,
where it goes on from its checkpoint; a host may crash; what was sent, or asked of the ledger, may come never, late and
twice. tests.helpers.handoff_explorer goes further into one agent: its luggage, its mail, several hops.

Leases are the ledger's part (tests.helpers.lease_explorer): a copy runs while its host knows of all re-homings of its
agent.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from agentplatform.custody.events import (
    Activate,
    Ask,
    Created,
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
    Resume,
    Return,
    Revoke,
    Send,
    Withdraw,
    Write,
)
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Cargo, HandoffMessage, Offer
from agentplatform.custody.records import Past, Record
from agentplatform.custody.residences import Residences
from agentplatform.custody.state import Phase
from ledger.contracts.residence import Residence
from ledger.errors import PeerFault
from tests.helpers.explored import never_well_again
from tests.helpers.handoff_model import LEDGER, mute

HOSTS = ("A", "B")
AGENTS = ("x", "y")
ELSEWHERE = "C"  # the holder of both checkpoints
TRANSFER = b"\1" * 16
WAITING = (Phase.COMMITTED, Phase.RECEIVED, Phase.ASKED, Phase.WITHDRAWING)


class Entry(NamedTuple):
    """Of the ledger: at `epoch` the agent is on `host`."""

    agent: str
    epoch: int
    host: str
    transfer: bytes = b""


class Copy(NamedTuple):
    kind: str  # running | frozen | offered | inert
    agent: str
    epoch: int


class Wire(NamedTuple):
    """A message, or what the ledger is asked for: entries that are made together."""

    sender: str
    to: str
    message: HandoffMessage | tuple[Entry, ...]


Stimulus = tuple[Any, ...]
History = tuple[Entry, ...]
START: History = tuple(Entry(agent, 0, "A") for agent in AGENTS)


class State(NamedTuple):
    hosts: tuple[int, int]  # numbers of the hosts' states
    network: frozenset[int]  # of the wires that were ever sent
    history: History
    seen: tuple[int, int]  # how many entries of it each host knows
    left: bool
    crashes: int
    rehomed: int


class Violation(NamedTuple):
    rule: str
    trace: list[str]


class Result(NamedTuple):
    states: int
    moved: int  # states in which both have arrived
    kept: int  # states in which at least one stayed, and all is well
    violation: Violation | None


def newest(history: History, agent: str) -> Entry:
    return next(entry for entry in reversed(history) if entry.agent == agent)


def fits(asked: tuple[Entry, ...], sender: str, history: History) -> tuple[Entry, ...]:
    """What the ledger enters: all that was asked for, or nothing (ledger.contracts.residence)."""
    good = tuple(entry for entry in asked if _fits(entry, sender, history))
    return good if good == asked else ()


def _fits(entry: Entry, sender: str, history: History) -> bool:
    now = newest(history, entry.agent)
    return (now.epoch + 1, now.host) == (entry.epoch, sender)


class Host:
    """The production machine, its disk, and a model of the edge around it."""

    def __init__(self, machine: Held, disk: Held) -> None:
        self.machine, self.disk = machine, disk
        self.pending: tuple[Record, ...] = ()
        self.copies: frozenset[Copy] = frozenset()
        self.known = START  # of the ledger
        self.sent: list[Wire] = []

    def clone(self) -> "Host":
        other = type(self)(self.machine.copy(), self.disk.copy())
        other.pending, other.copies, other.known = self.pending, self.copies, self.known
        return other

    def key(self) -> tuple[object, ...]:
        return self.machine.host, self.machine.key(), self.disk.key(), self.pending, self.copies, self.known

    def stimuli(self) -> Iterator[Stimulus]:
        if self.pending:
            yield ("durable",)
        if any(copy.kind == "offered" for copy in self.copies):
            yield ("examined", None)
            yield ("examined", "no room")
        for held in self.machine.leaving.values():
            if held.phase is not Phase.COMMITTED:
                yield ("give up",)
        if any(held.phase in WAITING for held in self.transfers()):
            yield ("remind",)

    def transfers(self) -> list[Any]:
        return [*self.machine.leaving.values(), *self.machine.arriving.values()]

    def act(self, stimulus: Stimulus) -> None:
        match stimulus:
            case ("deliver", wire):
                if not isinstance(wire.message, Offer) or all(self.fit(load, wire) for load in wire.message.cargo):
                    self.step(Message(wire.sender, wire.message))
            case ("durable",):
                record, *rest = self.pending
                self.pending = tuple(rest)
                self.harden(record)
                self.step(Durable(record))
            case ("examined", refusal):
                offered = {copy for copy in self.copies if copy.kind == "offered"}
                opened = {copy._replace(kind="inert") for copy in offered if refusal is None}
                self.copies = (self.copies - offered) | opened
                self.step(Examined(TRANSFER, refusal))
            case ("give up",):
                self.step(GiveUp(TRANSFER, ""))
            case ("remind",):
                self.step(Remind())
            case ("learn", history):
                self.learn(history)
            case ("depart",):
                self.turn(AGENTS, "running", "frozen")
                self.step(Depart(TRANSFER, "B", self.machine.cargo(AGENTS)))
            case ("crash", kept, history):
                for record in self.pending[:kept]:
                    self.harden(record)
                self.pending, self.copies = (), frozenset()
                past = [Past(transfer, outcome) for transfer, outcome in self.disk.past.items()]
                self.machine, effects = type(self.machine).recover(self.machine.host, [*past, *self.disk.summary()])
                self.perform(effects)
                self.learn(history)

    def fit(self, load: Cargo, offer: Wire) -> bool:
        """As Residences.unfit: an offer must go with this host's chain."""
        now = newest(self.known, load.agent)
        return (now.host, now.epoch + 1) == (offer.sender, load.epoch)

    def learn(self, history: History) -> None:
        """What this host's chain says now, in the order in which the edge tells it."""
        self.known = history

        class Chain:
            @staticmethod
            def find(subject: bytes) -> Residence:
                entry = newest(history, subject.decode())
                return Residence(b"", entry.epoch, entry.host, (), 0, entry.transfer)

        words = Residences(self.machine.host, None, b"", Chain, self.machine, self.step, None)  # type: ignore[arg-type]
        words._unopened.clear()
        words.follow()

    def step(self, event: Event) -> None:
        self.perform(self.machine.step(event))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Write(record):
                    self.pending += (record,)
                case Send(to, message):
                    self.sent.append(Wire(self.machine.host, to, mute(message)))
                case Examine(_, _, cargo):
                    self.copies |= {Copy("offered", load.agent, load.epoch) for load in cargo}
                case Reopen(_, _, cargo):
                    self.copies |= {Copy("inert", load.agent, load.epoch) for load in cargo}
                case Activate(_, _, cargo):
                    self.turn([load.agent for load in cargo], "inert", "running")
                case Resume(_, _, cargo):
                    self.turn([load.agent for load in cargo], "frozen", "running")
                case Discard(_, cargo) | Release(_, _, cargo):
                    self.drop([load.agent for load in cargo])
                case Return(_, _, cargo):
                    self.drop([load.agent for load in cargo])
                    self.copies |= {Copy("running", load.agent, load.epoch) for load in cargo}
                case Restart(agent, epoch):
                    self.copies |= {Copy("running", agent, epoch)}
                case Revoke(agent):
                    self.drop([agent])
                case Ask(transfer, to, cargo):
                    self.submit(tuple(Entry(load.agent, load.epoch, to, transfer) for load in cargo))
                case Withdraw(_, cargo):
                    for load in cargo:
                        self.submit((Entry(load.agent, load.epoch, self.machine.host),))

    def submit(self, entries: tuple[Entry, ...]) -> None:
        self.sent.append(Wire(self.machine.host, LEDGER, entries))

    def turn(self, agents: Any, old: str, new: str) -> None:
        turned = {copy for copy in self.copies if copy.kind == old and copy.agent in agents}
        self.copies = (self.copies - turned) | {copy._replace(kind=new) for copy in turned}

    def drop(self, agents: list[str]) -> None:
        self.copies = frozenset(copy for copy in self.copies if copy.agent not in agents)

    def harden(self, record: Record) -> None:
        self.disk.apply(record)
        self.disk.sink(record)


class GroupExplorer:
    def __init__(
        self,
        machine: type[Held] = Held,
        host: type[Host] = Host,
        enters: Callable[[tuple[Entry, ...], str, History], tuple[Entry, ...]] = fits,
    ) -> None:
        """`enters`: what the ledger makes of a question, its sender and its history."""
        self._enters = enters
        self._ids: dict[object, int] = {}
        self._hosts: list[Host] = []
        self._steps: dict[tuple[int, Stimulus], tuple[int, frozenset[int]] | None] = {}
        self._wires: dict[Wire, int] = {}
        source = host(machine("A"), machine("A"))
        for agent in AGENTS:
            for write in source.machine.step(Created(agent, agent.encode())):
                assert isinstance(write, Write)
                source.harden(write.record)
        source.copies = frozenset(Copy("running", agent, 0) for agent in AGENTS)
        numbers = self._intern(source), self._intern(host(machine("B"), machine("B")))
        self.start = State(numbers, frozenset(), START, (len(START),) * 2, False, 0, 0)

    def run(self, crashes: int, rehomings: int) -> Result:
        """All states with at most so many crashes of either host, and agents that a quorum gives to C."""
        came: dict[State, tuple[State, str] | None] = {self.start: None}
        before: dict[State, list[State]] = {}
        queue = deque([self.start])
        while queue:
            state = queue.popleft()
            if broken := self._broken(state):
                return Result(len(came), 0, 0, Violation(broken, self._trace(came, state)))
            for what, following in self._following(state, crashes, rehomings):
                if following == state:
                    continue
                if not what.startswith("crash"):
                    before.setdefault(following, []).append(state)
                if following not in came:
                    came[following] = state, what
                    queue.append(following)
        lost = never_well_again(came, before, self._is_well)
        violation = None if lost is None else Violation("an agent is lost, or in doubt", self._trace(came, lost))
        well = [state for state in came if state.left and self._is_well(state)]
        moved = sum(any(entry.transfer for entry in state.history) for state in well)
        return Result(len(came), moved, len(well) - moved, violation)

    def _following(self, state: State, crashes: int, rehomings: int) -> Iterator[tuple[str, State]]:
        for where, name in enumerate(HOSTS):
            host = self._hosts[state.hosts[where]]
            known = state.history[: state.seen[where]]
            for stimulus in host.stimuli():
                yield from self._act(state, where, stimulus)
            if where == 0 and not state.left and [copy.kind for copy in host.copies] == ["running"] * len(AGENTS):
                for what, after in self._act(state, where, ("depart",)):
                    yield what, after._replace(left=True)
            for count in range(len(known), len(state.history) + 1):  # with every block, and it may sleep through some
                for what, after in self._act(state, where, ("learn", state.history[:count])):
                    seen = (count, state.seen[1]) if where == 0 else (state.seen[0], count)
                    yield what, after._replace(seen=seen)
            if state.crashes < crashes:
                for kept in range(len(host.pending) + 1):
                    for what, after in self._act(state, where, ("crash", kept, known)):
                        yield f"crash of {name}: {what}", after._replace(crashes=state.crashes + 1)
        wires = list(self._wires)
        for number in state.network:
            wire = wires[number]
            if wire.to != LEDGER:
                yield from self._act(state, HOSTS.index(wire.to), ("deliver", wire))
            elif entered := self._enters(wire.message, wire.sender, state.history):  # type: ignore[arg-type]
                yield f"the ledger has {entered}", state._replace(history=(*state.history, *entered))
        for agent in AGENTS if state.rehomed < rehomings else ():
            now = newest(state.history, agent)
            if now.host != ELSEWHERE:
                history = (*state.history, Entry(agent, now.epoch + 1, ELSEWHERE))
                yield f"a quorum gives {agent} to C", state._replace(history=history, rehomed=state.rehomed + 1)

    def _act(self, state: State, where: int, stimulus: Stimulus) -> Iterator[tuple[str, State]]:
        key = state.hosts[where], stimulus
        if key not in self._steps:
            self._steps[key] = self._compute(*key)
        step = self._steps[key]
        if step is not None:
            hosts = (step[0], state.hosts[1]) if where == 0 else (state.hosts[0], step[0])
            yield f"{HOSTS[where]}: {stimulus}", state._replace(hosts=hosts, network=state.network | step[1])

    def _compute(self, number: int, stimulus: Stimulus) -> tuple[int, frozenset[int]] | None:
        host = self._hosts[number].clone()
        try:
            host.act(stimulus)
        except PeerFault:
            return None
        wires = frozenset(self._wires.setdefault(wire, len(self._wires)) for wire in host.sent)
        return self._intern(host), wires

    def _intern(self, host: Host) -> int:
        number = self._ids.setdefault(host.key(), len(self._hosts))
        if number == len(self._hosts):
            host.sent = []
            self._hosts.append(host)
        return number

    # The rules

    def _running(self, state: State) -> Iterator[tuple[str, Copy]]:
        for where, name in enumerate(HOSTS):
            for copy in self._hosts[state.hosts[where]].copies:
                unseen = state.history[state.seen[where] :]
                fenced = any(entry.agent == copy.agent and entry.host == ELSEWHERE for entry in unseen)
                if copy.kind == "running" and not fenced:
                    yield name, copy
        for agent in AGENTS:
            now = newest(state.history, agent)
            if now.host == ELSEWHERE:
                yield ELSEWHERE, Copy("running", agent, now.epoch)

    def _broken(self, state: State) -> str | None:
        running = list(self._running(state))
        for agent in AGENTS:
            if sum(copy.agent == agent for _, copy in running) > 1:
                return f"two copies of {agent} run"
        entered = {(entry.agent, entry.epoch, entry.host) for entry in state.history}
        for name, copy in running:
            if (copy.agent, copy.epoch, name) not in entered:
                return f"{copy.agent} runs on {name} at epoch {copy.epoch}, and the ledger does not have it there"
        went = {entry.agent for entry in state.history if entry.transfer}
        return f"{', '.join(went)} went alone" if len(went) == 1 else None

    def _is_well(self, state: State) -> bool:
        """Each agent runs where the ledger has it, nothing is left of it elsewhere, and nothing is in doubt."""
        if any(self._hosts[number].transfers() for number in state.hosts):
            return False
        copies = {(name, copy) for where, name in enumerate(HOSTS) for copy in self._hosts[state.hosts[where]].copies}
        now = [newest(state.history, agent) for agent in AGENTS]
        return copies == {(each.host, Copy("running", each.agent, each.epoch)) for each in now if each.host in HOSTS}

    def _trace(self, came: dict[State, Any], state: State) -> list[str]:
        lines: list[str] = []
        while (origin := came[state]) is not None:
            state, what = origin
            lines.append(what)
        return lines[::-1]

"""All that a lost source can leave behind, by breadth-first search: three hosts S, D and E with the machine of
production, the contract of production, and a network that only ever gains messages.

One agent is on S, which offers it to D or E, gives up, offers again, commits. Either of them, once it holds a copy,
asks the others to swear, and submits its declaration. At some time the consortium revokes S, which goes on alone and
hears nothing any more. D and E may crash, and then lose what was not durable. Below: declarations with one rule left
out each, in which the search must find two copies.
"""

from collections import deque
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from agentplatform.custody.declaring import fresh
from agentplatform.custody.events import (
    Created,
    Depart,
    Durable,
    Effect,
    Event,
    Examine,
    Examined,
    GiveUp,
    Lost,
    Message,
    Send,
    Write,
)
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Accept, Acknowledge, Canvass, Cargo, Forswear, Object, Refuse
from agentplatform.custody.records import Forsworn, Past, Record
from agentplatform.custody.state import Phase, replace
from ledger import codec
from ledger.chain import founding_state
from ledger.contracts import losses, trust
from ledger.contracts.call import Call
from ledger.contracts.losses import Copy, Declare, Statement
from ledger.contracts.state import Overlay
from ledger.errors import Misuse, PeerFault
from tests.helpers.founders import CHAIN, act, genesis, identity

AGENT, DIGEST = "x", sha256(b"x").digest()
SOURCE, *OTHERS = HOSTS = ("north-1", "east-1", "south-1")  # S, D and E
_IDLE = (Acknowledge, Object, Refuse)  # what decides nothing here that "gives up" does not: fewer states
Contract = Callable[[Overlay, Call], None]


class Host(NamedTuple):
    machine: Held
    disk: Held  # the fold of what is durable
    pending: tuple[Record, ...]

    def key(self) -> tuple[object, ...]:
        return self.machine.key(), self.disk.key(), self.pending


class State(NamedTuple):
    hosts: tuple[int, ...]  # numbers of the hosts' states
    network: frozenset[tuple[str, str, Any]]
    dispatches: int
    crashes: int
    revoked: bool
    entry: tuple[int, str, bytes] | None  # the ledger's


class Result(NamedTuple):
    states: int
    declared: int  # states in which a declared copy runs
    violation: str | None
    trace: list[str]


class Losses:
    def __init__(self, machine: type[Held] = Held, contract: Contract = losses.execute, commits: bool = True) -> None:
        """`commits`: S hears of what was accepted before it is lost."""
        self._contract, self._commits = contract, commits
        self._before = founding_state(genesis(3))
        after = Overlay(self._before)
        for voter in OTHERS:
            act(after, voter.partition("-")[0], "trust", trust.VoteRevoke("north", "it burnt down"))
        self._ledgers = {False: Overlay(self._before), True: after}
        self._passed: dict[tuple[Any, ...], bool] = {}
        self._ids: dict[object, int] = {}
        self._steps: dict[tuple[int, bool, str], tuple[int, set[tuple[str, str, Any]]]] = {}
        self._hosts: list[Host] = []
        built = [Host(machine(name), machine(name), ()) for name in HOSTS]
        for write in built[0].machine.step(Created(AGENT)):
            assert isinstance(write, Write)
            built[0].disk.apply(write.record)
        hosts = tuple(self._intern(host) for host in built)
        self.start = State(hosts, frozenset(), 0, 0, False, None)

    def run(self, dispatches: int, crashes: int) -> Result:
        self._crashes = crashes
        came: dict[State, tuple[State, str] | None] = {self.start: None}
        queue, declared = deque([self.start]), 0
        while queue:
            state = queue.popleft()
            running = self.running(state)
            declared += any(self._hosts[state.hosts[HOSTS.index(each)]].machine.past for each in running)
            if len(running) > 1:
                return Result(len(came), declared, f"two copies run: {' and '.join(running)}", _trace(came, state))
            for what, following in self.steps(state, dispatches, crashes):
                if following not in came:
                    came[following] = (state, what)
                    queue.append(following)
        return Result(len(came), declared, None, [])

    def running(self, state: State) -> list[str]:
        """Where it runs, on hosts that the consortium still knows."""
        machines = {name: self._hosts[number].machine for name, number in zip(HOSTS, state.hosts, strict=True)}
        if state.revoked:
            del machines[SOURCE]
        return [
            name for name, each in machines.items() if each.here(AGENT) is not None and AGENT not in each.leaving_by
        ]

    def steps(self, state: State, dispatches: int, crashes: int) -> Iterator[tuple[str, State]]:
        for place, name in enumerate(HOSTS):
            host = self._hosts[state.hosts[place]]
            if name == SOURCE and state.revoked:
                continue  # nobody hears it any more
            for what, events in self._own(host, state, dispatches):
                yield f"{name}: {what}", self._after(state, place, host, events, "depart" in what)
            if host.pending:
                yield f"{name}: {type(host.pending[0]).__name__} is durable", self._sink(state, place, host)
                if name != SOURCE and state.crashes < crashes:
                    yield f"{name} crashes, and starts again", self._crash(state, place, host)
            if state.entry is not None and name != SOURCE:
                lost = Lost(AGENT, *state.entry)
                yield f"{name} hears the declaration", self._after(state, place, host, [lost])
        for sender, to, message in state.network:
            place = HOSTS.index(to)
            if isinstance(message, Canvass) and any(
                isinstance(record, Forsworn) for record in self._hosts[state.hosts[place]].pending
            ):
                continue  # asked again before the oath is durable: it would be written without end
            if not (state.revoked and SOURCE in (sender, to)):
                yield (
                    f"{to} takes {type(message).__name__} of {sender}",
                    self._after(state, place, self._hosts[state.hosts[place]], [Message(sender, message)]),
                )
        if not state.revoked:
            links = frozenset(wire for wire in state.network if SOURCE not in wire[:2])
            alone = (self.start.hosts[0], *state.hosts[1:])  # what it does now concerns nobody
            yield f"{SOURCE} is revoked", state._replace(hosts=alone, network=links, revoked=True)
        for entry in self._declarations(state):
            yield f"the ledger has the declaration of {entry[1]}", state._replace(entry=entry)

    def _own(self, host: Host, state: State, dispatches: int) -> Iterator[tuple[str, list[Event]]]:
        machine = host.machine
        if machine.host == SOURCE:
            if machine.here(AGENT) is not None and not machine.leaving and state.dispatches < dispatches:
                for to in OTHERS:
                    depart = Depart(bytes([state.dispatches + 1] * 16), to, machine.cargo([AGENT]))
                    yield f"departs to {to}", [depart]
            for transfer in machine.leaving:
                yield "gives up", [GiveUp(transfer, "")]
            return
        for transfer, held in machine.arriving.items():
            if held.phase is Phase.RECEIVED:
                yield "asks whether it is lost", [_Ask(transfer)]

    def _after(self, state: State, place: int, host: Host, events: list[Any], departs: bool = False) -> State:
        key = (state.hosts[place], host.disk is self._hosts[state.hosts[place]].disk, repr(events))
        if key not in self._steps:
            self._steps[key] = self._compute(host, events)
        number, sent = self._steps[key]
        hosts = list(state.hosts)
        hosts[place] = number
        network = state.network | {each for each in sent if not (state.revoked and SOURCE in each[:2])}
        return state._replace(hosts=tuple(hosts), network=network, dispatches=state.dispatches + departs)

    def _compute(self, host: Host, events: list[Any]) -> tuple[int, set[tuple[str, str, Any]]]:
        machine, disk, pending, sent = host.machine.copy(), host.disk.copy(), host.pending, set[tuple[str, str, Any]]()
        queue = deque(events)
        while queue:
            event = queue.popleft()
            if isinstance(event, _Ask):
                held = machine.arriving[event.transfer]
                question = Canvass(event.transfer, held.peer, held.cargo, ())
                sent |= {(machine.host, to, question) for to in HOSTS if to != machine.host}
                continue
            try:
                effects: list[Effect] = machine.step(event)
            except PeerFault:
                continue
            for effect in effects:
                if isinstance(effect, Write) and (machine.host == SOURCE or not self._crashes):
                    disk.apply(effect.record)
                    disk.sink(effect.record)
                    queue.append(Durable(effect.record))
                elif isinstance(effect, Write):
                    pending += (effect.record,)
                elif isinstance(effect, Send) and self._counts(effect.message):
                    sent.add((machine.host, effect.to, _mute(effect.message)))
                elif isinstance(effect, Examine):
                    queue.append(Examined(effect.transfer, None))
        return self._intern(Host(machine, disk, pending)), sent

    def _counts(self, message: Any) -> bool:
        return not isinstance(message, _IDLE) and (self._commits or not isinstance(message, Accept))

    def _sink(self, state: State, place: int, host: Host) -> State:
        disk, (record, *rest) = host.disk.copy(), host.pending
        disk.apply(record)
        disk.sink(record)
        return self._after(state, place, Host(host.machine, disk, tuple(rest)), [Durable(record)])

    def _crash(self, state: State, place: int, host: Host) -> State:
        past: list[Record] = [Past(transfer, outcome) for transfer, outcome in host.disk.past.items()]
        machine, effects = type(host.machine).recover(host.machine.host, [*past, *host.disk.summary()])
        assert not any(isinstance(effect, Write) for effect in effects)
        return self._put(state, place, Host(machine, host.disk, ()))._replace(crashes=state.crashes + 1)

    def _put(self, state: State, place: int, host: Host) -> State:
        hosts = list(state.hosts)
        hosts[place] = self._intern(host)
        return state._replace(hosts=tuple(hosts))

    def _intern(self, host: Host) -> int:
        number = self._ids.setdefault((host.machine.host, host.key()), len(self._hosts))
        if number == len(self._hosts):
            self._hosts.append(host)
        return number

    # The ledger

    def _declarations(self, state: State) -> Iterator[tuple[int, str, bytes]]:
        """What either holder could submit now, with whatever was sworn to it."""
        for asker, _, question in state.network:
            if isinstance(question, Canvass):
                swore = sorted(
                    sender
                    for sender, to, word in state.network
                    if to == asker and isinstance(word, Forswear) and word.transfer == question.transfer
                )
                (load,) = fresh(question.cargo)
                copy = Copy(DIGEST, load.epoch, 0 if state.entry is None else state.entry[0])
                for since in {0, copy.since}:
                    if self._passes(state, asker, question, replace(copy, since=since), tuple(swore)):
                        yield load.epoch, asker, question.transfer

    def _passes(self, state: State, asker: str, asked: Canvass, copy: Copy, swore: tuple[str, ...]) -> bool:
        key = (state.revoked, state.entry, asker, asked.transfer, copy, swore)
        if key not in self._passed:
            ledger = Overlay(self._ledgers[state.revoked])
            if state.entry is not None:
                epoch, host, transfer = state.entry
                losses.save(ledger, losses._key(DIGEST), losses.Declaration(epoch, SOURCE, host, transfer, 1))
            said = Statement(CHAIN, asked.transfer, asked.source, asker, (copy,))
            needed = losses.signers(ledger, asker)
            signatures = tuple((host, said.sign(identity(host))) for host in swore if host in needed)
            action = Declare(asked.transfer, asked.source, asker, (copy,), signatures)
            try:
                self._contract(ledger, Call(identity(asker).public, codec.encode(action), 9, CHAIN))
                self._passed[key] = True
            except Misuse:
                self._passed[key] = False
        return self._passed[key]


class _Ask(NamedTuple):
    transfer: bytes


def _mute(message: Any) -> Any:
    """Without what decides nothing: fewer states."""
    return replace(message, reason="") if hasattr(message, "reason") else message


class SwearsUnseen(Held):
    """A host swears whatever it has."""

    def _objection(self, load: Cargo) -> str | None:
        return None


class SwearsWhileItHolds(Held):
    """A host swears while it has an inert copy itself."""

    def _objection(self, load: Cargo) -> str | None:
        return None if load.agent in self.arriving_by else super()._objection(load)


class ForgetsItsOath(Held):
    """A host swears, and then takes what is offered."""

    def _replayed(self, transfer: bytes, cargo: tuple[Cargo, ...]) -> str | None:
        return Handoff._replayed(self, transfer, cargo)


class SwearsTooEarly(Held):
    """The oath leaves before it is durable."""

    def _canvassed(self, sender: str, asked: Canvass) -> list[Effect]:
        effects = super()._canvassed(sender, asked)
        sworn = any(isinstance(effect, Write) for effect in effects)
        return [*effects, Send(sender, Forswear(asked.transfer))] if sworn else effects


def without_fence(state: Overlay, call: Call) -> None:
    """[L10] A declaration does not ask what was declared before."""
    state.put(losses._key(DIGEST), None)
    losses.execute(state, call)


def without_the_source(state: Overlay, call: Call) -> None:
    """A source that is still a member need not sign."""
    _without(state, call, SOURCE)


def without_all(state: Overlay, call: Call) -> None:
    """A host that cannot be reached need not sign."""
    _without(state, call, *OTHERS)


def _without(state: Overlay, call: Call, *hosts: str) -> None:
    action = codec.decode(call.action, Declare)
    copy = Statement(call.chain, action.transfer, action.source, action.destination, action.copies)
    given = dict(action.signatures)
    given |= {host: copy.sign(identity(host)) for host in hosts if host in losses.signers(state, action.destination)}
    signed = codec.encode(replace(action, signatures=tuple(given.items())))
    losses.execute(state, replace(call, action=signed))


class Mutant(NamedTuple):
    machine: type[Held]
    contract: Contract
    scope: tuple[int, int]  # the smallest that shows it: dispatches, crashes


MUTANTS = {
    "L10": Mutant(SwearsWhileItHolds, without_fence, (2, 0)),
    "swears-unseen": Mutant(SwearsUnseen, losses.execute, (2, 0)),
    "forgets-its-oath": Mutant(ForgetsItsOath, losses.execute, (2, 0)),
    "swears-too-early": Mutant(SwearsTooEarly, losses.execute, (2, 1)),
    "without-the-source": Mutant(Held, without_the_source, (1, 0)),
    "without-all": Mutant(Held, without_all, (2, 0)),
}


def _trace(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    lines = []
    while (origin := came[state]) is not None:
        state, what = origin
        lines.append(what)
    return lines[::-1]

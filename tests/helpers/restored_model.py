"""A host that is started from a backup, at any point of what two or three hosts can do to one agent: the machine of
production, walked by seeds.

One agent is born on the first host and goes about. At some point a copy is made of the first host's disk; at some later
point the host is started from that. Links are sessions: what a host sent over one is not heard after the next began, as
with the links of production; within one, messages may be late, and doubled. Hosts crash, and lose what was not durable.
"""

from collections import deque
from random import Random
from typing import Any, NamedTuple

from agentplatform.custody.events import (
    Activate,
    Admitted,
    Begin,
    Complete,
    Confirm,
    Created,
    Depart,
    Discard,
    Durable,
    Effect,
    Event,
    Examine,
    Examined,
    GiveUp,
    Left,
    Message,
    Release,
    Remind,
    Reopen,
    Restart,
    Restore,
    Resume,
    Revoke,
    Send,
    Write,
)
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Life, Recall, Recalled
from agentplatform.custody.quarantine import (
    Blocked,
    Claim,
    Gone,
    Here,
    Word,
    floor,
    is_other,
    judge,
    unacknowledged,
)
from agentplatform.custody.records import Confirmed, Past, Record, Restored
from ledger.errors import PeerFault

AGENT = "x"
NAMES = ("A", "B", "C")


class Letter(NamedTuple):
    sender: str
    to: str
    session: int
    message: Any


class Host:
    def __init__(self, name: str, machine: Held, disk: list[Record]) -> None:
        self.name, self.machine, self.disk = name, machine, disk
        self.pending: list[Record] = []
        self.running: int | None = None  # epoch
        self.inert: set[bytes] = set()
        self.said: dict[str, Word | None] = {}
        self.floors: list[int] = []  # where the numbers of its agent's letters began


class Broken(Exception):
    """A rule does not hold. The message says which."""


class World:
    def __init__(self, seed: int, kind: type[Held], hosts: int, judge: Any, marks: bool) -> None:
        """`marks`: what is put back is marked as an old copy."""
        self.random, self.kind, self.judge, self.marks = Random(f"restored {seed}"), kind, judge, marks  # noqa: S311
        self.names = NAMES[:hosts]
        self.wire: list[Letter] = []
        self.sessions: dict[frozenset[str], int] = {}
        self.log: list[str] = []
        self.lives = 0
        self.transfers = 0
        self.completed = 0  # restores whose every question was answered
        self.used: dict[str, list[int]] = {}  # floors that were ever used
        self.backup: list[Record] | None = None
        self.has_copy = True  # what came to the first host after the backup may be lost with it
        self.hosts = {name: Host(name, kind(name), []) for name in self.names}
        for host in self.hosts.values():
            self.begin(host)
        first = self.hosts[NAMES[0]]
        self.step(first, Created(AGENT))
        self.harden(first, len(first.pending))
        first.running = 0

    # What may happen

    def run(self, steps: int) -> None:
        made, *restored = sorted(self.random.sample(range(5, steps), self.random.choice((2, 2, 3))))
        for number in range(steps):
            if number == made:
                self.log.append("a backup of A")
                self.backup = list(self.hosts["A"].disk)
            elif number in restored:
                self.restore()
            else:
                self.act()
            self.check()
        self.settle()

    def act(self) -> None:
        host = self.hosts[self.random.choice(self.names)]
        match self.random.choices(
            ("deliver", "durable", "depart", "give up", "remind", "crash", "double"), (50, 20, 8, 2, 10, 2, 3)
        ):
            case ["deliver"] if self.wire:
                self.deliver(self.wire.pop(self.random.randrange(len(self.wire))))
            case ["double"] if self.wire:
                self.deliver(self.random.choice(self.wire))
            case ["durable"] if host.pending:
                self.harden(host, 1)
            case ["depart"] if host.running is not None and host.machine.here(AGENT) is not None:
                if AGENT not in host.machine.leaving_by and not host.pending:
                    self.transfers += 1
                    to = self.random.choice([name for name in self.names if name != host.name])
                    self.log.append(f"{host.name}: departs to {to}")
                    host.running = None
                    self.step(host, Depart(self.transfers.to_bytes(16), to, host.machine.cargo([AGENT])))
            case ["give up"] if host.machine.leaving:
                self.step(host, GiveUp(next(iter(host.machine.leaving)), ""))
            case ["remind"]:
                self.remind(host)
            case ["crash"]:
                self.harden(host, self.random.randint(0, len(host.pending)))
                self.start(host, host.disk)

    def restore(self) -> None:
        assert self.backup is not None
        self.log.append("A is started from the backup")
        disk = list(self.backup)
        self.start(self.hosts["A"], [*disk, Restored()] if self.marks else disk)
        self.has_copy = self.hosts["A"].machine.here(AGENT) is not None

    def settle(self) -> None:
        """All links are up, and all is heard: one copy runs."""
        for number in range(20):
            for host in self.hosts.values():
                self.harden(host, len(host.pending))
                for transfer in [*host.machine.leaving] if number == 10 else ():
                    self.step(host, GiveUp(transfer, "its deadline is over"))
                self.remind(host)
            while self.wire:
                self.deliver(self.wire.pop(0))
                self.check()
        if not self.has_copy:
            return
        if not any(host.running is not None for host in self.hosts.values()):
            raise Broken("the agent runs nowhere, for ever")
        for host in self.hosts.values():
            if host.machine.leaving or host.machine.arriving:
                raise Broken(f"{host.name} is in doubt for ever")

    # Hosts

    def start(self, host: Host, disk: list[Record]) -> None:
        self.log.append(f"{host.name} is started")
        self.wire = [each for each in self.wire if host.name not in (each.sender, each.to)]
        for other in self.names:
            self.sessions[frozenset((host.name, other))] = self.sessions.get(frozenset((host.name, other)), 0) + 1
        fresh = Host(host.name, *self.recovered(host.name, disk))
        self.hosts[host.name] = fresh
        effects = self.effects
        self.begin(fresh)
        self.perform(fresh, effects)

    def recovered(self, name: str, disk: list[Record]) -> tuple[Held, list[Record]]:
        folded, self.effects = self.kind.recover(name, disk)
        if not self.random.randrange(3):  # the journal was shortened
            rebuilt = Held(name)
            for record in disk:
                rebuilt.apply(record)
                rebuilt.sink(record)
            past: list[Record] = [Past(transfer, outcome) for transfer, outcome in rebuilt.past.items()]
            disk = [*past, *rebuilt.summary()]
            folded, self.effects = self.kind.recover(name, disk)
        return folded, list(disk)

    def begin(self, host: Host) -> None:
        self.lives += 1
        life = Life(host.machine.life.incarnation + 1, self.lives.to_bytes(8))
        self.step(host, Begin(life))
        self.harden(host, len(host.pending))

    def remind(self, host: Host) -> None:
        self.step(host, Remind())
        if host.machine.restored:
            for name in self.names:
                if name != host.name and (name not in host.said or self.moving(host, name)):
                    self.send(host, name, Recall(host.machine.life, (AGENT,)))
            self.look(host)

    def moving(self, host: Host, name: str) -> bool:
        word = host.said[name]
        return word is not None and not word.settled

    def hear(self, host: Host, sender: str, answer: Recalled) -> None:
        if answer.nonce != host.machine.life.nonce or not host.machine.restored:
            return
        if is_other(host.machine.life, answer.life):
            host.said.clear()
            self.lives += 1
            self.step(host, Begin(Life(answer.life.incarnation + 1, self.lives.to_bytes(8))))
            self.harden(host, len(host.pending))
            return
        host.said[sender] = None
        for seen in answer.sightings:
            host.said[sender] = Word(seen.epoch, seen.host, seen.settled, True, seen.transfer)
        self.look(host)

    def look(self, host: Host) -> None:
        machine = host.machine
        others = [name for name in self.names if name != host.name]
        for agent, inert in list(machine.quarantined.items()):
            match self.judge(host.name, Claim(machine.agents[agent].epoch, inert), host.said, others):
                case Here(epoch):
                    came = unacknowledged(host.name, host.said.values())
                    self.step(host, Confirm(agent, epoch, floor(machine.life), came))
                case Gone(epoch, to):
                    self.step(host, Left(agent, epoch, to))
                case Blocked():
                    pass
        if all(name in host.said for name in others):
            self.step(host, Complete())
            self.completed += not machine.restored

    def deliver(self, letter: Letter) -> None:
        if self.sessions.get(frozenset(letter[:2]), 0) != letter.session:
            return
        host = self.hosts[letter.to]
        self.log.append(f"{letter.to} takes {type(letter.message).__name__} of {letter.sender}")
        if isinstance(letter.message, Recalled):
            self.hear(host, letter.sender, letter.message)
            return
        try:
            self.step(host, Message(letter.sender, letter.message))
        except PeerFault as fault:
            self.log.append(f"  refused: {fault}")

    def send(self, host: Host, to: str, message: Any) -> None:
        self.wire.append(Letter(host.name, to, self.sessions.get(frozenset((host.name, to)), 0), message))

    def step(self, host: Host, event: Event) -> None:
        self.perform(host, host.machine.step(event))

    def perform(self, host: Host, effects: list[Effect]) -> None:
        queue = deque(effects)
        while queue:
            match queue.popleft():
                case Write(record):
                    host.pending.append(record)
                    if isinstance(record, Confirmed):
                        host.floors.append(record.floor)
                        self.used.setdefault(record.agent, []).append(record.floor)
                case Send(to, message):
                    self.send(host, to, message)
                case Examine(transfer):
                    host.inert.add(transfer)
                    queue.extend(host.machine.step(Admitted(transfer)))
                    queue.extend(host.machine.step(Examined(transfer, None)))
                case Activate(_, _, (load,), _):
                    self.runs(host, load.epoch)
                case Restart(_, epoch):
                    self.runs(host, epoch)
                case Resume(_, _, (load,)) | Restore(_, _, (load,)):
                    self.runs(host, load.epoch - 1)
                case Revoke() | Release():
                    host.running = None
                case Reopen() | Discard():
                    pass

    def runs(self, host: Host, epoch: int) -> None:
        self.log.append(f"{host.name}: it runs, in epoch {epoch}")
        host.running = epoch

    def harden(self, host: Host, count: int) -> None:
        for _ in range(count):
            record = host.pending.pop(0)
            host.disk.append(record)
            self.step(host, Durable(record))

    # The rules

    def check(self) -> None:
        running = [host.name for host in self.hosts.values() if host.running is not None]
        if len(running) > 1:
            raise Broken(f"two copies run: {' and '.join(running)}")
        for floors in self.used.values():
            if len(set(floors)) != len(floors):
                raise Broken("two lives have the same numbers for their letters")


class StartsItsResidents(Held):
    """[L11] Restored data starts its residents."""

    def _resolve(self) -> list[Effect]:
        self.quarantined.clear()
        return super()._resolve()


class GoesOnWithOffers(Held):
    """What was on offer when the copy was made goes on here at once, as after any restart."""

    def _restore(self) -> None:
        leaving, self.leaving = self.leaving, {}
        by, self.leaving_by = self.leaving_by, {}
        super()._restore()
        self.leaving, self.leaving_by = leaving, by


class ForgetsWhomItMet(Held):
    """A host does not tell another of the lives that it had before."""

    def _recalled(self, sender: str, asked: Recall) -> list[Effect]:
        self.met.pop(sender, None)
        return super()._recalled(sender, asked)


class AnswersTooEarly(Held):
    """A host answers before it has written whom it met."""

    def _recalled(self, sender: str, asked: Recall) -> list[Effect]:
        before = self.met.get(sender, Life())
        return [*super()._recalled(sender, asked), self._answer(sender, asked, before)]


def hasty(own: str, claim: Claim, said: Any, hosts: Any) -> Any:
    """A host that has not answered knows nothing, it seems."""
    return judge(own, claim, dict.fromkeys(hosts) | dict(said), hosts)


def trusting(own: str, claim: Claim, said: Any, hosts: Any) -> Any:
    """An inert copy counts as if it had been active."""
    return judge(own, claim._replace(inert=False), said, hosts)


class Mutant(NamedTuple):
    kind: type[Held] = Held
    judge: Any = judge
    marks: bool = True
    seeds: range = range(0)  # one of them shows it


MUTANTS = {
    "L11": Mutant(StartsItsResidents, seeds=range(10)),
    "unmarked": Mutant(marks=False, seeds=range(10)),
    "goes-on-with-offers": Mutant(GoesOnWithOffers, seeds=range(8, 16)),
    "forgets-whom-it-met": Mutant(ForgetsWhomItMet, seeds=range(40, 50)),
    "answers-too-early": Mutant(AnswersTooEarly, seeds=range(2879, 2880)),
    "hasty": Mutant(judge=hasty, seeds=range(10)),
    "trusting": Mutant(judge=trusting, seeds=range(200, 203)),
}


def walk(seed: int, mutant: Mutant = Mutant(), steps: int = 160, hosts: int = 3) -> World:  # noqa: B008
    """One life, by its seed. Raises Broken, with the way there."""
    world = World(seed, mutant.kind, hosts, mutant.judge, mutant.marks)
    try:
        world.run(steps)
    except Broken as broken:
        raise Broken("\n".join([f"seed {seed}: {broken}", *world.log])) from None
    return world

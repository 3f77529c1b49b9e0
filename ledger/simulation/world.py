"""A seeded network, clock and disk around the production engine. The same seed gives the same run."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from ledger.certificate import Members
from ledger.consensus import messages
from ledger.consensus.engine import Admit, Decide, Effect, Persist, Send, Serve, WakeAt
from ledger.consensus.view_changes import ViewChange
from ledger.errors import PeerFault
from ledger.simulation.checks import Checker
from ledger.simulation.node import MakeEngine, Node

WALL = 2_000_000  # milliseconds that the wall clock shows at time 0


@dataclass(frozen=True)
class Faults:
    """How bad the safety phase is. All are drawn anew for each seed: some mistakes only show in a lopsided world."""

    loss: float = 0.0  # probability for each message
    doubling: float = 0.0  # probability for each message
    delay: float = 0.01  # seconds, at most; one in twenty takes ten times that
    crashes: float = 0.0  # a second, over all hosts
    partitions: float = 0.0  # a second
    power_loss: float = 0.0  # a second: all hosts at once

    @classmethod
    def draw(cls, random: Random) -> "Faults":
        return cls(
            loss=random.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
            doubling=random.choice((0.0, 0.1)),
            delay=random.choice((0.01, 0.05, 0.3)),
            crashes=random.choice((0.0, 0.1, 0.5, 1.0)),
            partitions=random.choice((0.0, 0.1, 0.5)),
            power_loss=random.choice((0.0, 0.0, 0.1)),
        )


@dataclass
class World:
    """Hosts, what is under way between them, and the time (seconds)."""

    random: Random
    members: Members
    make_engine: MakeEngine
    view_change: type[ViewChange]  # of the engines that are made
    faults: Faults = Faults()
    byzantine: frozenset[str] = frozenset()
    now: float = 0.0
    delivered: int = 0

    def __post_init__(self) -> None:
        self.checker = Checker(self.members, self.view_change)
        self.nodes = {member.host: Node(member.host, self.members, self.make_engine) for member in self.members.members}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._group: dict[str, int] = {}  # who is cut off with whom

    # Time

    def at(self, time: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, action))

    def run(self, until: float) -> None:
        """Lets time pass up to `until`."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until

    def wall(self, node: Node) -> int:
        return WALL + int(self.now * 1000) + node.skew

    # Hosts

    def boot(self, host: str) -> None:
        node = self.nodes[host]
        if not node.up:
            node.boot()
            self._perform(node, node.engine.start(self.now, self.wall(node)))

    def crash(self, host: str) -> None:
        node = self.nodes[host]
        if node.up:
            node.up = False
            node.disk.crash(self.random)

    def cut(self, *groups: frozenset[str]) -> None:
        """Hosts hear only their own group; no groups: everybody hears everybody."""
        self._group = {host: number for number, group in enumerate(groups) for host in group}

    def submit(self, transaction: bytes, hosts: list[str]) -> None:
        """A client sends it to some replicas; those that are down miss it."""
        for host in hosts:
            self._admit(self.nodes[host], transaction)

    def _admit(self, node: Node, transaction: bytes) -> None:
        if node.up and node.chain.take(transaction):
            self._perform(node, node.engine.command([transaction], self.now, self.wall(node)))

    # Effects, in order. A crash may fall between any two of them.

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        dies_at = -1
        if self.random.random() < self.faults.crashes / 100:
            dies_at = self.random.randint(0, len(effects))
        for place, effect in enumerate(effects):
            if place == dies_at:
                self.crash(node.host)
                self.at(self.now + self.random.uniform(0.1, 3), partial(self.boot, node.host))
                return
            self._perform_one(node, effect)

    def _perform_one(self, node: Node, effect: Effect) -> None:
        match effect:
            case Persist():
                node.disk.write(effect)
            case Decide():
                node.disk.decide(effect)
                if node.host not in self.byzantine:
                    self.checker.decided(node.host, effect.block, effect.certificate)
            case Send():
                node.disk.sync()
                if node.host not in self.byzantine:
                    self.checker.sent(node.host, messages.decode(effect.message, node.host))
                for host in self.nodes if effect.to is None else [effect.to]:
                    if host != node.host:
                        self._post(node.host, host, effect.message)
            case Serve():
                node.disk.sync()
                blocks = node.disk.blocks[effect.first - 1 : effect.last]
                if blocks:
                    self._post(node.host, effect.to, messages.encode_blocks(blocks))
            case WakeAt():
                node.wake = effect.time
                self.at(effect.time, partial(self._tick, node, effect.time))
            case Admit():
                self.at(self.now, partial(self._admit, node, effect.transaction))

    def _tick(self, node: Node, time: float) -> None:
        if node.up and node.wake == time:
            self._perform(node, node.engine.tick(self.now, self.wall(node)))

    def _post(self, sender: str, to: str, message: bytes) -> None:
        for _ in range(2 if self.random.random() < self.faults.doubling else 1):
            if self.random.random() >= self.faults.loss:
                delay = self.random.uniform(0, self.faults.delay) * (10 if self.random.random() < 0.05 else 1)
                self.at(self.now + delay, partial(self._deliver, sender, to, message))

    def _deliver(self, sender: str, to: str, message: bytes) -> None:
        node = self.nodes[to]
        if not node.up or self._group.get(sender) != self._group.get(to):
            return
        self.delivered += 1
        try:
            effects = node.engine.message(sender, message, self.now, self.wall(node))
        except PeerFault as fault:
            if sender not in self.byzantine and to not in self.byzantine:
                self.checker.faults.append(f"{to} blames an honest host: {fault}")
            return
        self._perform(node, effects)

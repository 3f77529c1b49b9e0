"""A seeded network, clock and disk around the production engine. The same seed gives the same run."""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

from ledger.certificate import Members
from ledger.consensus import messages
from ledger.consensus.engine import RESTORED, Admit, Decide, Effect, Persist, Send, Serve, WakeAt
from ledger.consensus.view_changes import ViewChange
from ledger.errors import PeerFault
from ledger.simulation.checks import Checker
from ledger.simulation.cuts import Link
from ledger.simulation.faults import DECIDE, Faults, kind_of
from ledger.simulation.node import Disk, MakeEngine, Node

WALL = 2_000_000  # milliseconds that the wall clock shows at time 0
DISK = 0.02  # seconds that a write takes at most, when nothing waits for it


@dataclass
class World:
    """Hosts, what is under way between them, and the time (seconds)."""

    random: Random
    members: Members
    make_engine: MakeEngine
    view_change: type[ViewChange]  # of the engines that are made
    faults: Faults = field(default_factory=Faults)
    byzantine: frozenset[str] = frozenset()
    doubled: frozenset[str] = frozenset()  # Byzantine hosts that are two honest ones under one key
    now: float = 0.0
    delivered: int = 0

    def __post_init__(self) -> None:
        self.checker = Checker(self.members, self.view_change)
        hosts = [member.host for member in self.members.members]
        self.nodes = {host: Node(host, self.members, self.make_engine) for host in hosts}
        self.doubles = {host: Node(host, self.members, self.make_engine) for host in sorted(self.doubled)}
        self.audiences: Mapping[str, frozenset[str]] = {}  # of a doubled host: who is with its second copy
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._cuts: list[frozenset[Link]] = []

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
        for node in self.copies(host):
            if not node.up:
                self._step(node, partial(self._start, node))

    def _start(self, node: Node) -> list[Effect]:
        node.boot()
        return node.engine.start(self.now, self.wall(node))

    def crash(self, host: str) -> None:
        for node in self.copies(host):
            self._crash(node)

    def _crash(self, node: Node) -> None:
        if node.up:
            node.up = False
            self._acknowledge(node, node.disk.crash(self.random))

    def restart(self, host: str) -> None:
        self.crash(host)
        self.boot(host)

    def restore(self, host: str, backup: Disk) -> None:
        """The operator puts an old copy of the data back, and says so."""
        self.crash(host)
        backup.kept[RESTORED] = b""
        node = self.nodes[host]
        node.disk, node.restored_at = backup, self.now
        self.boot(host)

    def copies(self, host: str) -> list[Node]:
        return [self.nodes[host], *([self.doubles[host]] if host in self.doubles else [])]

    # Links

    def cut(self, *groups: frozenset[str]) -> None:
        """Hosts hear only their own group; no groups: everybody hears everybody."""
        apart = [(one, other) for one in groups for other in groups if one is not other]
        self._cuts = [frozenset((a, b) for one, other in apart for a in one for b in other)]

    def cut_links(self, links: frozenset[Link]) -> None:
        self._cuts.append(links)

    def mend(self, links: frozenset[Link]) -> None:
        if links in self._cuts:
            self._cuts.remove(links)

    # Clients

    def submit(self, transaction: bytes, hosts: list[str]) -> None:
        """A client sends it to some replicas; those that are down miss it."""
        for host in hosts:
            for node in self.copies(host):
                self._admit(node, transaction)

    def _admit(self, node: Node, transaction: bytes) -> None:
        if node.up and node.chain.take(transaction):
            self._step(node, lambda: node.engine.command([transaction], self.now, self.wall(node)))

    # Effects, in order. A crash may fall between any two of them.

    def _step(self, node: Node, engine: Callable[[], list[Effect]]) -> None:
        """An honest host that gets into trouble by itself is a fault."""
        try:
            effects = engine()
        except PeerFault:
            raise
        except Exception as error:
            node.up = False
            if node.host not in self.byzantine:
                self.checker.faults.append(f"{node.host} fell: {error!r}")
            return
        self._perform(node, effects)

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        dies_at = -1
        likely = self.faults.crashes / 100 + self._death(effects)
        if likely and self.random.random() < likely:
            dies_at = self.random.randint(0, len(effects))
        for place, effect in enumerate(effects):
            if place == dies_at:
                break
            self._perform_one(node, effect)
        if dies_at >= 0:
            self._crash(node)
            self.at(self.now + self.random.uniform(0.1, 3), partial(self.boot, node.host))
        elif node.disk.is_busy:
            self.at(self.now + self.random.uniform(0, DISK), partial(self._sync, node))

    def _death(self, effects: list[Effect]) -> float:
        """The probability that the host dies just here."""
        deaths = self.faults.deaths
        if not deaths:
            return 0.0
        kinds = [kind_of(messages.decode(each.message, "")) for each in effects if isinstance(each, Send)]
        kinds += [DECIDE for each in effects if isinstance(each, Decide)]
        return max((deaths.get(kind, 0.0) for kind in kinds), default=0.0)

    def _perform_one(self, node: Node, effect: Effect) -> None:
        match effect:
            case Persist():
                node.disk.write(effect)
            case Decide():
                node.disk.write(effect)
                if node.host not in self.byzantine:
                    self.checker.decided(node.host, effect.block, effect.certificate)
                if node.has_new_key:  # its operator starts it anew with that
                    self.at(self.now + self.random.uniform(0, 2), partial(self.restart, node.host))
            case Send():
                self._sync(node)
                content = messages.decode(effect.message, node.host)
                if node.host not in self.byzantine:
                    self.checker.sent(node.host, content)
                for host in self.nodes if effect.to is None else [effect.to]:
                    self._post(node, host, effect.message, kind_of(content))
            case Serve():
                self._sync(node)
                blocks = node.disk.blocks[effect.first - 1 : effect.last]
                if blocks:
                    self._post(node, effect.to, messages.encode_blocks(blocks), "blocks")
            case WakeAt():
                node.wake = effect.time
                self.at(effect.time, partial(self._tick, node, effect.time))
            case Admit():
                self.at(self.now, partial(self._admit, node, effect.transaction))

    def _tick(self, node: Node, time: float) -> None:
        if node.up and node.wake == time:
            self._step(node, lambda: node.engine.tick(self.now, self.wall(node)))

    def _sync(self, node: Node) -> None:
        self._acknowledge(node, node.disk.sync())

    def _acknowledge(self, node: Node, durable: list[Decide]) -> None:
        """The replica tells its clients what is final and durable."""
        if node.host not in self.byzantine:
            for decide in durable:
                self.checker.acknowledged(decide.block)

    # Messages

    def _post(self, node: Node, to: str, message: bytes, kind: str) -> None:
        random, faults = self.random, self.faults
        receiver = self._partner(node, to)
        if receiver is None:
            return
        loss = max(faults.loss, faults.lost.get(kind, 0.0))
        for _ in range(2 if random.random() < faults.doubling else 1):
            if random.random() >= loss:
                delay = random.uniform(0, faults.delay) * (10 if random.random() < 0.05 else 1)
                arrives = partial(self._deliver, self.now, node.host, receiver, message)
                self.at(self.now + delay, arrives)
                if random.random() < faults.replays:
                    self.at(self.now + random.uniform(1, 15), arrives)

    def _partner(self, node: Node, to: str) -> Node | None:
        """The copy of `to` that talks with `node`, if any does. Of two doubled hosts the first ones do so."""
        if to == node.host:
            return None
        second = self.doubles.get(node.host) is node
        if to in self.doubles:
            with_second = second if node.host in self.doubles else node.host in self.audiences.get(to, frozenset())
            return self.doubles[to] if with_second else self.nodes[to]
        if node.host in self.doubles and second != (to in self.audiences.get(node.host, frozenset())):
            return None
        return self.nodes[to]

    def _deliver(self, sent: float, sender: str, node: Node, message: bytes) -> None:
        to = node.host
        if not node.up or sent < node.restored_at or any((sender, to) in cut for cut in self._cuts):
            return
        self.delivered += 1
        try:
            self._step(node, lambda: node.engine.message(sender, message, self.now, self.wall(node)))
        except PeerFault as fault:
            if sender not in self.byzantine and to not in self.byzantine:
                self.checker.faults.append(f"{to} blames an honest host: {fault}")

"""Traces by seed: what a user, the hosts' load, links and the consortium may do. Pure but for the seed's generator."""

import math
import random
from collections.abc import Callable, Iterator

from benchmarks.regret.trace import RttLoss, Start, Step, Trace

LENGTH_S = 120.0
EVERY_S = 0.5  # as often the user's device reports, and hosts advertise
RTT_THERE_MS, RTT_PER_UNIT_MS = 2.0, 20.0  # of the access; a host reaches one unit
REACH, LOSS_PER_UNIT, MOST_LOSS = 0.8, 0.5, 0.9
BETWEEN_MS = 8.0  # from host to host, a unit
SPEED = 0.08  # units a second: some ten to twenty seconds at one host
BAD_FOR_S = 5.0
BURST = 0.15  # of a host's processors, at each step
MEGABYTE = 1_000_000

Position = tuple[float, float]


class _Town:
    """What is so at a moment. Each kind of trace changes parts of it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.hosts = tuple("abcdefgh"[: chance.randint(4, 6)])
        turn = chance.random()
        self.places = {
            name: _on_circle(turn + index / len(self.hosts), chance.uniform(0.7, 1.2))
            for index, name in enumerate(self.hosts)
        }
        self.user = self.places[self.hosts[0]]
        self.target = self.user
        self.free = {name: chance.uniform(0.4, 0.9) for name in self.hosts}
        self.bad_links: dict[str, RttLoss] = {}
        self.bad_access: dict[str, RttLoss] = {}

    def walk(self) -> None:
        """The user goes from host to host, and rests at some."""
        x, y = self.user
        away = math.dist(self.user, self.target)
        if away < SPEED * EVERY_S:
            if self.chance.random() < 0.05:
                self.target = self.places[self.chance.choice(self.hosts)]
            return
        part = SPEED * EVERY_S / away
        self.user = (x + (self.target[0] - x) * part, y + (self.target[1] - y) * part)

    def access(self) -> dict[str, RttLoss]:
        return {name: self.bad_access.get(name) or self._access(name) for name in self.hosts}

    def links(self) -> dict[str, RttLoss]:
        return {
            f"{a}>{b}": self.bad_links.get(f"{a}>{b}") or (self._jitter(BETWEEN_MS * self._apart(a, b)), 0.0)
            for a in self.hosts
            for b in self.hosts
            if a != b
        }

    def load(self) -> dict[str, float]:
        """Other work comes and goes in bursts."""
        burst = self.chance.uniform
        return {name: round(min(1.0, max(0.0, free + burst(-BURST, BURST))), 3) for name, free in self.free.items()}

    def _access(self, name: str) -> RttLoss:
        units = math.dist(self.user, self.places[name])
        loss = min(MOST_LOSS, max(0.0, units - REACH) * LOSS_PER_UNIT)
        return self._jitter(RTT_THERE_MS + RTT_PER_UNIT_MS * units), round(loss, 3)

    def _apart(self, a: str, b: str) -> float:
        return math.dist(self.places[a], self.places[b])

    def _jitter(self, value: float) -> float:
        return round(value * self.chance.uniform(0.9, 1.1), 2)


Change = Callable[[_Town, float], Step | None]  # from one step to the next; what it returns is added to the step


def walk(seed: int) -> Trace:
    """A user walks among hosts whose load stays about the same."""

    def change(town: _Town, _at: float) -> Step | None:
        town.walk()
        return None

    return _trace("walk", seed, MEGABYTE, change)


def load(seed: int) -> Trace:
    """A user sits still; the hosts' load goes up and down in waves of their own, up to no free processor."""

    def change(town: _Town, at: float) -> Step | None:
        town.user = (0.0, 0.0)
        for index, name in enumerate(town.hosts):
            period, phase = 25.0 + 13.0 * index, seed + 2.1 * index
            town.free[name] = 0.5 + 0.45 * math.sin(2 * math.pi * at / period + phase)
        return None

    return _trace("load", seed, MEGABYTE, change)


def links(seed: int) -> Trace:
    """A user walks slowly; links between hosts, and to the user, fail for some seconds. The state is larger."""

    def change(town: _Town, _at: float) -> Step | None:
        if town.chance.random() < 0.5:
            town.walk()
        _flicker(town, 0.01)
        return None

    return _trace("links", seed, 10 * MEGABYTE, change)


def trust(seed: int) -> Trace:
    """A user walks; one host is revoked at a third of the time, and one is drained at two thirds, and goes off."""

    def change(town: _Town, at: float) -> Step | None:
        town.walk()
        return _outs(town, at)

    return _trace("trust", seed, MEGABYTE, change)


def mixture(seed: int) -> Trace:
    """All of it, and a host that refuses whoever comes."""

    def change(town: _Town, at: float) -> Step | None:
        town.walk()
        _flicker(town, 0.005)
        for index, name in enumerate(town.hosts):
            town.free[name] = 0.55 + 0.35 * math.sin(2 * math.pi * at / (40.0 + 9.0 * index) + seed)
        out = _outs(town, at)
        return Step(at, refusing=(town.hosts[3],)) if at == 0.0 else out

    return _trace("mixture", seed, 3 * MEGABYTE, change)


KINDS = {"walk": walk, "load": load, "links": links, "trust": trust, "mixture": mixture}


def _flicker(town: _Town, likely: float) -> None:
    """Links that are well get bad with this likelihood at each step, and well again after BAD_FOR_S on average."""
    pairs = [f"{a}>{b}" for a in town.hosts for b in town.hosts if a != b]
    for bad, names in ((town.bad_links, pairs), (town.bad_access, town.hosts)):
        for name in names:
            if name in bad:
                if town.chance.random() < EVERY_S / BAD_FOR_S:
                    del bad[name]
            elif town.chance.random() < likely:
                dead = bad is town.bad_links and town.chance.random() < 0.5
                bad[name] = (0.0, 1.0) if dead else (round(town.chance.uniform(50.0, 300.0), 1), 0.3)


def _outs(town: _Town, at: float) -> Step | None:
    if at == LENGTH_S / 3:
        return Step(at, f"{town.hosts[1]} was revoked", revoked=(town.hosts[1],))
    if at == LENGTH_S * 2 / 3:
        return Step(at, f"{town.hosts[2]} is drained", closed=(town.hosts[2],))
    if at == LENGTH_S * 2 / 3 + 10:
        return Step(at, f"{town.hosts[2]} is off", revoked=(town.hosts[2],))
    return None


def _trace(kind: str, seed: int, size: int, change: Change) -> Trace:
    town = _Town(random.Random(f"{kind} {seed}"))  # noqa: S311
    head = Start(f"{kind} {seed}", town.hosts, town.hosts[0], size, 100.0, LENGTH_S)
    return Trace(head, tuple(_steps(town, change)))


def _steps(town: _Town, change: Change) -> Iterator[Step]:
    for index in range(int(LENGTH_S / EVERY_S)):
        at = index * EVERY_S
        extra = change(town, at) or Step(at)
        why = extra.why or "the user's device reports"
        yield Step(at, why, town.access(), town.links(), town.load(), extra.revoked, extra.closed, extra.refusing)


def _on_circle(turns: float, radius: float) -> Position:
    return radius * math.cos(2 * math.pi * turns), radius * math.sin(2 * math.pi * turns)

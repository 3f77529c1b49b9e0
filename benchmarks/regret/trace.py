"""A trace: what happened to one service, its user and the hosts, and what was measured. JSON lines, one a step."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

RttLoss = tuple[float, float]  # milliseconds there and back, 0 to 1


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line."""

    name: str
    hosts: tuple[str, ...]
    start: str  # the host on which the service is at first
    state_bytes: int  # of the service, which move with it
    mbits: float  # bandwidth between any two hosts
    end: float  # seconds
    about: str = ""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is new from `at` on; all else is as before. A step with `why` is an event, at which a policy is asked."""

    at: float  # seconds since the beginning, rising
    why: str = ""
    access: Mapping[str, RttLoss] = {}  # of the user, by host
    links: Mapping[str, RttLoss] = {}  # "north>east": both ways are lines of their own
    cpu_free: Mapping[str, float] = {}
    revoked: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()  # as a host that is drained
    refusing: tuple[str, ...] = ()  # they say that all is well, and refuse whoever comes: nobody knows beforehand


class World(msgspec.Struct, frozen=True):
    """All that is so, from `at` until `until`."""

    at: float
    until: float
    why: str
    access: Mapping[str, RttLoss]
    links: Mapping[tuple[str, str], RttLoss]
    cpu_free: Mapping[str, float]
    revoked: frozenset[str]
    closed: frozenset[str]
    refusing: frozenset[str]


class Trace(msgspec.Struct, frozen=True):
    head: Start
    steps: tuple[Step, ...]

    def worlds(self) -> Iterator[World]:
        access: dict[str, RttLoss] = {}
        links: dict[tuple[str, str], RttLoss] = {}
        cpu_free: dict[str, float] = {}
        revoked: frozenset[str] = frozenset()
        closed: frozenset[str] = frozenset()
        refusing: frozenset[str] = frozenset()
        ends = [step.at for step in self.steps[1:]] + [self.head.end]
        for step, until in zip(self.steps, ends, strict=True):
            access = access | dict(step.access)
            links = links | {(pair.split(">")[0], pair.split(">")[1]): link for pair, link in step.links.items()}
            cpu_free = cpu_free | dict(step.cpu_free)
            revoked, closed = revoked.union(step.revoked), closed.union(step.closed)
            refusing = refusing.union(step.refusing)
            yield World(step.at, until, step.why, access, links, cpu_free, revoked, closed, refusing)

    def lines(self) -> list[bytes]:
        return [msgspec.json.encode(line) for line in (self.head, *self.steps)]


def read(path: Path) -> Trace:
    head, *steps = path.read_bytes().splitlines()
    return Trace(msgspec.json.decode(head, type=Start), tuple(msgspec.json.decode(step, type=Step) for step in steps))

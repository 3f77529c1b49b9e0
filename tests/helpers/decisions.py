"""Decisions to look at: a city of four hosts, and crowds of any size."""

import random

import msgspec
from msgspec.structs import replace

from services.eds.explain import Explanation
from services.eds.policies.falcon import Falcon
from services.eds.rules import Atomic, Group
from services.eds.snapshot import Access, Resident, Snapshot
from services.eds.whatif import decide
from tests.helpers.edge_scenes import NOON, host, mesh

USER, FACE = "user-0123456789abcdef", "face-0123456789abcdef"
REVOKED = "west-org is revoked since height 42: its operator lost the key"
NAMES = ("east", "north", "south", "west")


def city(*, names: tuple[str, ...] = NAMES, agents: tuple[str, ...] = (USER, FACE), user: str = "ada") -> Snapshot:
    """The user is near `names[0]`, the group on `names[1]`, and `names[3]` is revoked and nearest."""
    group = Group("faces", agents, (Atomic(agents),) if len(agents) > 1 else (), user)
    hosts = tuple(host(name, revoked=REVOKED if name == names[3] else None, task_weight=2.0) for name in names)
    nearness = dict(zip(names, (4.0, 40.0, 60.0, 2.0), strict=True))
    access = tuple(Access(name, rtt_ms, 0.0, "emulated") for name, rtt_ms in nearness.items())
    residents = tuple(Resident(agent, names[1], NOON - 1000) for agent in agents)
    return Snapshot((group,), NOON, hosts, mesh(names), residents, {user: access})


def crowd(hosts: int, agents: int, seed: int) -> Snapshot:
    draw = random.Random(seed)  # noqa: S311 - drawn from a seed
    names = [f"host-{number:04d}" for number in range(hosts)]
    ids = tuple(f"agent-{number}-0123456789abcdef" for number in range(agents))
    links = tuple(replace(link, rtt_ms=draw.uniform(1, 60)) for link in mesh(names))
    access = tuple(Access(name, draw.uniform(2, 80), 0.0, "emulated") for name in names)
    residents = tuple(Resident(agent, names[number * 3 % hosts], NOON - 1000) for number, agent in enumerate(ids))
    views = tuple(host(name, task_weight=2.0) for name in names)
    return Snapshot((Group("crowd", ids, (), "bob"),), NOON, views, links, residents, {"bob": access})


def decided(snapshot: Snapshot, why: str = "ada moved") -> Explanation:
    explained = decide(snapshot, Falcon(), why, "d1")
    return msgspec.convert(msgspec.to_builtins(explained), Explanation)  # as it comes from a host

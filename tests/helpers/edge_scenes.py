"""Scenes for the EDS: hosts, links and agents with plain numbers, from which a test changes what it is about."""

import random
from collections.abc import Iterable, Mapping

import msgspec

from services.eds.rules import Group, Rule
from services.eds.snapshot import NEUTRAL_EXPERIENCE, Access, Host, Link, Resident, Snapshot
from services.rms.resources import Minima, Needs, Resources
from services.tms.verdicts import Verdict

GIB = 1024**3
NOON = 1_700_000_000.0  # seconds since 1970


def resources(cpu_free: float = 0.5, memory_free: int = 4 * GIB, bandwidth: float = 1000.0) -> Resources:
    return Resources(
        cpu_free=cpu_free,
        cores=4,
        memory_free=memory_free,
        memory_total=8 * GIB,
        disk_free=100 * GIB,
        bandwidth=bandwidth,
    )


def host(
    name: str,
    *,
    revoked: str | None = None,
    advert: Resources | None = resources(),  # noqa: B008 (immutable)
    task_weight: float = 1.0,
    experience: float = NEUTRAL_EXPERIENCE,
) -> Host:
    verdict = Verdict(name, revoked is None, revoked or "trusted", 7)
    return Host(name, verdict, advert, task_weight, experience)


def mesh(hosts: Iterable[str], rtt_ms: float = 1.0, loss: float = 0.0) -> tuple[Link, ...]:
    names = list(hosts)
    return tuple(Link(a, b, rtt_ms, loss) for a in names for b in names if a != b)


def scene(
    hosts: Iterable[Host],
    agents: Mapping[str, str],
    *,
    rules: Iterable[Rule] = (),
    access: Mapping[str, float] | None = None,
    links: tuple[Link, ...] | None = None,
    residents: Iterable[Resident] = (),
    at: float = NOON,
) -> Snapshot:
    """`agents`: agent -> present host. `access`: host -> round-trip time in ms from the user. Links: a mesh."""
    hosts = tuple(hosts)
    given = {resident.agent: resident for resident in residents}
    return Snapshot(
        (Group("group", tuple(agents), tuple(rules), "ada" if access is not None else None),),
        at,
        hosts,
        mesh(host.host for host in hosts) if links is None else links,
        tuple(given.get(agent) or Resident(agent, where, NOON - 1000) for agent, where in agents.items()),
        {"ada": tuple(Access(name, rtt, 0.0, "emulated") for name, rtt in access.items())} if access else {},
    )


def random_scene(rng: random.Random) -> tuple[list[Host], tuple[Link, ...], list[Resident]]:
    """Up to seven hosts of which some are revoked, closed or silent, some of their links, and three agents x0 to x2."""
    names = "abcdefg"[: rng.randint(1, 7)]
    hosts = [
        msgspec.structs.replace(
            host(
                name,
                revoked="gone" if rng.random() < 0.2 else None,
                advert=None
                if rng.random() < 0.1
                else resources(rng.random(), rng.randrange(8 * GIB), rng.uniform(1, 1e3)),
                task_weight=rng.uniform(0, 9),
                experience=rng.random(),
            ),
            closed="it is being drained" if rng.random() < 0.2 else "",
        )
        for name in names
    ]
    links = tuple(
        Link(a, b, rng.uniform(0, 90), rng.choice([0.0, 0.3, 1.0]), rng.choice([None, None, rng.uniform(0, 1e3)]))
        for a in names
        for b in names
        if a != b and rng.random() < 0.6
    )
    residents = [
        Resident(
            f"x{number}",
            rng.choice(names),
            NOON - rng.uniform(0, 4),
            rng.choice([1.0, 2.0]),
            Needs(least=Minima(memory=rng.choice([0, 2 * GIB])), prefers=Minima(cpu_cores=rng.choice([0.0, 3.0]))),
        )
        for number in range(3)
    ]
    return hosts, links, residents

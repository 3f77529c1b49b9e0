"""Random things to plan, and an oracle that tries every plan."""

import itertools
import random
from collections.abc import Iterator, Mapping

from services.eds.offers import Candidate, Offers
from services.eds.rules import Atomic, Dependency, Exclusion, Group, Rule
from services.eds.snapshot import Resident, Snapshot
from services.eds.weights import Terms
from services.rms.resources import Minima, Needs, Resources
from tests.helpers.edge_scenes import NOON, host

NO_TERMS = Terms(0, 0, 0, 0)


def offers(snapshot: Snapshot, scores: Mapping[str, Mapping[str, float]]) -> Offers:
    """`scores`: agent -> host -> score."""
    here = {resident.agent: resident.host for resident in snapshot.residents}
    return Offers(
        {
            agent: tuple(
                Candidate(agent, name, score, NO_TERMS, 1.0, (name,) if name == here[agent] else (here[agent], name))
                for name, score in places.items()
            )
            for agent, places in scores.items()
        }
    )


def random_case(seed: int, largest: int) -> tuple[Snapshot, Offers]:
    """One to three groups with up to 6 agents on up to 5 hosts, and no more than `largest` ways to place them."""
    draw = random.Random(seed)  # noqa: S311 (a seeded test, no secret)
    agents = [f"a{i}" for i in range(draw.choice([1, 2, 3, 4, 5, 5, 6, 6]))]
    names = [f"h{i}" for i in range(draw.choice([1, 2, 3, 4, 5, 5]))]
    while len(names) ** len(agents) > largest:
        agents.pop()
    cuts = sorted({0, len(agents), *(draw.randint(0, len(agents)) for _ in range(draw.randint(0, 2)))})
    groups = []
    for begin, end in itertools.pairwise(cuts):
        members = agents[begin:end]
        count = draw.randint(0, len(members) - 1)
        groups.append(Group(f"g{begin}", tuple(members), tuple(_rule(draw, members) for _ in range(count))))
    hosts = [
        host(
            name,
            advert=Resources(
                cpu_free=draw.choice([0.25, 0.5, 1.0]),
                cores=4,
                memory_free=draw.randint(0, 8),
                memory_total=8,
                disk_free=draw.randint(0, 9),
                bandwidth=100.0,
                gpus=draw.randint(0, 1),
            ),
            revoked="gone" if draw.random() < 0.05 else None,
        )
        for name in names
    ]
    needs = [
        Minima(
            memory=draw.randint(0, 3),
            cpu_cores=draw.choice([0, 0, 0.5, 1, 2]),
            disk=draw.choice([0, 0, 4]),
            gpus=int(draw.random() < 0.1),
        )
        for _ in agents
    ]
    residents = tuple(
        Resident(agent, draw.choice(names), NOON, needs=Needs(least=least))
        for agent, least in zip(agents, needs, strict=True)
    )
    snapshot = Snapshot(tuple(groups), NOON, tuple(hosts), (), residents)
    scores = {agent: {name: float(draw.randint(-2, 9)) for name in names if draw.random() < 0.95} for agent in agents}
    return snapshot, offers(snapshot, scores)


def _rule(draw: random.Random, members: list[str]) -> Rule:
    some = tuple(draw.sample(members, draw.randint(2, min(4, len(members)))))
    kind = draw.choice(["atomic", "exclusion", "exclusion", "any", "any", "all"])
    if kind == "atomic":
        return Atomic(some[:2])
    if kind == "exclusion":
        return Exclusion(some)
    return Dependency(some[0], some[1:], "any" if kind == "any" else "all")


def best_by_brute_force(snapshot: Snapshot, offered: Offers) -> tuple[int, float]:
    """How few groups must be stuck, and the most that a plan can bring then. It shares no code with the planner but
    what a rule and a vector of resources say themselves."""
    best = (len(snapshot.groups), 0.0)
    for plans in itertools.product(*(_plans(snapshot, group, offered) for group in snapshot.groups)):
        stuck = sum(plan is None for plan in plans)
        benefit = sum(place.score for plan in plans for place in plan or ())
        if (stuck, -benefit) < (best[0], -best[1]) and _fits(snapshot, [each for plan in plans for each in plan or ()]):
            best = (stuck, benefit)
    return best


def _plans(snapshot: Snapshot, group: Group, offered: Offers) -> Iterator[tuple[Candidate, ...] | None]:
    yield None  # everybody stays, since there is no plan
    hosts = {each.host: each for each in snapshot.hosts}
    residents = {each.agent: each for each in snapshot.residents}
    open_places = [
        [place for place in offered.candidates[agent] if not snapshot.unfit(residents[agent], hosts[place.host])]
        for agent in group.agents
    ]
    for places in itertools.product(*open_places):
        plan = {place.agent: place.host for place in places}
        if not any(rule.violation(plan) for rule in group.rules) and _fits(snapshot, places):
            yield places


def _fits(snapshot: Snapshot, places: list[Candidate] | tuple[Candidate, ...]) -> bool:
    residents = {each.agent: each for each in snapshot.residents}
    arriving: dict[str, Minima] = {}
    for place in places:
        if residents[place.agent].host != place.host:
            arriving[place.host] = arriving.get(place.host, Minima()) + residents[place.agent].needs.least
    resources = {each.host: each.resources for each in snapshot.hosts}
    return not any((there := resources[name]) and there.shortages(least) for name, least in arriving.items())


def wrong(snapshot: Snapshot, offered: Offers, hosts: Mapping[str, str], stuck: Mapping[str, object]) -> str | None:
    """What is wrong with a plan (None: nothing)."""
    here = {each.agent: each.host for each in snapshot.residents}
    places = []
    for group in snapshot.groups:
        for agent in group.agents:
            if group.name in stuck:
                if hosts[agent] != here[agent]:
                    return f"{agent} of {group.name}, which is stuck, moves"
            else:
                places += [place for place in offered.candidates[agent] if place.host == hosts[agent]]
        for rule in group.rules if group.name not in stuck else ():
            if broken := rule.violation(hosts):
                return broken
    if hosts.keys() != here.keys():
        return "somebody is forgotten"
    return None if _fits(snapshot, places) else "they do not fit together"

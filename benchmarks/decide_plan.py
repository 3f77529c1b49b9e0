"""How long a plan takes, how far it may be from the best, and what Falcon's greedy search loses beside it.

A scene is drawn from a seed: hosts in a plane, users who gather at one place, the round-trip time by distance. The
agents' hosts are being drained, so all must go, and want the same. The policy is falcon with its defaults; its time
stands beside the planner's. Groups of eight have the rules of Falcon's Table 2, groups of five one of each kind.
Times are of the processor, since nothing is waited for.
"""

import random
import time
import tracemalloc
from statistics import fmean, median
from typing import Any, NamedTuple

from services.eds import greedy, planner
from services.eds.offers import Offers
from services.eds.plan import Search
from services.eds.policies.falcon import Falcon
from services.eds.rules import Atomic, Dependency, Exclusion, Group, Rule
from services.eds.snapshot import Access, Host, Link, Resident, Snapshot
from services.rms.resources import Minima, Needs, Resources
from services.tms.verdicts import Verdict

GIB = 1024**3
NOON = 1_700_000_000.0
SEEDS = range(1, 6)
RUNS = 5  # of each seed where one is short
GREEDY_SEEDS = range(100, 200)

Point = tuple[float, float]


class Measured(NamedTuple):
    policy_ms: float  # medians over seeds and runs
    planner_ms: float
    whole_ms: float
    gap: float  # the largest, in per cent
    exact: int  # of the seeds
    steps: int  # the most
    found: list[tuple[Snapshot, Offers, Search]]  # of each seed


def measure() -> dict[str, Any]:
    print(f"seeds {SEEDS.start} to {SEEDS.stop - 1}; medians, in ms; the gap is the largest, in per cent of the bound")
    print(f"{'case':34} {'policy':>8} {'planner':>8} {'whole':>8} {'exact':>6} {'stuck':>6} {'gap %':>6} {'steps':>8}")
    small = _row("8 agents, 8 hosts", 1, 8, 8, runs=RUNS)
    many_hosts = _row("8 agents, 1,000 hosts", 1, 8, 1000, runs=RUNS)
    large = _row("100 agents in 20 groups, 200 hosts", 20, 5, 200)
    _row("the same, half the room", 20, 5, 200, room=0.5)
    _row("the same, a quarter of the room", 20, 5, 200, room=0.25)
    for hosts in (10, 30, 100, 300, 1000, 3000, 10_000):
        _row(f"growth: 8 agents, {hosts:,} hosts", 1, 8, hosts)
    print(f"peak of memory while 100 agents and 200 hosts are planned: {_peak(large.found[0]) / 1024**2:.0f} MiB")
    return {
        "plan_ms_8x8": round(small.whole_ms, 2),
        "plan_ms_8x1000": round(many_hosts.whole_ms, 1),
        "plan_ms_100x200": round(large.whole_ms, 0),
        "gap_100x200": round(large.gap, 3),
        "greedy_loss": round(_greedy_loss(large), 2),
    }


def _row(name: str, groups: int, size: int, hosts: int, *, room: float = 1.0, runs: int = 1) -> Measured:
    times, found = [], []
    for seed in SEEDS:
        snapshot = scene(seed, groups, size, hosts, room)
        for _ in range(runs):
            begun = time.process_time()
            offers = Falcon().offers(snapshot)
            scored = time.process_time()
            search = planner.search(snapshot, offers)
            done = time.process_time()
            times.append(((scored - begun) * 1000, (done - scored) * 1000, (done - begun) * 1000))
        found.append((snapshot, offers, search))
    gaps = [search.gap * 100 for _, _, search in found]
    policy, alone, whole = (median(each) for each in zip(*times, strict=True))
    exact = sum(search.complete for _, _, search in found)
    row = Measured(policy, alone, whole, max(gaps), exact, max(search.steps for _, _, search in found), found)
    stuck = f"{sum(len(search.stuck) for _, _, search in found)}/{groups * len(SEEDS)}"
    times_of = f"{policy:8.2f} {alone:8.2f} {whole:8.2f}"
    print(f"{name:34} {times_of} {exact:>4}/{len(SEEDS)} {stuck:>6} {row.gap:6.3f} {row.steps:8}")
    return row


def _greedy_loss(large: Measured) -> float:
    """Per cent of the benefit, the mean over small cases."""
    cases = []
    for seed in GREEDY_SEEDS:
        snapshot = scene(seed, 2, 8, 8)
        offers = Falcon().offers(snapshot)
        cases.append((snapshot, offers, planner.search(snapshot, offers)))
    print(f"greedy beside it; small cases of seeds {GREEDY_SEEDS.start} to {GREEDY_SEEDS.stop - 1}")
    losses = _losses("16 agents in 2 groups, 8 hosts", cases)
    _losses("100 agents in 20 groups, 200 hosts", large.found)
    return fmean(losses)


def _losses(name: str, cases: list[tuple[Snapshot, Offers, Search]]) -> list[float]:
    losses, stuck, times = [], 0, []
    for snapshot, offers, best in cases:
        begun = time.process_time()
        first = greedy.search(snapshot, offers)
        times.append((time.process_time() - begun) * 1000)
        losses.append(100 * (1 - first.plan.benefit / best.plan.benefit) if best.plan.benefit else 0.0)
        stuck += len(first.stuck) - len(best.stuck)
    print(
        f"  {name}: loses {fmean(losses):.1f} % in the mean, {max(losses):.1f} % at most, in {median(times):.1f} ms; "
        f"{stuck} groups more are stuck, of {sum(len(snapshot.groups) for snapshot, _, _ in cases)}"
    )
    return losses


def _peak(case: tuple[Snapshot, Offers, Search]) -> int:
    """Bytes, in a run of its own: counting them takes time."""
    tracemalloc.start()
    planner.search(case[0], case[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def scene(seed: int, groups: int, size: int, hosts: int, room: float = 1.0) -> Snapshot:
    """`groups` of `size` agents on `hosts`. With `room` = 1 a host takes some three to eight agents more."""
    draw = random.Random(seed)  # noqa: S311 (a benchmark, no secret)
    names = [f"h{i:05}" for i in range(hosts)]
    at = {name: (draw.random(), draw.random()) for name in names}
    homes = draw.sample(names, max(1, min(groups, hosts // 10)))
    views = tuple(_host(draw, name, room, "it is being drained" if name in homes else "") for name in names)
    made: list[Group] = []
    residents: list[Resident] = []
    access: dict[str, tuple[Access, ...]] = {}
    for number in range(groups):
        user, members = f"u{number:02}", [f"g{number:02}a{i}" for i in range(size)]
        made.append(Group(f"g{number:02}", tuple(members), _rules(members), user))
        where, home = (draw.gauss(0.5, 0.1), draw.gauss(0.5, 0.1)), draw.choice(homes)
        access[user] = tuple(Access(name, _rtt(where, at[name]), 0.0, "emulated") for name in names)
        for agent in members:
            weight = draw.choice([0.5, 1.0, 2.0])
            residents.append(Resident(agent, home, NOON - 1000, weight, Needs(least=_least(draw))))
    # What the agents' hosts measured; with these, no path leads over two hops.
    links = tuple(Link(a, b, _rtt(at[a], at[b]), 0.0, 1000.0) for a in sorted(homes) for b in names if a != b)
    return Snapshot(tuple(made), NOON, views, links, tuple(residents), access)


def _host(draw: random.Random, name: str, room: float, closed: str) -> Host:
    resources = Resources(
        cpu_free=draw.uniform(0.1, 1.0),
        cores=max(1, round(draw.choice([4, 8, 16]) * room)),
        memory_free=int(draw.randint(4, 32) * room * GIB),
        memory_total=64 * GIB,
        disk_free=int(draw.randint(20, 200) * room * GIB),
        bandwidth=1000.0,
    )
    verdict = Verdict(name, True, "trusted", 7)
    return Host(name, verdict, resources, draw.uniform(1.0, 5.0), draw.uniform(0.3, 0.8), closed)


def _least(draw: random.Random) -> Minima:
    return Minima(
        cpu_cores=draw.choice([0.1, 0.25, 0.5, 1.0]),
        memory=draw.choice([1, 2, 4]) * GIB,
        disk=draw.choice([0, 10]) * GIB,
    )


def _rules(members: list[str]) -> tuple[Rule, ...]:
    a = members
    if len(a) == 8:
        return Atomic((a[0], a[1], a[2])), Dependency(a[3], (a[4], a[5]), "all"), Exclusion((a[6], a[7]))
    return Atomic((a[0], a[1])), Exclusion((a[1], a[2], a[3])), Dependency(a[4], (a[0], a[2]), "any")


def _rtt(a: Point, b: Point) -> float:
    """Milliseconds: 1 and 30 across the plane's side."""
    return 1.0 + 30.0 * ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5

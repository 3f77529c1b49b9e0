"""Eight agents under Falcon's rules on eight servers (the paper's Table 2), decided without any host that runs.

python examples/08_table2.py
"""

from services.eds.planner import PLANNERS
from services.eds.policies.falcon import Falcon
from services.eds.rules import Atomic, Dependency, Exclusion, Group
from services.eds.snapshot import Access, Host, Link, Resident, Snapshot
from services.rms.resources import Minima, Needs, Resources
from services.tms.verdicts import Verdict

GIB = 1024**3
SERVERS = {"a1": 18, "a2": 6, "a3": 9, "b1": 7, "b2": 12, "b3": 5, "c1": 8, "c2": 15}  # milliseconds from the user
AGENTS = {"A": ("A1", "A2", "A3"), "B": ("A4", "A5", "A6"), "C": ("A7", "A8")}  # which type of server each one needs
RULES = (Atomic(AGENTS["A"]), Dependency("A4", ("A5", "A6"), "all"), Exclusion(AGENTS["C"]))


def server(name, free=4, closed=""):
    resources = Resources(
        cpu_free=0.5, cores=8, memory_free=free * GIB, memory_total=8 * GIB, disk_free=100 * GIB, bandwidth=1000.0
    )
    trusted = Verdict(name, True, "a member", 1)
    return Host(name, trusted, resources, 1.0, 0.5, closed, offers=frozenset({f"type {name[0].upper()}"}))


def picture(*more_rules):
    """All eight run on one host, which is being drained. a2 has room for two; A8 is more work than the others."""
    free = {"a1": 4, "a2": 2, "a3": 3}
    hosts = [server(name, free.get(name, 4)) for name in SERVERS] + [server("old", closed="it is being drained")]
    least = Minima(memory=GIB)
    residents = [
        Resident(agent, "old", 0.0, 2.0 if agent == "A8" else 1.0, Needs(least=least, has=(f"type {kind}",)))
        for kind, agents in AGENTS.items()
        for agent in agents
    ]
    group = Group("falcon", tuple(each.agent for each in residents), RULES + more_rules, "user")
    links = tuple(Link("old", name, 2.0, 0.0) for name in SERVERS)
    access = {"user": tuple(Access(name, rtt, 0.0, "emulated") for name, rtt in SERVERS.items())}
    return Snapshot((group,), 1000.0, tuple(hosts), links, tuple(residents), access)


def decide(snapshot, planner):
    return PLANNERS[planner](snapshot, Falcon().offers(snapshot))


if __name__ == "__main__":
    best = decide(picture(), "exact")
    for rule in RULES:
        print(rule.words)
    for move in best.plan.moves:
        print(f"{move.agent} goes to {move.destination}, {SERVERS[move.destination]} ms from the user")
    first = decide(picture(), "greedy")
    print(f"the best plan brings {best.plan.benefit:.2f} after {best.steps} steps")
    print(f"the first one that fits brings {first.plan.benefit:.2f} after {first.steps} steps")
    stuck = decide(picture(Exclusion(("A1", "A2"))), "exact").stuck
    print("with one rule more:", *stuck["falcon"])

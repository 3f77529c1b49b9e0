"""One seeded run: a safety phase in which everything may fail, then a liveness phase in which nothing does."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from ledger.certificate import Certificate, Members
from ledger.consensus.agreement import Agreement
from ledger.consensus.engine import Chain, Engine
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.settings import Settings
from ledger.simulation.adversaries import ADVERSARIES
from ledger.simulation.twins import FastKey, fast_verify, make_members
from ledger.simulation.world import Faults, World

SETTINGS = Settings(max_view_timeout=8.0, checkpoint_every=4)
FAULTY_SECONDS = 20.0
LIVE_SECONDS = 200.0  # by then every honest host has decided every transaction


@dataclass(frozen=True)
class Mutant:
    """A deliberately broken rule, that the simulator must catch."""

    engine: type[Agreement[Any]] = Ipbft
    members: type[Members] = Members


@dataclass(frozen=True)
class Result:
    seed: int
    members: int
    decisions: int  # height of the chain
    view_changes: int  # highest view that an honest host came to
    forks: int
    stalled: bool
    faults: tuple[str, ...]  # what the checkers found, forks and the stall too
    messages: int  # delivered


def run(seed: int, members: int = 4, mutant: Mutant | None = None, adversary: str | None = "any") -> Result:
    """One life of a cluster. `adversary`: a row of ADVERSARIES for f of the members, None, or "any" to draw."""
    random = Random(f"{seed}/{members}")  # noqa: S311  a simulation must be repeatable
    mutant = mutant or Mutant()
    standing = mutant.engine.standing
    everybody = make_members(members, mutant.members)
    hosts = [member.host for member in everybody.members]
    kind = random.choice([None, *ADVERSARIES]) if adversary == "any" else adversary
    byzantine = frozenset(random.sample(hosts, random.randint(1, everybody.f)) if kind and everybody.f else [])

    def make_engine(host: str, chain: Chain, kept: Mapping[str, bytes], certificate: Certificate | None) -> Engine:
        engine = mutant.engine(host, FastKey(host), chain, kept, SETTINGS, certificate, fast_verify)
        return ADVERSARIES[kind](engine, host, everybody, standing) if kind and host in byzantine else engine

    world = World(random, everybody, make_engine, standing.view_change, Faults.draw(random), byzantine)
    transactions = _misfortunes(world, hosts)
    world.run(FAULTY_SECONDS)
    live = _heal(world, hosts, transactions)
    if not live:
        world.checker.faults.append("some honest host has not decided every transaction long after the last fault")
    honest = [world.nodes[host].engine for host in hosts if host not in byzantine]
    return Result(
        seed,
        members,
        world.checker.height,
        max(engine.view for engine in honest if isinstance(engine, Agreement)),
        world.checker.forks,
        not live,
        tuple(world.checker.faults),
        world.delivered,
    )


def _misfortunes(world: World, hosts: list[str]) -> list[bytes]:
    """Boots everybody and lays out the faults and transactions of the safety phase; returns the transactions."""
    random, faults = world.random, world.faults
    for host in hosts:
        world.nodes[host].skew = random.randint(-500, 500)
        world.at(random.uniform(0, 0.5), partial(world.boot, host))
    transactions = [b"transaction %d" % number for number in range(random.randint(5, 30))]
    if len(hosts) > 4 and not world.byzantine:  # the members change; whoever is left out goes on following
        for _ in range(random.randint(0, 3)):
            chosen = random.sample(hosts, random.randint(4, len(hosts)))
            transactions.append(" ".join(["members", *chosen]).encode())
    for transaction in transactions:
        told = hosts if random.random() < 0.5 else random.sample(hosts, random.randint(1, len(hosts)))
        world.at(random.uniform(0, FAULTY_SECONDS), partial(world.submit, transaction, told))
    for time in _times(random, faults.crashes):
        host = random.choice(hosts)
        world.at(time, partial(world.crash, host))
        world.at(time + random.uniform(0.1, 5), partial(world.boot, host))
    for time in _times(random, faults.power_loss):
        for host in hosts:
            world.at(time, partial(world.crash, host))
            world.at(time + random.uniform(0.1, 3), partial(world.boot, host))
    for time in _times(random, faults.partitions):
        side = frozenset(random.sample(hosts, random.randint(1, len(hosts) - 1)))
        world.at(time, partial(world.cut, side, frozenset(hosts) - side))
        world.at(time + random.uniform(0.5, 6), world.cut)
    return transactions


def _times(random: Random, rate: float) -> list[float]:
    return [random.uniform(0, FAULTY_SECONDS) for _ in range(round(rate * FAULTY_SECONDS))]


def _heal(world: World, hosts: list[str], transactions: list[bytes]) -> bool:
    """Whether all honest hosts decide everything, once all are up and connected and the clients have tried again."""
    world.faults = Faults()
    world.cut()
    for host in hosts:
        world.boot(host)
    for transaction in transactions:
        world.submit(transaction, hosts)
    honest = [world.nodes[host] for host in hosts if host not in world.byzantine]

    def live() -> bool:
        return all(
            node.up and node.chain.decided.issuperset(transactions) and len(node.disk.blocks) == world.checker.height
            for node in honest
        )

    end = world.now + LIVE_SECONDS
    while world.now < end and not live():
        world.run(world.now + 0.5)
    return live()

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
from ledger.simulation.byzantine import ADVERSARIES, DOUBLED
from ledger.simulation.faults import WEATHERS, Faults
from ledger.simulation.memory import messages_kept, most_kept
from ledger.simulation.misfortunes import SECONDS, lay_out
from ledger.simulation.twins import FastKey, TwinChain, fast_verify, make_members, new_members
from ledger.simulation.world import World

RETRY = 40.0  # seconds until clients try again: a host that starts with a new key has forgotten what it was told
LIVE_SECONDS = 200.0  # by then every honest host that is up has decided every transaction


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


def run(
    seed: int,
    members: int = 4,
    mutant: Mutant | None = None,
    adversary: str | None = "any",
    weather: str = "any",
    patience: float = LIVE_SECONDS,
) -> Result:
    """One life of a cluster.

    `adversary`: a row of ledger.simulation.byzantine for f of the members at most, None, or "any" to draw.
    `weather`: a row of ledger.simulation.faults.WEATHERS. `patience`: seconds until who does not decide has stalled.
    """
    random = Random(f"{seed}/{members}")  # noqa: S311  a simulation must be repeatable
    mutant = mutant or Mutant()
    standing = mutant.engine.standing
    everybody = make_members(members, mutant.members)
    hosts = [member.host for member in everybody.members]
    kind = random.choice([None, *ADVERSARIES, DOUBLED]) if adversary == "any" else adversary
    byzantine = frozenset(random.sample(hosts, random.randint(1, everybody.f)) if kind and everybody.f else [])
    faults = WEATHERS[weather](random)
    settings = Settings(view_timeout=faults.view_timeout, max_view_timeout=8.0, checkpoint_every=4)

    def make_engine(host: str, chain: Chain, kept: Mapping[str, bytes], certificate: Certificate | None) -> Engine:
        name = chain.key_name(host) if isinstance(chain, TwinChain) else host
        engine = mutant.engine(host, FastKey(name), chain, kept, settings, certificate, fast_verify)
        if host not in byzantine or kind is None or kind == DOUBLED:
            return engine
        return ADVERSARIES[kind](engine, host, everybody, standing)

    doubled = byzantine if kind == DOUBLED else frozenset()
    world = World(random, everybody, make_engine, standing.view_change, faults, byzantine, doubled)
    transactions, weak = lay_out(world, hosts)
    for second in range(1, int(SECONDS)):
        world.at(second, partial(_check_memory, world))
    world.run(SECONDS)
    live = _heal(world, hosts, transactions, weak, patience)
    stalled = not live and not world.checker.forks  # what has forked need not be waited for
    if stalled:
        world.checker.faults.append("some honest host has not decided every transaction long after the last fault")
    honest = [world.nodes[host] for host in hosts if host not in byzantine]
    world.checker.disks(honest)
    _check_memory(world)
    return Result(
        seed,
        members,
        world.checker.height,
        max(node.engine.view for node in honest if isinstance(node.engine, Agreement)),
        world.checker.forks,
        stalled,
        tuple(world.checker.faults),
        world.delivered,
    )


def _heal(world: World, hosts: list[str], transactions: list[bytes], weak: frozenset[str], patience: float) -> bool:
    """Whether all honest hosts decide everything, once they are up and connected and the clients have tried again.

    First without as many as may be faulty, who stay away; then with them.
    """
    faulty = world.byzantine | weak
    spare = 0 if any(map(new_members, transactions)) else world.members.f - len(faulty)
    rest = [host for host in hosts if host not in faulty]
    away = world.random.sample(rest, world.random.randint(0, spare))
    world.faults = Faults(view_timeout=world.faults.view_timeout)
    world.cut()
    for host in away:
        world.crash(host)
    return all(
        _come_to_agree(world, [host for host in hosts if host not in missing], transactions, patience)
        for missing in ([away, []] if away else [[]])
    )


def _come_to_agree(world: World, hosts: list[str], transactions: list[bytes], patience: float) -> bool:
    for host in hosts:
        world.boot(host)
    honest = [world.nodes[host] for host in hosts if host not in world.byzantine]

    def live() -> bool:
        return all(
            node.up and node.chain.decided.issuperset(transactions) and len(node.disk.blocks) == world.checker.height
            for node in honest
        )

    end, submit_at = world.now + patience, world.now
    while world.now < end and not live() and not world.checker.forks:
        if submit_at <= world.now:
            submit_at += RETRY
            for transaction in transactions:
                world.submit(transaction, hosts)
        world.run(world.now + 0.5)
    return live()


def _check_memory(world: World) -> None:
    for host, node in world.nodes.items():
        if node.up and host not in world.byzantine and isinstance(node.engine, Agreement):
            kept, most = messages_kept(node.engine), most_kept(node.engine, len(world.nodes))
            if kept > most:
                world.checker.faults.append(f"{host} keeps {kept} messages in memory; {most} are enough")

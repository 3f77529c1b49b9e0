"""Lays out what happens to a world in the safety phase: boots, clients, crashes, cuts, clocks, backups, members."""

from functools import partial
from random import Random

from ledger.simulation.cuts import SHAPES
from ledger.simulation.node import Disk
from ledger.simulation.world import World

SECONDS = 20.0
SKEW = 500  # milliseconds that an honest clock is wrong at most
BAD_SKEW = 30_000  # of one whose host counts as faulty: beyond the allowed drift


def lay_out(world: World, hosts: list[str]) -> tuple[list[bytes], frozenset[str]]:
    """Everything is drawn now and happens later. The clients' transactions; and the hosts that are faulty without
    being Byzantine (an old copy of the data, a bad clock). There are f faulty ones at most, of either kind."""
    random = world.random
    for host in hosts:
        for node in world.copies(host):
            node.skew = random.randint(-SKEW, SKEW)
        world.at(random.uniform(0, 0.5), partial(world.boot, host))
    changes = _changes_of_members(world, hosts) if len(hosts) > 4 and random.random() < 0.7 else []
    spare = 0 if changes else world.members.f - len(world.byzantine)
    weak = frozenset(random.sample([host for host in hosts if host not in world.byzantine], random.randint(0, spare)))
    for host in sorted(weak):
        if random.random() < 0.5:
            world.nodes[host].skew = random.choice((-BAD_SKEW, BAD_SKEW))
        else:
            _old_backup(world, host, hosts)
    count = random.randint(5, world.faults.transactions)
    transactions = [b"transaction %d" % number for number in range(count)] + changes
    for transaction in transactions:
        told = hosts if random.random() < 0.5 else random.sample(hosts, random.randint(1, len(hosts)))
        world.at(random.uniform(0, SECONDS), partial(world.submit, transaction, told))
    _crashes(world, hosts)
    for time in _times(random, world.faults.cuts):
        links = random.choice(SHAPES)(hosts, random)
        world.at(time, partial(world.cut_links, links))
        world.at(time + random.uniform(0.2, 5), partial(world.mend, links))
    for time in _times(random, world.faults.jumps):
        host = random.choice(hosts)
        if host not in weak:
            world.at(time, partial(setattr, world.nodes[host], "skew", random.randint(-SKEW, SKEW)))
    for time in _times(random, 1.0) if world.doubled else []:
        world.at(time, partial(_separate, world, hosts))
    return transactions, weak


def _changes_of_members(world: World, hosts: list[str]) -> list[bytes]:
    """Whoever is left out goes on following, and may come back; honest hosts may rotate their keys."""
    random = world.random
    keys = {host: host for host in hosts}
    changes: list[bytes] = []
    for number in range(random.randint(1, 3)):
        chosen = random.sample(hosts, random.randint(4, len(hosts)))
        if sum(host in world.byzantine for host in chosen) > (len(chosen) - 1) // 3:
            continue
        rotated = random.choice(hosts)
        if rotated not in world.byzantine and random.random() < 0.5:
            keys[rotated] = f"{rotated}={number}"
        changes.append(" ".join(["members", *(keys[host] for host in chosen)]).encode())
    return changes


def _crashes(world: World, hosts: list[str]) -> None:
    random, faults = world.random, world.faults
    for time in _times(random, faults.crashes):
        _down(world, time, [random.choice(hosts)], 5)
    for time in _times(random, faults.crowds):
        _down(world, time, random.sample(hosts, world.members.f + 1), 5)
    for time in _times(random, faults.power_loss):
        _down(world, time, hosts, 3)
    for time in _times(random, faults.loops):
        host = random.choice(hosts)
        for again in range(random.randint(3, 12)):
            world.at(time + again * 0.3, partial(world.restart, host))


def _down(world: World, time: float, hosts: list[str], longest: float) -> None:
    for host in hosts:
        world.at(time, partial(world.crash, host))
        world.at(time + world.random.uniform(0.1, longest), partial(world.boot, host))


def _old_backup(world: World, host: str, hosts: list[str]) -> None:
    """It is set back to what its disk had a while ago; now and then the power fails for the others just then."""
    random = world.random
    copies: list[Disk] = []
    moment = random.uniform(1, SECONDS)
    world.at(moment - random.uniform(0, 1), lambda: copies.append(world.nodes[host].disk.copy()))
    world.at(moment, lambda: world.restore(host, copies[0]))
    if random.random() < 0.3:
        _down(world, moment, [other for other in hosts if other != host], 3)


def _separate(world: World, hosts: list[str]) -> None:
    """Who talks to which of the two that have one key."""
    half = [host for host in hosts if world.random.random() < 0.5]
    world.audiences = {host: frozenset(half) for host in world.doubled}


def _times(random: Random, rate: float) -> list[float]:
    return [random.uniform(0, SECONDS) for _ in range(round(rate * SECONDS))]

"""Random lives of whole replicas: the production store on a disk that loses what was not synced, requests, sync, links.

In virtual time, so that a seed gives the same life again. ledger.simulation has many more lives, of the engine alone.
"""

import asyncio
import gc
from collections.abc import Iterator
from random import Random

import pytest

from tests.helpers.founders import NAMES, genesis
from tests.helpers.ledger_power import WAYS, Fault, Powered
from tests.helpers.powered_disk import EarlyDisk, PoweredDisk
from tests.helpers.virtual_loop import run

STEPS = 12


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    gc.collect()


def at_a_write(cluster: Powered, hosts: list[str], random: Random) -> Fault:
    """They fail together, at one of the next writes of any of them."""
    done = sum(cluster.writes[host] for host in hosts)
    return Fault(tuple(hosts), done + random.randint(0, 12), random.choice(WAYS))


async def misfortune(cluster: Powered, random: Random) -> None:
    """Some are to fail, at any moment of a decision, or some links are down for a while, or break once."""
    hosts = list(cluster.disks)
    match random.choice(("power", "power", "all", "host", "links", "reset")):
        case "power":
            cluster.fault = at_a_write(cluster, random.sample(hosts, random.randint(1, 2)), random)
        case "all":
            cluster.fault = at_a_write(cluster, hosts, random)
        case "host":
            host = random.choice(hosts)
            cluster.cut_off(host)
            await asyncio.sleep(random.uniform(0.1, 2))
            cluster.join_again(host)
        case "links":
            pairs = [(one, other) for one in hosts for other in hosts if one < other]
            chosen = random.sample(pairs, random.randint(1, len(pairs)))
            for pair in chosen:
                cluster.hub.cut(*pair)
            await asyncio.sleep(random.uniform(0.1, 2))
            for pair in chosen:
                cluster.hub.heal(*pair)
        case "reset":
            cluster.hub.reset(*random.sample(hosts, 2))
    await asyncio.sleep(random.uniform(0, 0.3))


def live(seed: int, size: int = 4, disk: type[PoweredDisk] = PoweredDisk) -> Powered:
    """Clients pay all the while. At the end there is one chain, and all that was acknowledged is in it."""
    random = Random(f"replicas {seed}")  # noqa: S311  repeatable

    async def trouble(cluster: Powered) -> None:
        for _ in range(STEPS):
            await misfortune(cluster, random)

    async def pay(cluster: Powered, caller: str) -> None:
        for _ in range(6):
            await cluster.pay(caller)
            await asyncio.sleep(random.uniform(0, 0.5))

    async def told() -> Powered:
        async with Powered(genesis(size), seed, disk=disk) as cluster:
            await asyncio.gather(trouble(cluster), *(pay(cluster, caller) for caller in NAMES[:2]))
            await cluster.pay()
            await cluster.all_agree()
            await cluster.judge()
        return cluster

    return run(told())


@pytest.mark.parametrize("seed", range(6))
def test_a_random_life_of_whole_replicas(seed: int) -> None:
    cluster = live(seed)
    assert cluster.falls > 0 and len(cluster.acknowledged) > 0


def test_a_seed_gives_the_same_life_again() -> None:
    first, again = live(1), live(1)
    assert (first.falls, first.acknowledged, first.writes) == (again.falls, again.acknowledged, again.writes)


def test_a_disk_that_says_too_early_that_it_has_written_is_caught() -> None:
    with pytest.raises((AssertionError, TimeoutError)):
        for seed in range(20):
            live(seed, disk=EarlyDisk)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [4, 5, 7])
def test_many_random_lives_of_whole_replicas(size: int) -> None:
    for seed in range(100, 180):
        try:
            live(seed, size)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"seed {seed}, {size} members: {error!r}") from error

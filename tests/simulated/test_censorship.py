"""A primary that decides everything but what it does not like; and honest ones that must not be taken for it."""

from collections.abc import Mapping, Sequence
from random import Random

import pytest

from ledger.certificate import Certificate
from ledger.consensus.agreement import Agreement
from ledger.consensus.engine import Chain, Engine
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.pbft import Pbft
from ledger.consensus.settings import Settings
from ledger.simulation.faults import Faults
from ledger.simulation.primaries import Censor
from ledger.simulation.twins import BLOCK_TRANSACTIONS, FastKey, TwinChain, fast_verify, make_members
from ledger.simulation.world import World

VICTIM = b"victim 1"  # a Censor leaves it out: its bytes have an odd sum


class LooksAway(Ipbft):
    """Suspects only who decides nothing."""

    def _look(self) -> None:
        self._timers.look_at = None


def make_world(n: int, censors: Sequence[str] = (), engine: type[Agreement] = Ipbft) -> World:  # type: ignore[type-arg]
    members = make_members(n)

    def make(host: str, chain: Chain, kept: Mapping[str, bytes], certificate: Certificate | None) -> Engine:
        honest = engine(host, FastKey(host), chain, kept, Settings(checkpoint_every=4), certificate, fast_verify)
        return Censor(honest, host, members, engine.standing) if host in censors else honest

    world = World(Random(n), members, make, engine.standing.view_change, Faults(), frozenset(censors))  # noqa: S311
    for host in world.nodes:
        world.boot(host)
    return world


def pleasing(number: int) -> bytes:
    """A transaction that a Censor puts into blocks."""
    word = b"%d" % number
    return word if sum(word) % 2 == 0 else word + b"!"


def traffic(world: World, seconds: float, a_second: float, hosts: Sequence[str] = ()) -> None:
    """Clients send all the while, to all hosts or to some."""
    for number in range(int(seconds * a_second)):
        world.at(number / a_second, lambda number=number: world.submit(pleasing(number), list(hosts or world.nodes)))


def heard(world: World, host: str, seconds: float) -> float | None:
    """When `host` had decided the victim's transaction."""
    while world.now < seconds:
        world.run(world.now + 0.1)
        if VICTIM in world.nodes[host].chain.decided:
            return world.now
    return None


def views(world: World) -> set[int]:
    return {node.engine.view for node in world.nodes.values() if isinstance(node.engine, Agreement)}


@pytest.mark.parametrize("a_second", [0.7, 5])
@pytest.mark.parametrize("engine", [Ipbft, Pbft])
def test_a_censoring_primary_is_replaced_while_it_decides_all_else(engine: type[Agreement], a_second: float) -> None:  # type: ignore[type-arg]
    world = make_world(4, ["host0"], engine)
    traffic(world, 30, a_second)
    world.at(1, lambda: world.submit(VICTIM, list(world.nodes)))
    at = heard(world, "host3", 20)
    assert at is not None and at < (10 if a_second == 5 else 20)
    assert world.checker.faults == []


def test_two_censors_in_turn_are_replaced() -> None:
    world = make_world(7, ["host0", "host1"])
    traffic(world, 40, 5)
    world.at(1, lambda: world.submit(VICTIM, list(world.nodes)))
    assert heard(world, "host6", 30) is not None


def test_without_the_rule_it_waits_for_ever() -> None:
    world = make_world(4, ["host0"], LooksAway)
    traffic(world, 30, 5)
    world.at(1, lambda: world.submit(VICTIM, list(world.nodes)))
    assert heard(world, "host3", 30) is None
    assert views(world) == {0}


@pytest.mark.parametrize("told", [["host3"], ["host1", "host2", "host3"]])
def test_a_client_that_skips_the_primary_of_a_busy_chain_is_served_and_frames_nobody(told: list[str]) -> None:
    world = make_world(4)
    traffic(world, 20, 20)
    world.at(1, lambda: world.submit(VICTIM, told))
    assert heard(world, "host0", 10) is not None
    world.run(20)
    assert views(world) == {0}


def overload(flooded: Sequence[str]) -> World:
    """More than a chain can do, for 12 s; the victim comes to the others in the middle of it."""
    world = make_world(4)
    traffic(world, 12, 600, flooded)
    world.at(6, lambda: world.submit(VICTIM, ["host1", "host2", "host3"]))
    world.run(12)
    assert len(world.nodes["host0"].chain.waiting) > 100 * BLOCK_TRANSACTIONS
    return world


@pytest.mark.parametrize("flooded", [["host0"], ["host0", "host1", "host2", "host3"]])
def test_an_honest_primary_with_more_than_it_can_do_is_left_in_peace(flooded: list[str]) -> None:
    """Those who flood the primary alone, so that its blocks are full, do not frame it either."""
    world = overload(flooded)
    assert VICTIM not in world.nodes["host0"].chain.decided
    assert views(world) == {0}
    assert heard(world, "host3", 60) is not None
    assert views(world) == {0}


def test_if_full_blocks_counted_it_would_be_framed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TwinChain, "has_room", lambda *_: True)
    assert views(overload(["host0"])) != {0}

"""Lives of whole clusters, by seed. A failing one is repeated with `run(seed, members)`."""

from functools import partial
from random import Random

import pytest

from ledger.consensus.ipbft import Ipbft
from ledger.consensus.ipbft.view_change import ViewChange
from ledger.consensus.pbft import Pbft
from ledger.consensus.settings import Settings
from ledger.simulation import Mutant, run
from ledger.simulation.byzantine import ADVERSARIES, DOUBLED
from ledger.simulation.faults import WEATHERS, Faults
from ledger.simulation.twins import FastKey, fast_verify, make_members
from ledger.simulation.world import World
from tests.helpers.ipbft_killed import KILLED
from tests.helpers.ipbft_mutants import mutant

SIZES = (4, 5, 7)
LIARS = [*ADVERSARIES, DOUBLED]


def make_world(n: int, faults: Faults | None = None) -> World:
    def engine(host, chain, kept, certificate):  # type: ignore[no-untyped-def]
        return Ipbft(host, FastKey(host), chain, kept, Settings(), certificate, fast_verify)

    world = World(Random(n), make_members(n), engine, ViewChange, faults or Faults())  # noqa: S311  repeatable
    for host in world.nodes:
        world.boot(host)
    return world


def heights(world: World) -> list[int]:
    return [len(node.disk.blocks) for node in world.nodes.values() if node.up]


def decided_everywhere(world: World, transaction: bytes) -> bool:
    return all(transaction in node.chain.decided for node in world.nodes.values() if node.up)


@pytest.mark.parametrize("members", SIZES)
def test_random_lives_are_safe_and_live(members: int) -> None:
    for seed in range(15):
        result = run(seed, members)
        assert result.faults == (), result


@pytest.mark.parametrize("members", SIZES)
def test_random_lives_of_the_baseline_are_safe_and_live(members: int) -> None:
    for seed in range(15):
        result = run(seed, members, Mutant(engine=Pbft))
        assert result.faults == (), result


@pytest.mark.parametrize("kind", LIARS)
def test_f_byzantine_members_break_nothing_of_the_baseline(kind: str) -> None:
    for members in SIZES:
        result = run(0, members, Mutant(engine=Pbft), adversary=kind)
        assert result.faults == (), result


@pytest.mark.parametrize("kind", LIARS)
def test_f_byzantine_members_break_nothing(kind: str) -> None:
    for seed in range(3):
        for members in SIZES:
            result = run(seed, members, adversary=kind)
            assert result.faults == (), result


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("members", "lives"), [(4, 500), (5, 400), (7, 150), (10, 40), (16, 10)])
@pytest.mark.parametrize("engine", [Ipbft, Pbft])
def test_many_random_lives(members: int, lives: int, engine: type[Ipbft] | type[Pbft]) -> None:
    for seed in range(1000, 1000 + lives):
        result = run(seed, members, Mutant(engine=engine))
        assert result.faults == (), result


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [None, *LIARS])
def test_the_weathers_that_kill_mutants_do_the_rule_no_harm(kind: str | None) -> None:
    for members, lives in ((4, 20), (5, 10), (7, 4)):
        for weather in WEATHERS:
            for seed in range(2000, 2000 + lives):
                result = run(seed, members, adversary=kind, weather=weather)
                assert result.faults == (), (weather, result)


def test_a_seed_gives_the_same_life_again() -> None:
    assert run(7, 5) == run(7, 5)


def found(name: str, first: int) -> bool:
    """Whether the search finds the mutant within its budget."""
    search = KILLED[name].search
    with mutant(name) as broken:
        *_, last = search.lives(broken, first)
    print(f"{name}: seed {last.seed}, {last.seed - first + 1} of {search.seeds} lives: {last.faults[:2]}")
    return any(search.shows in fault for fault in last.faults)


@pytest.mark.parametrize("name", [name for name, killed in KILLED.items() if killed.search.quick])
def test_random_lives_catch_the_mutant(name: str) -> None:
    assert found(name, first=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", KILLED)
def test_random_lives_catch_every_mutant_within_their_budget(name: str) -> None:
    assert found(name, first=10_000)  # not the seeds that its weather was chosen with


def test_a_cluster_that_cannot_decide_is_seen_to_stall() -> None:
    class Deaf(Ipbft):
        def _commit(self) -> bool:
            return False

    result = run(0, 4, Mutant(engine=Deaf), adversary=None)
    assert result.stalled and result.faults


@pytest.mark.parametrize("n", SIZES)
def test_the_primary_is_killed(n: int) -> None:
    world = make_world(n)
    world.submit(b"before", list(world.nodes))
    world.run(1)
    world.crash("host0")
    world.submit(b"after", list(world.nodes))
    world.run(15)
    assert decided_everywhere(world, b"after")
    world.boot("host0")
    world.run(20)
    assert decided_everywhere(world, b"after")
    assert len(set(heights(world))) == 1
    assert world.checker.faults == []


@pytest.mark.parametrize("n", SIZES)
def test_power_fails_for_all_at_once_in_mid_decision(n: int) -> None:
    for moment in range(12):  # steps of the decision: some replicas have prepared, committed, decided
        world = make_world(n)
        world.run(0.5)
        world.submit(b"one", list(world.nodes))
        world.run(0.5 + moment * 0.002)
        for host in world.nodes:
            world.crash(host)
        world.run(2)
        for host in world.nodes:
            world.boot(host)
        world.submit(b"one", list(world.nodes))
        world.submit(b"two", list(world.nodes))
        world.run(20)
        assert decided_everywhere(world, b"one") and decided_everywhere(world, b"two"), moment
        assert world.checker.faults == []


@pytest.mark.parametrize("n", SIZES)
def test_a_minority_is_cut_off_and_comes_back(n: int) -> None:
    world = make_world(n)
    hosts = list(world.nodes)
    f = make_members(n).f
    minority, majority = frozenset(hosts[:f]), frozenset(hosts[f:])  # the primary among the few
    world.cut(minority, majority)
    for number in range(5):
        world.submit(b"few %d" % number, sorted(minority))
        world.submit(b"many %d" % number, sorted(majority))
        world.run(world.now + 5)
    assert {len(world.nodes[host].disk.blocks) for host in minority} == {0}
    assert all(b"many 4" in world.nodes[host].chain.decided for host in majority)
    world.cut()
    world.run(world.now + 40)
    assert all(decided_everywhere(world, b"few %d" % number) for number in range(5))
    assert world.checker.faults == []


def test_no_quorum_decides_nothing_and_goes_on_when_healed() -> None:
    world = make_world(4)
    world.cut(frozenset({"host0", "host1"}), frozenset({"host2", "host3"}))
    world.submit(b"one", list(world.nodes))
    world.run(300)
    assert heights(world) == [0, 0, 0, 0]
    assert max(node.engine.view for node in world.nodes.values() if isinstance(node.engine, Ipbft)) <= 2
    world.cut()
    world.run(310)
    assert decided_everywhere(world, b"one")


def test_a_long_absence_is_made_up_for_in_batches() -> None:
    world = make_world(4)
    world.crash("host3")
    for number in range(200):
        world.at(1 + number / 20, partial(world.submit, b"%d" % number, ["host0", "host1", "host2"]))
    world.run(15)
    assert heights(world)[0] > 2 * Settings().batch
    world.boot("host3")
    world.run(18)
    assert len(set(heights(world))) == 1
    assert world.checker.faults == []


def test_a_client_that_tells_one_replica_only_frames_nobody() -> None:
    world = make_world(4)
    world.submit(b"one", ["host2"])
    world.run(2)
    assert decided_everywhere(world, b"one")
    assert {node.engine.view for node in world.nodes.values() if isinstance(node.engine, Ipbft)} == {0}


def test_an_idle_chain_is_quiet() -> None:
    world = make_world(4)
    world.run(10)
    before = world.delivered
    world.run(110)
    assert world.delivered - before <= 4 * 3 * 100  # one message a second to each peer at most
    assert heights(world) == [0, 0, 0, 0]

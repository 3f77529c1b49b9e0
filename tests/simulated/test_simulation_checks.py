"""Each check of the simulator finds the engine, disk or network that it is for; and each shape of cut can heal."""

from collections.abc import Callable, Sequence
from random import Random
from unittest.mock import patch

import msgspec
import pytest

from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN
from ledger.consensus.engine import Effect, Send
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.ipbft.view_change import ViewChange
from ledger.consensus.messages import Vote, encode
from ledger.consensus.settings import Settings
from ledger.simulation.cuts import SHAPES, Link
from ledger.simulation.memory import messages_kept, most_kept
from ledger.simulation.node import Disk
from ledger.simulation.twins import FastKey, fast_verify, make_members
from ledger.simulation.world import WALL, World

HOSTS = ["host0", "host1", "host2", "host3"]


def make_world(engine: type[Ipbft] = Ipbft, disk: type[Disk] = Disk, n: int = 4, doubled: str = "") -> World:
    def make(host, chain, kept, certificate):  # type: ignore[no-untyped-def]
        return engine(host, FastKey(host), chain, kept, Settings(), certificate, fast_verify)

    byzantine = frozenset([doubled] if doubled else [])
    world = World(Random(n), make_members(n), make, ViewChange, byzantine=byzantine, doubled=byzantine)  # noqa: S311
    for node in world.nodes.values():
        node.disk = disk()
    for host in world.nodes:
        world.boot(host)
    return world


def has(world: World, words: str) -> bool:
    return any(words in fault for fault in world.checker.faults)


class Amnesiac(Disk):
    """Loses what it said that it had."""

    def crash(self, random: Random) -> list:
        self.blocks.clear()
        self.kept.clear()
        return super().crash(random)


@pytest.mark.parametrize("disk", [Disk, Amnesiac])
def test_a_disk_that_loses_what_was_synced_is_caught(disk: type[Disk]) -> None:
    world = make_world(disk=disk)
    world.submit(b"one", HOSTS)
    world.run(1)
    for host in HOSTS:
        world.crash(host)
        world.boot(host)
    world.submit(b"two", HOSTS)
    world.run(10)
    world.checker.disks(world.nodes.values())
    for words in (
        "decided another block 1",
        "lacks b'one', which was acknowledged",
        "another block 1 on its disk",
    ):
        assert has(world, words) == (disk is Amnesiac), words
    assert bool(world.checker.faults) == (disk is Amnesiac)


def test_a_replica_that_lacks_the_end_is_caught() -> None:
    world = make_world()
    world.submit(b"one", HOSTS)
    world.run(1)
    world.nodes["host2"].disk.blocks.pop()
    world.checker.disks(world.nodes.values())
    assert world.checker.faults == ["host2 lacks what was acknowledged above 0"]


def flooded() -> Ipbft:
    """A member votes for everything, everywhere."""
    engine = make_world().nodes["host0"].engine
    assert isinstance(engine, Ipbft)
    for number in range(3000):
        ballot = engine._at.ballot((PREPARE, COMMIT)[number % 2], number // 8 % 300, b"%032d" % number)
        ballot = msgspec.structs.replace(ballot, height=1 + number % 8 // 2)
        vote = Vote(ballot, FastKey("host3").sign(VOTE_DOMAIN, ballot.encode()))
        engine.message("host3", encode(vote), 0.0, WALL)
    return engine


def test_little_is_kept_of_what_a_member_sends() -> None:
    engine = flooded()
    assert 0 < messages_kept(engine) <= most_kept(engine, hosts=1)


@pytest.mark.parametrize("limit", ["held.VOTES", "normal_case.VIEW_WINDOW"])
def test_one_that_keeps_it_all_is_caught(limit: str) -> None:
    with patch(f"ledger.consensus.{limit}", 10**6):
        engine = flooded()
    assert messages_kept(engine) > most_kept(engine, hosts=1)


class Fragile(Ipbft):
    def command(self, transactions: Sequence[bytes], now: float, wall: int) -> list[Effect]:
        raise KeyError("a bug")


class Slanderer(Ipbft):
    """Signs its PREPAREs badly."""

    def tick(self, now: float, wall: int) -> list[Effect]:
        vote = Vote(self._at.ballot(PREPARE, self._at.view, bytes(32)), b"bad")
        return [*super().tick(now, wall), Send(None, encode(vote))]


@pytest.mark.parametrize(("engine", "words"), [(Fragile, "fell: KeyError"), (Slanderer, "blames an honest host")])
def test_an_engine_that_falls_or_is_blamed_is_caught(engine: type[Ipbft], words: str) -> None:
    world = make_world(engine)
    world.submit(b"one", HOSTS)
    world.run(5)
    assert has(world, words)


def test_two_copies_under_one_key_harm_nobody_and_more_than_f_do() -> None:
    def life(doubles: list[str]) -> World:
        world = make_world(doubled=doubles[0])
        world.byzantine = world.doubled = frozenset(doubles)
        world.__post_init__()
        for host in HOSTS:
            world.boot(host)
        world.nodes["host0"].skew = 1  # so they propose two blocks
        world.audiences = {host: frozenset({"host3"}) for host in doubles}
        world.submit(b"one", HOSTS)
        world.run(30)
        return world

    assert life(["host0"]).checker.faults == []
    assert life(["host0", "host1"]).checker.forks


# Networks


def heals(world: World, links: frozenset[Link]) -> None:
    world.submit(b"before", HOSTS)
    world.run(1)
    world.cut_links(links)
    world.submit(b"during", HOSTS)
    world.run(20)
    world.mend(links)
    world.submit(b"after", HOSTS)
    world.run(60)
    assert all(node.chain.decided >= {b"before", b"during", b"after"} for node in world.nodes.values())
    assert world.checker.faults == []


@pytest.mark.parametrize("shape", dict.fromkeys(SHAPES))
def test_every_shape_of_cut_heals(shape: Callable[[list[str], Random], frozenset[Link]]) -> None:
    for seed in range(6):
        heals(make_world(), shape(HOSTS, Random(seed)))  # noqa: S311


@pytest.mark.parametrize("way", ["hears nobody", "is heard by nobody", "is the only one that is linked"])
def test_the_primarys_links_are_cut_in_one_way_and_healed(way: str) -> None:
    others = HOSTS[1:]
    links = {
        "hears nobody": [(other, "host0") for other in others],
        "is heard by nobody": [("host0", other) for other in others],
        "is the only one that is linked": [(one, other) for one in others for other in others if one != other],
    }[way]
    world = make_world()
    heals(world, frozenset(links))


def test_f_plus_1_are_down_and_come_back() -> None:
    world = make_world()
    world.submit(b"one", HOSTS)
    world.run(1)
    world.crash("host0")
    world.crash("host2")
    world.submit(b"two", HOSTS)
    world.run(60)
    assert [len(node.disk.blocks) for node in world.nodes.values()] == [1, 1, 1, 1]
    for host in ("host0", "host2"):
        world.boot(host)
    world.run(90)
    assert all(b"two" in node.chain.decided for node in world.nodes.values())
    assert world.checker.faults == []


def test_one_way_is_no_two_ways() -> None:
    world = make_world()
    world.cut_links(frozenset(("host3", other) for other in HOSTS))  # it hears, and nobody hears it
    world.submit(b"one", HOSTS[:3])
    world.run(5)
    assert all(b"one" in node.chain.decided for node in world.nodes.values())
    world.submit(b"two", ["host3"])
    world.run(10)
    assert not any(b"two" in node.chain.decided for node in world.nodes.values())

"""A disk that runs full at every point of a hop: nothing is told that is not written, and with room all goes on.

The hop, and what must hold in the end, are those of test_carry_faults.
"""

import itertools
from collections.abc import Callable

import pytest

from ledger.errors import Unavailable
from ledger.memory_disk import MemoryDatabase
from ledger.sqlite import Schema
from tests.helpers import edge_ground
from tests.helpers.edge_ground import HeldDisk
from tests.helpers.edge_world import World
from tests.simulated.test_carry_faults import at_every_point, hop_with

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
SEEDS = (0, 1, 2)


def full(host: str) -> Callable[[World], None]:
    return lambda world: world.disks[host].fill()


def full_and_lost(host: str, after: int) -> Callable[[World], None]:
    """The power goes so many events later: what waited was not written."""

    def fault(world: World) -> None:
        world.disks[host].fill()
        world.plans[world.index + after, "after"] = lambda: world.crash(host)

    return fault


@pytest.mark.parametrize("host", ["a", "b"])
async def test_a_full_disk_at_some_points(host: str) -> None:
    events = await hop_with(None, 0, "before", 0)
    for at in range(1, events, 4):
        await hop_with(full(host), at, "before", 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_full_disks_at_every_point(seed: int) -> None:
    def both(world: World) -> None:
        world.disks["a"].fill()
        world.disks["b"].fill()

    await at_every_point(full("a"), full("b"), both, seeds=(seed,))


@pytest.mark.slow
@pytest.mark.parametrize("host", ["a", "b"])
async def test_a_full_disk_and_a_loss_of_power_at_every_point(host: str) -> None:
    await at_every_point(full_and_lost(host, 1), full_and_lost(host, 3))


async def test_nothing_leaves_while_it_is_full_and_all_goes_on_afterwards(world: World) -> None:
    x = await world.create("a", "x")
    assert (await world.until(world["a"].ask(x, "note", 1))).ok
    inside = world["a"].ask(x, "note", 2)
    await world.settle()  # it is with the agent; what comes of it is not written
    world.disks["a"].fill()
    outside = world["b"].ask(x, "note", 3)
    await world.crank()
    world["a"].remind()
    await world.crank()
    assert not inside.done() and not outside.done()
    assert world["a"].state(x)["handled"] == [1, 2]  # no more messages: what it does could not be written
    with pytest.raises(Unavailable, match="takes no new agents: the disk is full"):
        await world.create("a", "new")
    y = await world.create("b", "y")
    with pytest.raises(Unavailable, match="a has no room: the disk is full"):
        await world.until(world["b"].depart([y], "a"))
    world.disks["a"].make_room()
    await world.crank()
    assert inside.result().ok and outside.result().ok
    assert world["a"].state(x)["handled"] == [1, 2, 3]
    assert (await world.until(world["b"].depart([y], "a"))).destination == "a"
    await world.create("a", "new")


class Lying(HeldDisk):
    """A broken twin: when it is full it says that all is written."""

    async def open(self, name: str, schema: Schema) -> MemoryDatabase:
        database = await super().open(name, schema)
        honest = database.sync

        def sync() -> None:
            if self.room.full is None:
                honest()
                return
            waiting, database._waiting = database._waiting, []
            for future, rows in waiting:
                future.set_result(rows)

        database.sync = sync  # type: ignore[method-assign]
        return database

    def dirty(self) -> bool:
        return any(database._waiting for database in self._open.values())


@pytest.mark.parametrize("host", ["a", "b"])
async def test_a_disk_that_lets_answers_out_is_found(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_ground, "HeldDisk", Lying)
    with pytest.raises(AssertionError):
        for at, after in itertools.product(range(20), (3, 6)):
            await hop_with(full_and_lost(host, after), at, "before", 0)
    assert await hop_with(None, 0, "before", 0)  # it lies only then

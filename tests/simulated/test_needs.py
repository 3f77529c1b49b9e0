"""What agents need, at the edge of the handoff: it travels with them, and two of them never get the same memory."""

import asyncio

import pytest

from agentplatform.messages import Checkpoint, Requires
from ledger.errors import Unavailable
from services.rms.reservations import Reservations
from services.rms.resources import Minima, Needs
from tests.helpers.edge_scenes import GIB, resources
from tests.helpers.edge_world import World
from tests.unit.test_reservations import Forgetful

pytestmark = pytest.mark.usefixtures("no_errors")
pytest_plugins = "tests.helpers.edge_fixtures"
NEEDS = Requires(Needs(least=Minima(memory=3 * GIB)), 2.0)


async def town(kind: type[Reservations] = Reservations) -> tuple[World, str, str]:
    """x on a and y on b, which both need most of the memory of c."""
    world = World("a", "b", "c")
    await world.boot()
    world["c"].free, world["c"].reservations = resources(memory_free=4 * GIB), kind()
    x, y = await world.create("a", "x"), await world.create("b", "y")
    for host, agent in (("a", x), ("b", y)):
        world[host].checkpointed(agent, Checkpoint(None, (), (), requires=NEEDS))
    await world.crank()
    return world, x, y


async def race(world: World, x: str, y: str) -> list[str]:
    """Both go to c at once; why those that stayed did."""
    moves = [world["a"].depart([x], "c"), world["b"].depart([y], "c")]
    await world.crank()
    return [str(each) for each in await asyncio.gather(*moves, return_exceptions=True) if isinstance(each, Exception)]


async def test_of_two_groups_that_race_for_the_last_memory_one_gets_it_and_the_other_stays() -> None:
    world, x, y = await town()
    (refused,) = await race(world, x, y)
    assert sorted((world.holder(x), world.holder(y))) in (["a", "c"], ["b", "c"])
    assert "c has no room: memory: 3221225" in refused  # and what their states take
    assert f"reserved for {'x' if world.holder(x) == 'c' else 'y'}" in refused  # both are of one owner
    stays, host = (y, "b") if world.holder(x) == "c" else (x, "a")
    (reason,) = world[host].state(stays)["failed"]
    assert "c has no room" in reason
    assert (await world.until(world["a"].ask(stays, "note", 1))).ok
    world.close()


async def test_a_host_that_does_not_count_what_it_promised_gives_it_twice() -> None:
    world, x, y = await town(Forgetful)
    assert await race(world, x, y) == []
    assert world.holder(x) == world.holder(y) == "c"
    world.close()


async def test_what_was_reserved_for_an_agent_that_does_not_come_is_free_again() -> None:
    world, x, y = await town()
    world.refuses["c"][x] = "c has no module 'cv2'"
    with pytest.raises(Unavailable, match="cv2"):
        await world.until(world["a"].depart([x], "c"))
    await world.until(world["b"].depart([y], "c"))
    assert world.holder(y) == "c"
    world.close()


async def test_an_abort_frees_what_the_destination_had_reserved() -> None:
    world, x, y = await town()
    leaving = world["a"].depart([x], "c")
    while not world["c"].reservations._kept:
        await world.turn()
    world.hub.cut("a", "c")
    with pytest.raises(Unavailable, match="the link to c was lost"):
        await world.until(leaving)
    with pytest.raises(Unavailable, match="reserved for x"):  # c has not heard of the abort
        await world.until(world["b"].depart([y], "c"))
    await world.heal()
    world["c"].remind()
    await world.crank()
    await world.until(world["b"].depart([y], "c"))
    assert (world.holder(x), world.holder(y)) == ("a", "c")
    world.close()


async def test_a_host_that_was_killed_has_promised_nothing() -> None:
    world, x, y = await town()
    leaving = world["a"].depart([x], "c")
    while not world["c"].reservations._kept:
        await world.turn()
    world.crash("c")
    await world.boot("c")
    assert world["c"].reservations._kept == {}
    world["c"].free = resources(memory_free=4 * GIB)
    with pytest.raises(Unavailable):
        await world.until(leaving)
    await world.until(world["b"].depart([y], "c"))
    assert (world.holder(x), world.holder(y)) == ("a", "c")
    world.close()


async def test_what_an_agent_needs_travels_with_it_and_outlives_its_host() -> None:
    world, x, _ = await town()
    assert world["a"].mailroom.requires(x) == NEEDS
    await world.until(world["a"].depart([x], "c"))
    assert world["c"].mailroom.requires(x) == NEEDS and world["a"].mailroom.requires(x) == Requires(Needs())
    world.crash("c")
    await world.boot("c")
    assert world["c"].mailroom.requires(x) == NEEDS
    world.close()

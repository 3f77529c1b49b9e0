"""A letter to a name that nobody is known to have waits like one to an id, and is handled once when somebody has it."""

from collections.abc import Callable

import pytest

from agentplatform.mailroom.addressing import Addressing
from ledger.links.base import Channel
from tests.helpers.edge_world import World

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")


async def deaf(**kinds: object) -> tuple[World, str, str, Callable[[], None]]:
    """x lives on a, and y on b, of which a has not heard. What is returned last lets it hear."""
    world = World("a", "b", "c", **kinds)
    await world.boot()
    drops = world.hub.drops
    world.hub.drops = lambda source, target, channel, message: channel is Channel.ADVERT and target == "a"
    x, y = await world.create("a", "x"), await world.create("b", "y")

    def hear() -> None:
        world.hub.drops = drops
        world.hub.cut("a", "b")
        world.hub.heal("a", "b")  # a link that comes up tells where all are

    return world, x, y, hear


async def told(world: World, host: str, agent: str, *order: object) -> None:
    client = f"client-{len(world.crashed)}"  # numbers begin anew with a host's start
    await world.until(world[host].ask(agent, "pass on", list(order), client))


@pytest.mark.parametrize("fault", ["none", "crash", "move", "move and crash"])
async def test_it_waits_through_crashes_and_moves_and_is_handled_once_and_in_order(fault: str) -> None:
    world, x, y, hear = await deaf()
    for number in (1, 2):
        await told(world, "a", x, "y", number)
    home = "a"
    if "move" in fault:
        world.hub.cut("b", "c")
        await world.until(world["a"].depart([x], "c"))
        home = "c"
    if "crash" in fault:
        world.crash(home)
        await world.boot()
    hear()
    await world.heal()
    await told(world, home, x, "y", 3)
    await told(world, home, x, y, 4)
    world.crash(home)
    await world.heal()
    assert world["b"].state(y)["handled"] == [1, 2, 3, 4]
    sent = world[home].mailroom.boxes[x].luggage.sent
    assert sent["y"].letters == [] and sent[y].last == 4
    world.close()


async def test_who_missed_the_news_asks_for_the_name() -> None:
    world, x, y, _ = await deaf()
    await told(world, "a", x, "y", 1)
    world.hub.drops = lambda *_: False
    for _ in range(2):
        world["a"].remind()
        await world.crank()
    assert world["b"].state(y)["handled"] == [1]
    world.close()


async def test_a_mailroom_that_does_not_look_again_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Addressing, "name", lambda *_: None)
    world, x, y, hear = await deaf()
    await told(world, "a", x, "y", 1)
    hear()
    await world.heal()
    assert world["b"].state(y).get("handled", []) == []
    world.close()


async def calls() -> list[object]:
    """x calls y by its name and waits; the host is killed when y has the letter, and knows of nobody for a while. The
    handler runs again. Returns what y has handled."""
    world, x, y, hear = await deaf()
    asking = world["a"].ask(x, "call", ["y", 1], client="one")
    await world.crank()
    hear()
    while not world["b"].state(y).get("handled"):
        await world.turn()
    world.crash("a")
    assert not asking.done() or asking.cancelled()
    world.hub.cut("a", "b")
    await world.boot()
    again = world["a"].ask(x, "call", ["y", 1], client="one")  # who asked sends it again, as hosts do
    await world.crank()
    await world.heal()
    assert again.result().ok
    world.close()
    return list(world["b"].state(y)["handled"])


async def test_a_handler_that_runs_again_finds_the_letter_that_it_wrote_to_a_name() -> None:
    assert await calls() == [1]


async def test_one_that_takes_a_name_and_its_agent_for_two_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.replay._same", str.__eq__)
    assert await calls() == [1, 1]


async def test_a_name_that_several_have_is_refused_with_their_ids_and_hosts() -> None:
    world, x, y, hear = await deaf()
    await told(world, "a", x, "y", 1)
    other = await world.create("b", "y")
    hear()
    await world.heal()
    said = f"2 agents are called 'y': {', '.join(sorted([f'{y} (on b)', f'{other} (on b)']))}; give the id"
    assert said in world["a"].printed_lines[0]
    await told(world, "a", x, "y", 2)
    assert said in world["a"].printed_lines[1]
    await told(world, "a", x, y, 3)
    assert world["b"].state(y)["handled"] == [3], "what was refused leaves no gap"
    world.close()


async def test_it_waits_until_its_deadline_and_no_longer() -> None:
    world, x, y, hear = await deaf()
    await told(world, "a", x, "y", 1, 30)
    world.now += 33
    world["a"].remind()
    assert world["a"].printed_lines == ["'note' to y had no answer in time"]
    hear()
    await world.heal()
    assert world["b"].state(y).get("handled", []) == []
    world.close()

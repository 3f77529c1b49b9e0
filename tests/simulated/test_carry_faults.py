"""The edge of the handoff, with a fault at every point of a hop: before and after each message that is delivered and
each disk that syncs, in several schedules. A failure says the seed of the schedule and the point.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from agentplatform.custody import events
from agentplatform.custody.carry import Carrier
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.messages import Cargo
from agentplatform.custody.records import Commit, Record
from tests.helpers.edge_world import World

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
SEEDS = (0, 1, 2)  # of the schedule: see World


async def hop_with(
    fault: Callable[[World], None] | None, at: int, when: str, seed: int, restarts: int = 0, **kinds: type
) -> int:
    """x, y on a go to b, where z is. x has noted 1 and 2, has more waiting, and has just written to z.

    `fault` happens before or after the event `at`, counted from the dispatch; hosts that crashed are started so many
    times while faults go on. In the end every promise must hold.
    Returns the number of events of the hop.
    """
    world = World("a", "b", seed=seed, **kinds)
    await world.boot()
    x, y, z = [await world.create(*each) for each in (("a", "x"), ("a", "y"), ("b", "z"))]
    for note in (1, 2):
        await world.until(world["a"].ask(x, "note", note))
    first = world.index
    if fault is not None:
        world.plans[first + at, when] = lambda: fault(world)
    asks = [world["a"].ask(x, "pass on", [z, note]) for note in (101, 102)]
    hop = world["a"].depart([x, y], "b")
    await world.settle()
    asks += [world["a"].ask(x, "note", 3), world["b"].ask(x, "note", 1003)]  # it is frozen: they come with the notice
    await world.crank()
    if "a" in world.hosts:
        asks.append(world["a"].ask(x, "note", 4))
        await world.crank()
    events = world.index - first
    for _ in range(restarts):
        await world.boot()

    await world.heal()
    at_last = world.holder(x)
    assert world.holder(y) == at_last, "the group was torn apart"
    state = world[at_last].state(x)
    if fault is None:
        assert at_last == "b" and hop.result().destination == "b"
    refused = hop.done() and not hop.cancelled() and hop.exception() is not None
    if at_last == "a" and "a" not in world.crashed:
        assert refused
    if at_last == "a" and (refused or x in world.restored) and len(world.crashed) < 2:
        assert state["failed"] and all(state["failed"]), "on_move_failed was not called"
    if at_last == "b":
        assert state["failed"] == []

    for ask in asks:
        assert ask.done(), "a letter was never answered"
        assert ask.cancelled() or ask.result().ok
    answered = {note for ask, note in zip(asks[2:], (3, 1003, 4), strict=False) if not ask.cancelled()}
    check_notes(world, state["handled"], {1, 2, *answered})
    sent = {note for ask, note in zip(asks, (101, 102), strict=False) if not ask.cancelled()}
    check_notes(world, world["b"].state(z)["handled"], sent)

    # It goes on: its letters have the right numbers, in both directions.
    for host in ("a", "b"):
        assert (await world.until(world[host].ask(x, "note", 9, client="late"))).ok
    await world.until(world["a"].ask(x, "pass on", [z, 109], client="late"))
    assert world["b"].state(z)["handled"][-1] == 109
    world.close(at_rest=True)
    return events


def check_notes(world: World, handled: list[int], expected: set[int]) -> None:
    mine = [note for note in handled if note != 1003]  # 1003 has another sender, and no order with them
    assert mine == sorted(set(mine)) and handled.count(1003) <= 1, f"handled twice, or out of order: {handled}"
    lost = expected - set(handled)
    assert not lost, f"lost {lost}; handled {handled}"


async def at_every_point(*faults: Callable[[World], None], seeds: tuple[int, ...] = SEEDS, **kinds: type) -> None:
    """A failure says at which point."""
    for seed in seeds:
        events = await hop_with(None, 0, "before", seed, **kinds)
        for at in range(events):
            for number, fault in enumerate(faults):
                for when in ("before", "after"):
                    point = f"seed {seed}, event {at} of {events}, {when} it, fault {number}"
                    try:
                        await hop_with(fault, at, when, seed, **kinds)
                    except AssertionError as error:
                        raise AssertionError(f"{point}: {error}") from error


@pytest.mark.parametrize("seed", SEEDS)
async def test_without_a_fault_all_arrives(seed: int) -> None:
    events = await hop_with(None, 0, "before", seed)
    assert events > 10


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("victim", ["a", "b"])
async def test_a_crash_at_every_point(victim: str, seed: int) -> None:
    await at_every_point(lambda world: world.crash(victim), seeds=(seed,))


@pytest.mark.parametrize("seed", SEEDS)
async def test_both_hosts_crash_at_every_point(seed: int) -> None:
    def blackout(world: World) -> None:
        world.crash("a")
        world.crash("b")

    await at_every_point(blackout, seeds=(seed,))


async def test_crashes_during_the_recovery_from_crashes() -> None:
    """Schedules and crashes by chance: as many as a second allows."""
    for seed in range(100, 160):
        chance = random.Random(seed)  # noqa: S311

        def storm(world: World, chance: random.Random = chance) -> None:
            world.crash(chance.choice("ab"))
            world.plans[world.index + chance.randrange(1, 12), "after"] = lambda: storm(world)

        try:
            await hop_with(storm, chance.randrange(12), "after", seed, restarts=chance.randrange(6))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_link_that_is_cut_at_every_point(seed: int) -> None:
    await at_every_point(lambda world: world.hub.cut("a", "b"), lambda world: world.hub.reset("a", "b"), seeds=(seed,))


# The harness catches what is broken


class LeakyGateway(Gateway):
    def hold(self, agent: str, until: "asyncio.Future[None]") -> None:
        """Lets out what an agent does before it is durable that it is here."""


class HastyCarrier(Carrier):
    def __init__(self, *rooms: Any) -> None:
        """Gives notice of a COMMIT that is not durable [L4]."""
        super().__init__(*rooms)
        self._in_order = self.books.write
        self.books.write = self._hasty  # type: ignore[method-assign]

    def _hasty(self, record: Record, beside: tuple[bytes, ...], parent: str | None) -> None:
        if isinstance(record, Commit):
            self._journal.write(record, beside)
            self.step(events.Durable(record))
        else:
            self._in_order(record, beside, parent)


class ForgetfulCarrier(Carrier):
    def __init__(self, *rooms: Any) -> None:
        """Does not take back what was on offer when the host ended."""
        super().__init__(*rooms)
        self.reopening.restore = self._forget  # type: ignore[method-assign]

    async def _forget(self, transfer: bytes, cargo: tuple[Cargo, ...], reason: str) -> None: ...


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ({"gateway": LeakyGateway, "policy": "hop"}, "before it was durable"),
        ({"carrier": HastyCarrier}, "after its departure was committed"),
        ({"carrier": ForgetfulCarrier}, "does not run there"),
    ],
)
async def test_the_harness_catches_a_broken_edge(worlds: list[World], kinds: dict[str, type], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        await at_every_point(lambda world: world.crash("a"), lambda world: world.crash("b"), seeds=(1,), **kinds)
    if "carrier" in kinds:
        with pytest.raises(AssertionError, match=r"after its departure was committed|runs nowhere at the end"):
            worlds[-1].chronicle.judge(at_rest=True)

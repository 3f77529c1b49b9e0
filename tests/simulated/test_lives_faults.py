"""A host that crashes at each point of a deactivation, of waking up, and of a cloning; and the bound on revivals."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentplatform.custody.kept import Kept
from agentplatform.custody.revivals import MAX_REVIVALS, REVIVAL_SECONDS, Revivals
from ledger.database import Statement
from ledger.errors import Misuse, PlatformError, Unavailable
from tests.helpers.edge_ground import WatchedJournal, WatchedMailroom
from tests.helpers.edge_world import CODE, World

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
SEEDS = (0, 1, 2)  # of the schedule: see World


def deactivate(world: World, agent: str, seconds: float | None = None) -> "asyncio.Task[Any]":
    return world["a"].start(world["a"].carrier.dormitory.deactivate(agent, seconds))


async def clone(world: World, agent: str) -> str:
    async def cloned() -> str:
        await world["a"].runner.clone(agent)
        return await world["a"].carrier.lifetimes.clone(agent)

    made: str = await world.until(world["a"].start(cloned()))
    return made


async def test_others_hear_of_an_agent_when_it_is_durable_that_it_was_born() -> None:
    """Else a host that was killed would leave a name to the others that nobody has, and that nobody can end."""
    world = World("a", "b")
    await world.boot()
    _, certificate = world.birth("x")
    birth = world["a"].start(world["a"].carrier.lifetimes.create(certificate, CODE, b""))
    await world.messages_only()
    assert not birth.done() and world["b"].whereabouts.called("x") == []
    world.crash("a")
    await world.heal()
    x = await world.create("a", "x")
    assert world["b"].whereabouts.resolve("x") == x


async def lives_with(at: int | None, when: str, seed: int, **kinds: type) -> int:
    """x notes 1, is deactivated, woken by a letter, cloned, and deactivated again; a crashes before or after the event
    `at`, or when all of them are over. In the end every promise must hold. Returns the number of events."""
    world = World("a", "b", seed=seed, **kinds)
    await world.boot()
    x = await world.create("a", "x")
    await world.until(world["a"].ask(x, "note", 1))
    first = world.index
    if at is not None:
        world.plans[first + at, when] = lambda: world.crash("a")
    tasks: list[asyncio.Task[Any]] = []
    steps: list[Callable[[], asyncio.Task[Any]]] = [
        lambda: deactivate(world, x),
        lambda: world["b"].ask(x, "note", 2),
        lambda: world["a"].start(clone_of(world, x)),
        lambda: deactivate(world, x),
    ]
    for step in steps:
        if "a" in world.hosts:
            tasks.append(step())
            await world.crank()
    events = world.index - first
    if at == events:
        world.crash("a")
    done = [task.done() and not task.cancelled() and task.exception() is None for task in tasks]
    await world.heal()
    asleep = world["a"].carrier.dormitory.asleep
    if done in ([True], [True, True, True, True]):
        assert x in asleep, "it was told that it sleeps, and it does not"
    if len(done) == 3 and done[1]:
        assert x not in asleep, "it woke up, and sleeps again"
    assert (await world.until(world["b"].ask(x, "note", 9, client="late"))).ok
    assert x not in asleep
    assert world.holder(x) == "a"
    handled = world["a"].state(x)["handled"]
    assert handled == ([1, 2, 9] if len(done) > 1 and done[1] else [note for note in (1, 2, 9) if note in handled])
    clones = [agent for agent in world["a"].carrier.residents.known if agent != x]
    if len(done) > 2 and done[2]:
        assert clones == [tasks[2].result()], "a clone that was told of is gone"
    for each in clones:
        assert world.holder(each) == "a" and world["a"].state(each)["handled"] == [1, 2]
        assert (await world.until(world["b"].ask(each, "note", 5))).ok
        assert world["a"].state(x)["handled"] == handled
    world.close()
    return events


async def clone_of(world: World, agent: str) -> str:
    await world["a"].runner.clone(agent)
    made: str = await world["a"].carrier.lifetimes.clone(agent)
    return made


async def at_every_point(seeds: tuple[int, ...] = SEEDS, **kinds: type) -> None:
    for seed in seeds:
        events = await lives_with(None, "before", seed, **kinds)
        assert events > 5
        for at in range(events + 1):
            for when in ("before", "after"):
                try:
                    await lives_with(at, when, seed, **kinds)
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}, event {at} of {events}, {when} it: {error}") from error


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
async def test_a_crash_at_every_point(seed: int) -> None:
    await at_every_point((seed,))


# The harness catches what is broken


class SleeplessJournal(WatchedJournal):
    def sleep(self, agent: str, until: float | None) -> "asyncio.Future[None]":
        """Does not write down that it sleeps."""
        return self._write()


class DrowsyJournal(WatchedJournal):
    def wake(self, agent: str) -> "asyncio.Future[None]":
        """Does not write down that it woke up."""
        return self._write()


class DeafMailroom(WatchedMailroom):
    def sleep(self, *about: Any) -> None:
        """Nobody is woken for a letter."""
        self._wake = lambda agent: None
        super().sleep(*about)


class Blank(Kept):
    def copy(self, agent: str, clone: str) -> list[Statement]:
        """The clone gets no state."""
        return []


class BlankJournal(WatchedJournal):
    def __init__(self, database: Any) -> None:
        super().__init__(database)
        self.kept = Blank(database)


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ({"journal": SleeplessJournal}, "and it does not"),
        ({"journal": DrowsyJournal}, "and sleeps again"),
        ({"mailroom": DeafMailroom}, "waits for something that does not come"),
        ({"journal": BlankJournal}, ""),
    ],
)
async def test_the_harness_catches_a_broken_edge(kinds: dict[str, type], says: str) -> None:
    with pytest.raises((AssertionError, Misuse), match=says or None):
        await at_every_point((1,), **kinds)


# One case at a time


async def test_who_moves_a_sleeper_wakes_it_first(world: World) -> None:
    x = await world.create("a", "x")
    await world.until(deactivate(world, x))
    assert x not in world["a"].runner.copies and world["a"].carrier.lifetimes.state_of(x) == "deactivated"
    with pytest.raises(Misuse, match="is not here"):  # the edge alone does not
        await world.until(world["a"].depart([x], "b"))
    await world.until(world["a"].start(world["a"].lives.decided([x], "b", "a decision")))
    assert world.holder(x) == "b"


async def test_on_a_host_that_holds_its_sleepers_neither_a_letter_nor_their_time_wakes_them(world: World) -> None:
    x, y, z = [await world.create("a", name) for name in "xyz"]
    dormitory = world["a"].carrier.dormitory
    for agent, seconds in ((x, None), (y, 0.01), (z, None)):
        await world.until(deactivate(world, agent, seconds))
    dormitory.hold(True)
    asked = world["b"].ask(x, "note", 1)
    await asyncio.sleep(0.02)
    await world.settle()
    assert dormitory.asleep.keys() == {x, y, z} and not asked.done() and not world["a"].runner.copies
    await world.until(world["a"].start(world["a"].lives.decided([z], "b", "its owner's wish")))
    assert world.holder(z) == "b"  # who is asked for by itself wakes
    world["a"].closed_for = "being drained"
    with pytest.raises(Unavailable, match=r"a is being drained, so .* stays as it is"):
        await world.until(world["a"].start(world["a"].carrier.lifetimes.activate(x)))
    world["a"].closed_for = ""
    dormitory.hold(False)
    assert (await world.until(asked)).ok
    assert not dormitory.asleep and world.holder(x) == world.holder(y) == "a"


async def test_an_agent_on_its_way_is_not_deactivated_and_a_frozen_one_does_not_leave(world: World) -> None:
    x = await world.create("a", "x")
    hop = world["a"].depart([x], "b")
    await world.settle()
    with pytest.raises(Misuse, match="is on its way"):
        await world["a"].carrier.dormitory.deactivate(x, None)
    await world.until(hop)
    with pytest.raises(Misuse, match="is not on a"):
        await world["a"].carrier.dormitory.deactivate(x, None)


async def test_a_sleeper_that_cannot_be_opened_sleeps_on_and_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    x = await world.create("a", "x")
    await world.until(deactivate(world, x))
    world.refuses["a"][x] = "no room"
    with pytest.raises(Unavailable, match="is deactivated and could not be opened"):
        await world.until(world["a"].start(world["a"].carrier.lifetimes.activate(x)))
    assert world["a"].carrier.lifetimes.state_of(x) == "deactivated"
    world.refuses["a"].clear()
    caplog.clear()
    await world.until(world["a"].start(world["a"].carrier.lifetimes.activate(x)))
    assert world.holder(x) == "a"


async def test_a_clone_that_cannot_be_opened_leaves_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    x = await world.create("a", "x")
    refuses = world.refuses["a"] = AllBut(x)
    world["a"].runner.refuses = refuses
    with pytest.raises(Unavailable, match="could not be opened"):
        await clone(world, x)
    await world.crank()
    caplog.clear()
    assert list(world["a"].carrier.residents.known) == [x]
    assert [known.agent for known in world["a"].carrier.machine.agents.values() if known.here] == [x]


class AllBut(dict[str, str]):
    def __init__(self, agent: str) -> None:
        self._agent = agent

    def __contains__(self, agent: object) -> bool:
        return agent != self._agent

    def __getitem__(self, agent: str) -> str:
        return "no room"


async def test_a_worker_that_ends_takes_a_few_lives_only(world: World) -> None:
    x = await world.create("a", "x")
    host = world["a"]
    await world.until(host.ask(x, "note", 1))
    for _ in range(MAX_REVIVALS):
        host.runner.die(x)
        host.died(x, "a test")
        await world.crank()
        assert world.holder(x) == "a" and host.state(x)["handled"] == [1]
    host.runner.die(x)
    host.died(x, "a test")
    await world.crank()
    assert host.carrier.lifetimes.state_of(x) == "stranded"
    await world.until(host.start(host.carrier.lifetimes.activate(x)))
    assert world.holder(x) == "a" and (await world.until(host.ask(x, "note", 2))).ok
    assert host.state(x)["handled"] == [1, 2]


@pytest.mark.parametrize("asleep", [False, True])
async def test_a_worker_that_ends_when_it_has_just_opened_its_agent_does_not_keep_it(
    world: World, monkeypatch: pytest.MonkeyPatch, asleep: bool
) -> None:
    x = await world.create("a", "x")
    host = world["a"]
    await world.until(host.ask(x, "note", 1))
    if asleep:
        await world.until(deactivate(world, x))
    open_it = host.runner.open

    async def open_and_end(*what: Any) -> None:
        await open_it(*what)
        monkeypatch.undo()
        host.runner.die(x)
        host.died(x, "a test")  # both were heard of in one turn of the loop

    monkeypatch.setattr(host.runner, "open", open_and_end)
    if asleep:
        host.carrier.dormitory.wake(x)
    else:
        host.runner.die(x)
        host.died(x, "a test")
    await world.crank()
    assert host.carrier.lifetimes.state_of(x) == ("deactivated" if asleep else "stranded")
    await world.until(host.start(host.carrier.lifetimes.activate(x)))
    assert (await world.until(host.ask(x, "note", 2))).ok and host.state(x)["handled"] == [1, 2]


@pytest.mark.parametrize("failure", [Unavailable("no room for a worker"), Misuse("its state is broken")])
async def test_a_revival_for_which_there_is_no_room_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: PlatformError
) -> None:
    monkeypatch.setattr("agentplatform.custody.reopening.RETRY_SECONDS", 0.0)
    x = await world.create("a", "x")
    host = world["a"]
    await world.until(host.ask(x, "note", 1))
    open_it, failures = host.runner.open, [failure, failure]

    async def open_later(*what: Any) -> None:
        if failures:
            raise failures.pop()
        await open_it(*what)

    monkeypatch.setattr(host.runner, "open", open_later)
    host.runner.die(x)
    host.died(x, "a test")
    for _ in range(3):
        await world.crank()
    caplog.clear()
    if isinstance(failure, Misuse):
        assert host.carrier.lifetimes.state_of(x) == "stranded" and len(failures) == 1
        assert "waits on the disk" in host.printed_lines[-1] and "its state is broken" in host.printed_lines[-1]
        return
    assert host.carrier.lifetimes.state_of(x) == "runs" and host.state(x)["handled"] == [1]
    assert ["tried again" in line and "no room for a worker" in line for line in host.printed_lines] == [True, True]


async def test_who_opens_an_agent_that_is_being_opened_does_not_end_that(world: World) -> None:
    x = await world.create("a", "x")
    host = world["a"]
    await world.until(host.ask(x, "note", 1))
    host.runner.hangs[x] = asyncio.Event()
    host.runner.die(x)
    host.died(x, "a test")
    await world.crank()
    with pytest.raises(Unavailable, match="could not be opened"):
        await world.until(host.start(host.carrier.lifetimes.activate(x)))
    host.runner.hangs.pop(x).set()
    await world.crank()
    assert host.carrier.lifetimes.state_of(x) == "runs" and (await world.until(host.ask(x, "note", 2))).ok


def test_revivals_are_counted_for_each_agent_and_forgotten_in_time() -> None:
    revivals = Revivals()
    assert [revivals.may("x", now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]
    assert revivals.may("y", 3.0)
    assert revivals.may("x", REVIVAL_SECONDS)  # the first is long ago
    assert not revivals.may("x", REVIVAL_SECONDS + 0.5)
    assert all(revivals.may("x", 1000 + 30.0 * count) for count in range(10))  # one now and then is no circle

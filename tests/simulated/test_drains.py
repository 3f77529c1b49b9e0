"""A host that is drained, at the edge of custody: it crashes at each point, others send to it all the while, and whom
it sent away is called back. Drainer, CallingBack and custody are those of production; the EDS takes turns.
"""

import asyncio
from itertools import cycle
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agentplatform.calling_back import CallingBack
from agentplatform.carrying_out import CarryingOut
from agentplatform.drainer import Drainer
from agentplatform.draining import DRAINED
from ledger.errors import Unavailable
from services.dms.memory import MemoryStore
from services.eds.plan import Move, Plan
from services.eds.rules import Group
from tests.helpers.edge_host import EdgeHost
from tests.helpers.edge_world import World
from tests.helpers.residence_twin import LedgerTwin

pytest_plugins = "tests.helpers.edge_fixtures"
SEEDS = (0, 1, 2)  # of the schedule: see World
ROUNDS = 60  # looks of a drain, after which it must be over
DEADLINE = 20.0  # seconds; one passes with each look


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.calling_back.LOOK_EVERY", 0.0)
    monkeypatch.setattr("agentplatform.calling_back.CALL_EVERY", 0.01)
    monkeypatch.setattr("agentplatform.calling_back.PAUSES", (0.0,))


class Advertising:
    """What the RMS tells of a host. One that is `forgetful` does not close admission."""

    def __init__(self, world: "Drains", host: EdgeHost) -> None:
        self._world, self._host, self._closed = world, host, ""

    @property
    def closed(self) -> str:
        return self._closed

    @closed.setter
    def closed(self, reason: str) -> None:
        self._closed = reason
        if not self._world.forgetful:
            self._host.closed_for = reason

        self._world.closed[self._host.name] = reason

    def advertise(self) -> None: ...


class TakingTurns:
    """An EDS whose every decision is another host that is open."""

    def __init__(self, world: "Drains", host: EdgeHost) -> None:
        self._world, self._name = world, host.name
        self.eds, self._turns = self, cycle(name for name in world.names if name != host.name)
        find, elsewhere = LedgerTwin(host.name, world.entries).find, cast(Any, None)  # all of a group are on one host
        carrying = CarryingOut(host.name, host.carrier, host.lives, elsewhere, find, self.concerned)
        self.carry_out = carrying.carry_out

    def concerned(self) -> list[Group]:
        return [self._world.group] if self._world.group is not None else []

    async def decide(self, group: Group, why: str) -> Any:
        to = next(self._turns)
        here = [agent for agent in group.agents if agent in self._world[self._name].carrier.residents.known]
        moves = tuple(Move(agent, self._name, to, (self._name, to)) for agent in here)
        outcome = await self.carry_out(Plan(dict.fromkeys(here, to), moves, 0.0), why)
        return SimpleNamespace(outcome=outcome, rejected=(), remark="")


class Drains(World):
    """b is drained."""

    group: Group | None = None

    def __init__(self, *names: str, seed: int = 0, forgetful: bool = False) -> None:
        super().__init__(*names, seed=seed)
        self.forgetful, self.clock = forgetful, 1000.0
        self.stores = {name: MemoryStore() for name in names}
        self.drainers: dict[str, Drainer] = {}
        self.closed: dict[str, str] = {}  # what each said last

    def said_closed(self, host: str) -> bool:
        return bool(self.closed.get(host))

    async def furnish(self, host: EdgeHost) -> None:
        rms: Any = Advertising(self, host)
        deciding: Any = TakingTurns(self, host)
        store, carry_out = self.stores[host.name], deciding.carry_out
        sides = (host.carrier, host.whereabouts, self.said_closed, carry_out, host.tell, host.start)
        host.back = CallingBack(host.name, store, *sides)
        note: Any = lambda agent, text: host.notes.append(f"{agent} {text}")  # noqa: E731
        parts = (rms, host.carrier, deciding, host.back, note, host.start, lambda: self.clock)
        drainer = Drainer(host.name, store, *parts)
        self.drainers[host.name] = drainer
        await drainer.load()

    async def boot(self, *names: str) -> None:
        before = set(self.hosts)
        await super().boot(*names)
        for name in self.hosts.keys() - before:
            self.drainers[name].go_on()

    async def ask(self, work: Any) -> None:
        """Of b. It may crash before it has answered."""
        task = self["b"].start(work)
        while not task.done():
            await self.crank()
            await asyncio.sleep(0)
        if not task.cancelled():
            task.result()

    def states(self) -> dict[str, str]:
        state_of = self["b"].carrier.lifetimes.state_of
        return {agent: state for agent in self["b"].carrier.machine.agents if (state := state_of(agent)) is not None}

    async def open(self) -> None:
        """Until b is."""
        while "b" not in self.hosts or (state := self.drainers["b"].status()["state"]) != "open":
            if "b" not in self.hosts:
                await self.heal()
            elif state != "being opened again":
                await self.ask(self.drainers["b"].call_off(600.0))
            await self.crank()
            await asyncio.sleep(0)

    async def look(self) -> str:
        """b looks once, and a second passes. Returns how far it is."""
        self.clock += 1.0
        self.drainers["b"].look()
        await self.crank()
        if "b" not in self.hosts:
            await self.heal()
        self.drainers["b"].look()
        return str(self.drainers["b"].status()["state"])


async def drained(at: int | None, when: str, seed: int, forgetful: bool = False) -> int:
    """b has x; y and z, who go together; h in held custody; v, who cannot move; and s, who sleeps. t on a wants to come
    all the time. b is drained, and opened again, and crashes before or after the event `at`, or never. Returns the
    number of events."""
    world = Drains("a", "b", "c", seed=seed, forgetful=forgetful)
    await world.boot()
    x, y, z, v, s = [await world.create("b", name) for name in "xyzvs"]
    h = await world.create("b", "h", "held")
    t = await world.create("a", "t")
    for number, agent in enumerate((x, y, z, v, h)):
        assert (await world.until(world["c"].ask(agent, "note", number))).ok
    world.group = Group("together", (y, z))
    world["b"].runner.unpicklable[v] = "self.camera"
    await world.until(world["b"].start(world["b"].carrier.dormitory.deactivate(s, None)))
    first = world.index
    if at is not None:
        world.plans[first + at, when] = lambda: world.crash("b")
    await world.ask(world.drainers["b"].drain(DEADLINE))
    if "b" not in world.hosts:
        await world.heal()
    if world.drainers["b"].status()["state"] == "open":  # it was told to nobody
        await world.ask(world.drainers["b"].drain(DEADLINE))
    asked = world["c"].ask(s, "note", 9)
    for _ in range(ROUNDS):
        world["b"].runner.unpicklable[v] = "self.camera"  # also of a b that was started again
        if world["a"].carrier.machine.here(t) is not None:
            coming = world["a"].start(world["a"].lives.decided([t], "b", "a test"))
            coming.add_done_callback(lambda done: done.cancelled() or done.exception())
        state = await world.look()
        assert world.runs.now.get(t, ("a",))[0] != "b", f"t landed on b, which is {state}"
        if state == DRAINED:
            break
    assert state == DRAINED, f"b is {state} after {ROUNDS} looks: {world.drainers['b'].status()}"
    assert set(world.states().values()) == {"deactivated"} and not asked.done()
    assert not any(host == "b" for host, _ in world.runs.now.values()), f"something runs on b: {world.runs.now}"
    assert world.states().keys() == {v, s} and world.holder(y) == world.holder(z) != "b"
    assert "b" not in (world.holder(x), world.holder(h))
    await world.open()
    events = world.index - first
    world.plans.clear()
    outcome = world.drainers["b"].status()["outcome"]
    if at is None:
        assert [note for note in world["b"].notes if v in note and "is deactivated, for b is being drained" in note]
        assert outcome is not None and set(outcome["back"]) == {x, y, z, h} and outcome["activated"] == [v]
    assert (await world.until(asked)).ok  # its letter wakes s now
    assert {agent: world.holder(agent) for agent in (x, y, z, v, s, h)} == dict.fromkeys((x, y, z, v, s, h), "b")
    for number, agent in enumerate((x, y, z, v, h)):
        assert number in world["b"].state(agent)["handled"]
    await world.until(world["a"].start(world["a"].lives.decided([t], "b", "a test")))
    world.close()
    return events


@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_drained_host_is_empty_and_gets_all_back(seed: int) -> None:
    await drained(None, "before", seed)


@pytest.mark.usefixtures("no_errors")
async def test_what_was_accepted_before_arrives_and_is_drained_too() -> None:
    world = Drains("a", "b", "c")
    await world.boot()
    early, late = await world.create("a", "early"), await world.create("a", "late")
    moves = [world["a"].depart([early], "b")]
    while not world["b"].journal.durable.arriving:  # until RECEIVED
        await world.turn()
    await world.ask(world.drainers["b"].drain(DEADLINE))
    moves.append(world["a"].depart([late], "b"))
    await world.crank()
    assert moves[0].result().destination == "b"
    with pytest.raises(Unavailable, match="b is being drained"):
        moves[1].result()
    while await world.look() != DRAINED:
        assert world.clock < 1000.0 + ROUNDS
    assert world.holder(early) in ("a", "c") and world.holder(late) == "a"
    world.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_drain_that_forgets_to_close_admission_is_caught(seed: int) -> None:
    with pytest.raises(AssertionError, match=r"t landed on b|something runs on b|after 60 looks"):
        await drained(None, "before", seed, forgetful=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_crash_at_every_point_of_a_drain_loses_nobody_and_lets_nobody_in(seed: int) -> None:
    await crashed_at_every(3 if seed else 1, seed)


async def test_a_crash_at_some_points_of_a_drain() -> None:
    await crashed_at_every(37, 0)


async def crashed_at_every(step: int, seed: int) -> None:
    events = await drained(None, "before", seed)
    assert events > 50
    for at in range(0, events + 1, step):
        for when in ("before", "after"):
            try:
                await drained(at, when, seed)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, event {at} of {events}, {when} it: {error}") from error

"""Agents in held custody on several hosts go to one as one: all arrive or all stay, whatever is lost, whoever lies."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from agentplatform.convoy import Convoy, assemble, stays, transfer_of
from agentplatform.custody import convoys, residences
from agentplatform.custody.convoys import Convoys, _Gathering
from agentplatform.custody.events import GiveUp
from agentplatform.custody.messages import HandoffMessage, Offer
from agentplatform.custody.residences import subject_of
from agentplatform.custody.waits import LEDGER, waits
from ledger import codec
from ledger.contracts.residence import MOVE, Going, Move, Part, Passage, Residence
from ledger.errors import Misuse, Unavailable
from tests.helpers import edge_host
from tests.helpers.edge_world import OWNER, World
from tests.helpers.handoff_mutants import AbortsAlone

pytest_plugins = "tests.helpers.edge_fixtures"
_MESSAGE: Any = HandoffMessage
NONCE = bytes(range(16))
SOURCES = {"x": "a", "y": "b", "z": "b"}
Moving = dict[str, "asyncio.Task[Any]"]


def subject(agent: str) -> bytes:
    return subject_of(OWNER.public, agent)


async def start(**options: Any) -> tuple[World, dict[str, str]]:
    """x is on a, y and z are on b, all in held custody; there is c. Agent -> its host."""
    world = World("a", "b", "c", **options)
    await world.boot()
    return world, {await world.create(host, name, "held"): host for name, host in SOURCES.items()}


def convoy_of(agents: dict[str, str], epoch: int = 1, nonce: bytes = NONCE) -> Convoy:
    going: dict[str, list[Going]] = {}
    for agent, host in agents.items():
        going.setdefault(host, []).append(Going(subject(agent), epoch))
    return assemble(nonce, going)


def set_out(world: World, agents: dict[str, str], convoy: Convoy) -> Moving:
    moving = {}
    for source in {host for host in agents.values() if host in world.hosts}:
        own = [agent for agent, host in agents.items() if host == source]
        departures = world[source].carrier.departures
        moving[source] = world[source].start(departures.depart(own, "c", "a test", convoy=convoy))
    return moving


def places(world: World, agents: dict[str, str]) -> dict[str, tuple[str, int]]:
    return {agent: (now.host, now.epoch) for agent in agents for now in [world.entries.known[subject(agent)]]}


async def patience_ends(world: World) -> None:
    """Of all that waits."""
    for _ in range(2):
        for host in world.hosts.values():
            for transfer in list(host.carrier.machine.leaving):
                host.carrier.step(GiveUp(transfer, "a test's deadline"))
        await world.crank()
        await world.heal()


async def test_all_arrive_by_one_entry() -> None:
    world, agents = await start()
    asked = [await world.until(world["a"].ask(agent, "note", 1)) for agent in agents]
    moving = set_out(world, agents, convoy_of(agents))
    await world.crank()
    assert [hop.result().destination for hop in moving.values()] == ["c", "c"] and len(asked) == 3
    assert set(places(world, agents).values()) == {("c", 1)}
    assert {world.holder(agent) for agent in agents} == {"c"}
    assert all(world["c"].state(agent)["handled"] == [1] for agent in agents)
    assert not world["c"].carrier.residences.convoys._gathered or not world["c"].carrier.machine.arriving
    back = await world.until(world["c"].depart(list(agents), "a"))  # together, from one source
    assert back.destination == "a" and set(places(world, agents).values()) == {("a", 2)}


async def test_nothing_is_asked_before_all_parts_are_received() -> None:
    world, agents = await start()
    convoy = convoy_of(agents)
    (x, *_) = agents
    moving = set_out(world, {x: "a"}, convoy)
    await world.crank()
    assert not moving["a"].done() and places(world, agents)[x] == ("a", 0)
    (wait,) = waits(world["a"].carrier.machine, False)
    assert wait.waits_for == LEDGER
    await patience_ends(world)
    with pytest.raises(Unavailable, match="stayed on a"):
        moving["a"].result()
    assert places(world, agents)[x] == ("a", 1) and world.holder(x) == "a" and not world["c"].carrier.machine.arriving


async def test_who_is_refused_keeps_the_others_back_at_once() -> None:
    """Each source hears of it by its chain, and nobody waits for its deadline."""
    world, agents = await start()
    world["c"].short = "a full disk"
    moving = set_out(world, agents, convoy_of(agents))
    await world.crank()
    reasons = [str(hop.exception()) for hop in moving.values() if isinstance(hop.exception(), Unavailable)]
    assert len(reasons) == 2 and any("c refused: c has no room: a full disk" in reason for reason in reasons)
    assert places(world, agents) == {agent: (host, 1) for agent, host in agents.items()}
    assert {agent: world.holder(agent) for agent in agents} == agents


async def test_one_that_is_given_away_meanwhile_keeps_the_others_back() -> None:
    world, agents = await start()
    x, y, z = agents
    world.entries.quorum = False
    moving = set_out(world, agents, convoy_of(agents))
    await world.crank()
    (move,) = {codec.encode(asked): asked for _, asked in world.entries.late if isinstance(asked, Move)}.values()
    assert [len(part.agents) for part in move.parts] == [1, 2]
    world.entries.known[subject(y)] = Residence(OWNER.public, 1, "d", (), 2)
    world.entries.quorum = True
    with pytest.raises(Misuse, match="too late"):
        world.entries.decide("c", move)
    world.entries.follow()
    await world.crank()
    assert places(world, agents) == {x: ("a", 1), y: ("d", 1), z: ("b", 1)}
    assert world.holder(x) == "a" and world.holder(z) == "b" and y not in world["b"].runner.copies
    assert all(isinstance(hop.exception(), Unavailable) for hop in moving.values())
    for host in world.hosts.values():
        assert not host.carrier.machine.leaving and not host.carrier.machine.arriving


async def test_nobody_is_frozen_for_a_convoy_that_cannot_go_any_more() -> None:
    world, agents = await start()
    x, y, _ = agents
    convoy = convoy_of(agents)
    world.entries.known[subject(y)] = Residence(OWNER.public, 1, "d", (), 2)
    world.entries.follow()
    await world.crank()
    with pytest.raises(Unavailable, match="does not come along to c"):
        await world.until(set_out(world, {x: "a"}, convoy)["a"])
    assert places(world, agents)[x] == ("a", 0) and not world["a"].state(x)["failed"]


async def test_a_host_whose_agent_moved_meanwhile_sets_nothing_out() -> None:
    world, agents = await start()
    x, y, z = agents
    convoy = convoy_of(agents)
    await world.until(world["b"].depart([y], "a"))
    moving = set_out(world, agents, convoy)
    await world.crank()
    with pytest.raises(Misuse, match="it went to a; ask there"):
        moving["b"].result()
    with pytest.raises(Unavailable, match="does not come along"):
        moving["a"].result()
    assert places(world, agents) == {x: ("a", 0), y: ("a", 1), z: ("b", 0)}


LIES = [
    (lambda offer: replace(offer, signature=bytes(64)), "did not sign the convoy"),
    (lambda offer: replace(offer, convoy=replace(offer.convoy, nonce=bytes(16))), "no convoy"),
    (lambda offer: replace(offer, convoy=Convoy(NONCE, offer.convoy.parts[:1])), "no convoy"),
    (lambda offer: replace(offer, convoy=_with(offer.convoy, 2)), "not its part"),
]


def _with(convoy: Convoy, epoch: int) -> Convoy:
    parts = tuple(Part(p.source, p.transfer, tuple(Going(g.subject, epoch) for g in p.agents)) for p in convoy.parts)
    return Convoy(convoy.nonce, parts)


@pytest.mark.parametrize(("lie", "why"), LIES)
async def test_a_lie_about_the_convoy_is_refused_and_nobody_moves(lie: Any, why: str) -> None:
    world, agents = await start()
    send = world["b"].send

    def lies(host: str, raw: bytes) -> bool:
        message = codec.decode(raw, _MESSAGE)
        return send(host, codec.encode(lie(message)) if isinstance(message, Offer) else raw)

    world["b"].send = lies  # type: ignore[method-assign]
    moving = set_out(world, agents, convoy_of(agents))
    await world.crank()
    assert any(why in str(fault) for fault in world["c"].faults)
    await patience_ends(world)
    assert places(world, agents) == {agent: (host, 1) for agent, host in agents.items()}
    assert all(isinstance(hop.exception(), Unavailable) for hop in moving.values())


async def test_sources_that_were_told_of_different_convoys_do_not_move() -> None:
    """Whoever asked them lied to one: what they sign is for different entries."""
    world, agents = await start()
    x, y, z = agents
    moving = set_out(world, {x: "a"}, convoy_of({x: "a", y: "b"})) | set_out(world, {y: "b", z: "b"}, convoy_of(agents))
    await world.crank()
    assert not any(hop.done() for hop in moving.values())
    await patience_ends(world)
    assert places(world, agents) == {agent: (host, 1) for agent, host in agents.items()}


async def test_a_source_with_too_many_convoys_does_not_keep_those_of_others_out(monkeypatch: Any) -> None:
    monkeypatch.setattr(convoys, "MAX_GATHERED", 1)
    world, agents = await start()
    x, y, z = agents
    set_out(world, {y: "b"}, convoy_of({x: "a", y: "b"}))
    await world.crank()
    second = convoy_of({x: "a", z: "b"}, nonce=bytes(16))
    set_out(world, {x: "a"}, second)
    await world.crank()
    assert not world["c"].faults
    set_out(world, {z: "b"}, second)
    await world.crank()
    assert [fault.peer for fault in world["c"].faults] == ["b"] and "one convoy more" in str(world["c"].faults[0])
    await patience_ends(world)
    assert [world.holder(agent) for agent in agents] == ["a", "b", "b"]


async def test_a_nonce_used_again_freezes_nobody_and_leaves_the_first_convoy_alone() -> None:
    """Whoever decides on another host lied: the transfer of the first is that of the second."""
    world, agents = await start()
    x, y, z = agents
    moving = set_out(world, {x: "a", y: "b"}, convoy_of({x: "a", y: "b"}))
    await world.settle()
    departures = world["b"].carrier.departures
    second = world["b"].start(departures.depart([z], "c", "a test", convoy=convoy_of({x: "a", z: "b"})))
    await world.crank()
    assert isinstance(second.exception(), Misuse) and "nonce went from b before" in str(second.exception())
    assert all(hop.result().destination == "c" for hop in moving.values())
    assert [world.holder(agent) for agent in agents] == ["c", "c", "b"]
    third = world["b"].start(departures.depart([z], "c", "a test", convoy=convoy_of({x: "a", z: "b"})))
    await world.crank()
    assert isinstance(third.exception(), Misuse) and not departures._journeys
    asked = world["b"].ask(z, "note", 1)
    await world.crank()
    assert asked.done()


async def test_convoys_that_do_not_leave_are_not_remembered() -> None:
    """Another host may think of as many as it likes, and the chain may have no news for long."""
    world, agents = await start()
    x, y, _ = agents
    carrier = world["b"].carrier
    cargo = carrier.machine.cargo([y])
    for number in range(100):
        convoy = convoy_of({x: "a", y: "b"}, nonce=number.to_bytes(16, "big"))
        carrier.residences.convoys.join("c", convoy, cargo)
    assert len(carrier.residences.convoys._joined) == 1
    moving = set_out(world, {x: "a", y: "b"}, convoy_of({x: "a", y: "b"}))
    await world.crank()
    assert all(hop.result().destination == "c" for hop in moving.values())


async def test_two_convoys_of_one_nonce_that_begin_together_freeze_nobody() -> None:
    world, agents = await start()
    x, y, z = agents
    departures = world["b"].carrier.departures
    leaving = [
        world["b"].start(departures.depart([agent], "c", "a test", convoy=convoy_of({x: "a", agent: "b"})))
        for agent in (y, z)
    ]
    await world.crank()
    await patience_ends(world)
    assert all(isinstance(each.exception(), Misuse | Unavailable) for each in leaving)
    assert [world.holder(agent) for agent in agents] == ["a", "b", "b"] and not departures._journeys
    asked = [world["b"].ask(agent, "note", 1) for agent in (y, z)]
    await world.crank()
    assert all(each.done() for each in asked)


async def events_of_a_move() -> int:
    world, agents = await start()
    before = world.index
    set_out(world, agents, convoy_of(agents))
    await world.crank()
    assert {world.holder(agent) for agent in agents} == {"c"}
    return world.index - before


async def sweep(victim: str, when: str, seed: int) -> list[tuple[int, set[tuple[str, int]]]]:
    """The victim loses its power at each event of the move. Where the agents are at the end, each time."""
    found = []
    for point in range(await events_of_a_move()):
        world, agents = await start(seed=seed)
        world.plans[world.index + point, when] = lambda world=world: world.crash(victim)  # type: ignore[misc]
        set_out(world, agents, convoy_of(agents))
        await world.crank()
        await world.heal()
        await patience_ends(world)
        there = {host for host, _ in places(world, agents).values()}
        assert there in ({"c"}, {"a", "b"}), (point, there)
        for agent, (host, epoch) in places(world, agents).items():
            assert world.holder(agent) == host and world[host].carrier.machine.here(agent) == epoch, point
        for host in world.hosts.values():
            assert not host.carrier.machine.leaving and not host.carrier.machine.arriving, point
        found.append((point, set(places(world, agents).values())))
        world.close(at_rest=True)
    return found


@pytest.mark.parametrize("victim", ["a", "c", pytest.param("b", marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)])
async def test_a_crash_at_every_point_of_it_leaves_all_or_none(victim: str, seed: int) -> None:
    found = await sweep(victim, "before", seed)
    arrived = sum(all(host == "c" for host, _ in places) for _, places in found)
    print(f"{arrived} of {len(found)} crashes came too late to keep them")
    assert 0 < arrived < len(found)


class AsksForEachPart(Convoys):
    """Each part is signed and asked for by itself."""

    def _passage(self, to: str, convoy: Convoy) -> Passage:
        part = convoy.part(self._host)
        assert part is not None
        return Passage(self._chain, MOVE, to, (part,))

    def offered(self, source: str, offer: Offer) -> None:
        if offer.convoy is not None and (part := offer.convoy.part(source)) is not None:
            self._gathered[offer.transfer] = _Gathering(Convoy(NONCE, (part,)), {source: offer.signature})


class AsksBeforeReceived(Convoys):
    """[H3] The destination signs when all parts are on their way, and not durable."""

    def offered(self, source: str, offer: Offer) -> None:
        super().offered(source, offer)
        self.remind()

    def _forget(self) -> None:
        pass

    def _is_here(self, part: Part) -> bool:
        return True


TWINS: dict[str, tuple[Any, str, Any, str]] = {
    "asks for each part": (residences, "Convoys", AsksForEachPart, "a"),
    "asks before received": (residences, "Convoys", AsksBeforeReceived, "c"),
    "gives up alone": (edge_host, "Held", AbortsAlone, "a"),
}


@pytest.mark.parametrize("twin", TWINS)
async def test_the_crashes_find(twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, broken, victim = TWINS[twin]
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(AssertionError) as found:
        await sweep(victim, "before", seed=1)
    print(found.value)


async def test_one_that_stays_is_told_from_one_that_went() -> None:
    world, agents = await start()
    convoy = convoy_of(agents)
    find = world.entries.known.get
    assert stays(convoy, find) is None
    set_out(world, agents, convoy)
    await world.crank()
    assert stays(convoy, find) is None and convoy.parts[0].transfer == transfer_of(NONCE, "a")
    y = list(agents)[1]
    world.entries.known[subject(y)] = replace(world.entries.known[subject(y)], transfer=b"")
    assert stays(convoy, find) == Going(subject(y), 1)

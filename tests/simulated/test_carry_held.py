"""Held custody at its edge: signatures, offers that the ledger contradicts, no quorum, an agent that is taken away."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from agentplatform.custody.events import GiveUp
from agentplatform.custody.messages import Accept, Cargo, HandoffMessage, Offer
from agentplatform.custody.residences import subject_of
from agentplatform.custody.waits import LEDGER, waits
from ledger import codec
from ledger.contracts.residence import Abort, Move, Residence
from ledger.errors import Misuse, Unavailable
from tests.helpers.edge_world import CODE, OWNER, World

pytest_plugins = "tests.helpers.edge_fixtures"
_MESSAGE: Any = HandoffMessage


async def start() -> tuple[World, str]:
    """x, in held custody, is on a and has noted 1; there is b."""
    world = World("a", "b")
    await world.boot()
    agent = await world.create("a", "x", "held")
    await world.until(world["a"].ask(agent, "note", 1))
    return world, agent


def epoch(world: World, agent: str) -> tuple[str, int]:
    now = world.entries.known[subject_of(OWNER.public, agent)]
    return now.host, now.epoch


async def test_it_is_on_the_ledger_from_its_creation_and_moves_by_it() -> None:
    world, agent = await start()
    assert epoch(world, agent) == ("a", 0)
    hop = await world.until(world["a"].depart([agent], "b"))
    assert hop.destination == "b" and epoch(world, agent) == ("b", 1) and world.holder(agent) == "b"
    await world.until(world["a"].ask(agent, "note", 2))
    assert world["b"].state(agent)["handled"] == [1, 2]
    back = await world.until(world["b"].depart([agent], "a"))
    assert back.destination == "a" and epoch(world, agent) == ("a", 2)


async def test_its_mail_follows_it_with_the_notice() -> None:
    """The notice comes after the ledger's word; nobody has to send the letters again."""
    world, agent = await start()
    hop = world["a"].depart([agent], "b")
    await world.settle()
    asks = [world["a"].ask(agent, "note", note) for note in (2, 3)]  # it is frozen
    await world.until(hop)
    await world.crank()
    assert [ask.done() for ask in asks] == [True, True] and world["b"].state(agent)["handled"] == [1, 2, 3]
    luggage = world["b"].mailroom.boxes[agent].luggage
    assert [(each.source, each.destination) for each in luggage.trail] == [("a", "b")]


async def test_without_a_quorum_the_move_waits_and_is_withdrawn_when_there_is_one() -> None:
    world, agent = await start()
    world.entries.quorum = False
    hop = world["a"].depart([agent], "b")
    await world.crank()
    assert not hop.done() and [type(each) for _, each in world.entries.late] == [Move]
    for name in ("a", "b"):
        assert [wait.waits_for for wait in waits(world[name].carrier.machine, False)] == [LEDGER]
    (transfer,) = world["a"].carrier.machine.leaving
    world["a"].carrier.step(GiveUp(transfer, "a test's deadline"))
    await world.crank()
    (_, move), (_, abort) = world.entries.late
    assert isinstance(abort, Abort)
    world.entries.quorum = True
    world.entries.decide("a", abort)
    with pytest.raises(Exception, match="too late"):
        world.entries.decide("a", move)
    world.entries.follow()
    await world.crank()
    with pytest.raises(Unavailable, match="withdrawn"):
        hop.result()
    assert world.holder(agent) == "a" and epoch(world, agent) == ("a", 1)
    assert world["a"].state(agent)["failed"]
    await world.until(world["b"].ask(agent, "note", 2))
    hop = await world.until(world["a"].depart([agent], "b"))
    assert epoch(world, agent) == ("b", 2)


async def pair() -> tuple[World, list[str]]:
    """x and y, in held custody, are on a and have noted 1."""
    world, agent = await start()
    agents = [agent, await world.create("a", "y", "held")]
    await world.until(world["a"].ask(agents[1], "note", 1))
    return world, agents


async def test_two_move_as_one_with_their_mail() -> None:
    world, agents = await pair()
    hop = world["a"].depart(agents, "b")
    await world.settle()
    asks = [world["a"].ask(agent, "note", 2) for agent in agents]  # they are frozen
    await world.until(hop)
    await world.crank()
    assert all(ask.done() for ask in asks) and hop.result().destination == "b"
    for agent in agents:
        assert epoch(world, agent) == ("b", 1) and world["b"].state(agent)["handled"] == [1, 2]
    await world.until(world["b"].depart(agents[:1], "a"))
    assert [epoch(world, agent) for agent in agents] == [("a", 2), ("b", 1)]


@pytest.mark.parametrize("restarted", [False, True])
async def test_when_one_of_them_is_given_away_before_the_move_the_other_stays(restarted: bool) -> None:
    """The ledger refuses the move whole."""
    world, agents = await pair()
    x, y = agents
    world.entries.quorum = False
    hop = world["a"].depart(agents, "b")
    await world.crank()
    ((_, move),) = world.entries.late
    assert isinstance(move, Move) and len(move.parts[0].agents) == 2
    world.entries.known[subject_of(OWNER.public, x)] = Residence(OWNER.public, 1, "c", (), 2)
    world.entries.quorum = True
    with pytest.raises(Exception, match="too late"):
        world.entries.decide("a", move)
    if restarted:
        world.crash("a")
    world.entries.follow()
    await world.heal()
    assert epoch(world, y) == ("a", 1) and world.holder(y) == "a" and world["a"].state(y)["handled"] == [1]
    assert world["a"].carrier.machine.went(x) == ("c", 1) and x not in world["a"].runner.copies
    for name in ("a", "b"):
        machine = world[name].carrier.machine
        assert not machine.leaving and not machine.arriving and not world[name].carrier.departures._journeys
    if not restarted:
        with pytest.raises(Unavailable, match=f"{x} does not leave a: .*; {y} stayed on a"):
            hop.result()
    again = await world.until(world["a"].depart([y], "b"))
    assert again.destination == "b" and epoch(world, y) == ("b", 2)


@pytest.mark.parametrize("victim", ["a", "b"])
async def test_two_that_the_ledger_moved_while_a_host_was_down_are_there(victim: str) -> None:
    world, agents = await pair()
    world.entries.quorum = False
    world["a"].depart(agents, "b")
    await world.crank()
    world.crash(victim)
    world.entries.quorum = True
    for caller, late in world.entries.late:
        world.entries.decide(caller, late)
    world.entries.follow()
    await world.heal()
    assert [epoch(world, agent) for agent in agents] == [("b", 1)] * 2
    assert [world.holder(agent) for agent in agents] == ["b", "b"]


async def test_one_that_has_gone_on_before_its_destination_heard_ends_there() -> None:
    """The destination was down, and a quorum gave it to another host meanwhile."""
    world, agents = await pair()
    x, y = agents
    world.entries.quorum = False
    world["a"].depart(agents, "b")
    await world.crank()
    world.crash("b")
    world.entries.quorum = True
    for caller, late in world.entries.late:
        world.entries.decide(caller, late)
    world.entries.known[subject_of(OWNER.public, x)] = Residence(OWNER.public, 2, "c", (), 3)
    world.entries.follow()
    await world.heal()
    assert world.holder(y) == "b" and x not in world["b"].runner.copies
    assert world["b"].carrier.machine.went(x) == ("c", 2)
    await world.until(world["b"].ask(y, "note", 2))


async def test_one_in_held_and_one_in_local_custody_do_not_move_as_one() -> None:
    world, agent = await start()
    other = await world.create("a", "y")
    with pytest.raises(Misuse, match=f"{agent} in held custody and {other} in local custody cannot move as one"):
        await world.until(world["a"].depart([agent, other], "b"))
    assert world.holder(agent) == world.holder(other) == "a"
    await world.until(world["a"].ask(agent, "note", 2))


async def decided_while_down(host: str) -> tuple[World, str]:
    """The ledger gives the agent to "b", and one of the two is killed after both have signed."""
    world, agent = await start()
    world.entries.quorum = False
    world["a"].depart([agent], "b")
    await world.crank()
    world.crash(host)
    world.entries.quorum = True
    for caller, late in world.entries.late:
        world.entries.decide(caller, late)
    return world, agent


async def test_what_the_ledger_decided_without_the_source_counts() -> None:
    """The source's host is killed after it signed."""
    world, agent = await decided_while_down("a")
    world.entries.follow()
    await world.heal()
    assert world.holder(agent) == "b" and epoch(world, agent) == ("b", 1)


async def test_what_the_ledger_decided_while_the_destination_was_down_counts() -> None:
    """Its chain knows when it starts, before the copy is opened again."""
    world, agent = await decided_while_down("b")
    await world.boot()
    await world.heal()
    assert world.holder(agent) == "b" and epoch(world, agent) == ("b", 1)
    await world.until(world["b"].ask(agent, "note", 2))
    assert world["b"].state(agent)["handled"] == [1, 2]


async def test_an_agent_that_the_ledger_gave_away_ends_here() -> None:
    world, agent = await start()
    subject = subject_of(OWNER.public, agent)
    world.entries.known[subject] = Residence(OWNER.public, 1, "c", (), 2)
    world.entries.follow()
    await world.crank()
    machine = world["a"].carrier.machine
    assert machine.here(agent) is None and machine.went(agent) == ("c", 1)
    assert agent not in world["a"].runner.copies and agent not in world["a"].carrier.residents.known
    world.crash("a")
    await world.boot()
    assert agent not in world["a"].runner.copies


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (lambda load: Cargo(load.agent, load.epoch), "is in held custody on a, at epoch 0"),  # as if it were local
        (lambda load: replace(load, subject=b"another's"), "stands under another subject"),
    ],
)
async def test_an_offer_that_does_not_go_with_the_ledger_is_refused(load: Any, why: str) -> None:
    world, agent = await start()
    send = world["a"].send

    def lie(host: str, raw: bytes) -> bool:
        message = codec.decode(raw, _MESSAGE)
        if isinstance(message, Offer):
            raw = codec.encode(replace(message, cargo=tuple(load(each) for each in message.cargo)))
        return send(host, raw)

    world["a"].send = lie  # type: ignore[method-assign]
    hop = world["a"].depart([agent], "b")
    await world.crank()
    with pytest.raises(Unavailable, match=why):
        hop.result()
    assert world.holder(agent) == "a" and epoch(world, agent) == ("a", 0)


async def test_an_agent_that_the_ledger_has_elsewhere_is_not_taken() -> None:
    """The source lies, or was started from an old copy of its data."""
    world, agent = await start()
    world.entries.known[subject_of(OWNER.public, agent)] = Residence(OWNER.public, 4, "c", (), 2)
    hop = world["a"].depart([agent], "b")
    await world.crank()
    with pytest.raises(Unavailable, match=r"does not say here that .* is on a at epoch 0: epoch 4 on c"):
        hop.result()
    assert world["b"].carrier.machine.here(agent) is None


@pytest.mark.parametrize("patient", [True, False])
async def test_an_agent_that_is_back_before_its_departure_is_durable_waits_for_that(patient: bool) -> None:
    """Its destination heard the ledger first, and gives it back at once; our disk is slow."""
    world, agent = await start()

    async def all_but_the_disk_of_a() -> None:
        await world.settle()
        while events := [event for event in world._events() if event != ("a",)]:
            await world._next(events)

    hop = world["a"].depart([agent], "b")
    while world["a"].carrier.machine.here(agent) is not None:
        await world.turn()
    await all_but_the_disk_of_a()
    assert world.runs.now[agent] == ("b", 1) and agent in world["a"].runner.copies
    back = world["b"].depart([agent], "a")
    await all_but_the_disk_of_a()
    assert not hop.done() and not back.done()
    if not patient:
        (transfer,) = world["b"].carrier.machine.leaving
        world["b"].carrier.step(GiveUp(transfer, "a test's deadline"))
        await all_but_the_disk_of_a()
        assert world.runs.now[agent] == ("b", 1) and isinstance(back.exception(), Unavailable)
    await world.crank()
    there = "a" if patient else "b"
    assert hop.result().destination == "b" and world.holder(agent) == there
    await world.until(world[there].ask(agent, "note", 2))
    assert world[there].state(agent)["handled"] == [1, 2]


async def test_the_destination_signs_when_received_is_durable() -> None:
    """[H3]"""
    world, agent = await start()
    signed: list[Accept] = []
    send = world["b"].send

    def listen(host: str, raw: bytes) -> bool:
        message = codec.decode(raw, _MESSAGE)
        if isinstance(message, Accept):
            durable = [type(record).__name__ for record in world["b"].journal.seen]
            assert durable == ["Received"] and len(message.promise) == 64
            signed.append(message)
        return send(host, raw)

    world["b"].send = listen  # type: ignore[method-assign]
    await world.until(world["a"].depart([agent], "b"))
    assert len(signed) == 1


async def test_a_false_promise_moves_nothing() -> None:
    world, agent = await start()
    send = world["b"].send

    def lie(host: str, raw: bytes) -> bool:
        message = codec.decode(raw, _MESSAGE)
        return send(host, codec.encode(replace(message, promise=bytes(64))) if isinstance(message, Accept) else raw)

    world["b"].send = lie  # type: ignore[method-assign]
    world["a"].depart([agent], "b")
    await world.crank()
    assert epoch(world, agent) == ("a", 0) and world["b"].carrier.machine.here(agent) is None


async def test_nothing_of_a_held_agent_leaves_without_a_lease() -> None:
    world, agent = await start()
    other = await world.create("b", "y")
    gateway, leased = world["a"].gateway, True
    gateway.may_leave = lambda who: leased or who != agent
    await world.until(world["a"].ask(agent, "pass on", [other, 5]))
    await world.crank()
    assert world["b"].state(other)["handled"] == [5]
    leased = False
    ask = world["a"].ask(agent, "pass on", [other, 6])
    await world.crank()
    assert world["b"].state(other)["handled"] == [5] and not ask.done()
    leased = True
    gateway.thawed()
    await world.until(ask)
    await world.crank()
    assert world["b"].state(other)["handled"] == [5, 6]


@pytest.mark.parametrize("asks", ["the agent", "its owner"])
async def test_what_was_captured_does_not_leave_when_its_worker_has_ended_and_it_goes_on(asks: str) -> None:
    """Else what it did since would be lost, and two copies would run."""
    world, agent = await start()
    here, leased, way = world["a"], False, asyncio.Event()
    if asks == "the agent":
        here.gateway.may_leave = lambda who: leased or who != agent
        here.lives.wants_to_go(agent, "b", here.runner.freeze(agent))  # and there is no lease
    else:
        here.carrier.departures._make_way = lambda *_: way.wait()  # type: ignore[assignment,return-value]
        state = here.runner.freeze(agent)
        hop = here.start(here.carrier.departures.depart([agent], "b", "a test", {agent: state}))
        await world.crank()
    here.runner.die(agent)
    here.died(agent, "it was killed")
    await world.crank()
    asked = here.ask(agent, "note", 2)
    await world.crank()
    assert here.state(agent)["handled"] == [1, 2]
    leased = True
    way.set()
    here.gateway.thawed()
    await world.until(asked)
    await world.crank()
    assert world.holder(agent) == "a" and here.state(agent)["handled"] == [1, 2]
    if asks == "its owner":
        with pytest.raises(Unavailable, match="its worker ended"):
            hop.result()


async def test_its_end_is_told_to_the_ledger_also_after_a_restart() -> None:
    world, agent = await start()
    world.entries.quorum = False
    await world.until(world["a"].start(world["a"].carrier.lifetimes.dispose(agent)))
    assert world["a"].carrier.machine.ended == {agent} and epoch(world, agent) == ("a", 0)
    world.crash("a")
    world.entries.quorum = True
    await world.boot()
    await world.heal()
    assert epoch(world, agent) == ("", 1) and world["a"].carrier.machine.ended == set()


async def test_an_agent_is_not_created_before_the_ledger_has_it() -> None:
    world = World("a", "b")
    await world.boot()
    _, certificate = world.birth("x", custody="held")
    world.entries.quorum = False
    with pytest.raises(Unavailable):
        await world["a"].carrier.lifetimes.create(certificate, CODE, b"", b"")
    assert world["a"].runner.asked == []

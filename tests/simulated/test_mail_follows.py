"""Mail follows agents: over chains of hops, past hosts that are offline or restarted, and past one that lies."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from agentplatform.bulletins import Residents
from agentplatform.mail import Letter, Reply
from agentplatform.mailroom.roads import Roads
from agentplatform.mailroom.sender import Sender
from agentplatform.parcel.manifest import MAX_EPOCH
from agentplatform.whereabouts import Located, Whereabouts, _Known
from ledger import codec
from ledger.links.base import Channel
from tests.helpers.edge_host import ANY_POST
from tests.helpers.edge_world import World

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")


class Wire:
    """Watches letters between hosts, and loses news for those that shall not hear it."""

    def __init__(self, world: World) -> None:
        self.letters: list[tuple[str, str]] = []
        self.deaf: set[str] = set()
        world.hub.drops = self._drops

    def _drops(self, source: str, target: str, channel: Channel, message: bytes) -> bool:
        if channel is Channel.MAIL:
            post = codec.decode(message, ANY_POST)
            if isinstance(post, Letter):
                self.letters.append((source, target))
        return channel is Channel.ADVERT and target in self.deaf

    def cost(self) -> list[tuple[str, str]]:
        letters, self.letters = self.letters, []
        return letters


async def moved(world: World, agent: str, *hosts: str) -> None:
    """The agent goes from the first host to the last."""
    for source, destination in pairwise(hosts):
        await world.until(world[source].depart([agent], destination))


async def asked(world: World, host: str, agent: str, body: object, rounds: int = 3) -> Reply:
    asking = world[host].ask(agent, "note", body)
    for _ in range(rounds):
        await world.crank()
        if asking.done():
            break
        world[host].remind()
    return await world.until(asking)


async def chain(roads: type[Roads] = Roads) -> tuple[World, Wire, str]:
    """x was on a when s heard of it last, and went on to b, c and d. Each host knows only where it sent x itself."""
    world = World("s", "a", "b", "c", "d", roads=roads)
    await world.boot()
    wire = Wire(world)
    x = await world.create("a", "x")
    wire.deaf = {"s", "a", "b", "c"}
    await moved(world, x, "a", "b", "c", "d")
    wire.deaf = set()
    return world, wire, x


async def test_a_chain_of_hops_costs_its_length_once_and_then_one() -> None:
    world, wire, x = await chain()
    assert (await asked(world, "s", x, 1)).ok
    assert wire.cost() == [("s", "a"), ("s", "b"), ("s", "c"), ("s", "d")]
    for number in (2, 3):
        assert (await asked(world, "s", x, number)).ok
        assert wire.cost() == [("s", "d")]
    assert world["d"].state(x)["handled"] == [1, 2, 3]
    world.close()


async def test_a_host_that_does_not_say_where_an_agent_went_is_caught() -> None:
    class Silent(Roads):
        def astray(self, agent: str, host: str) -> None: ...

    world, wire, x = await chain(Silent)
    asking = world["s"].ask(x, "note", 1)
    await world.crank()
    assert not asking.done() and wire.cost() == [("s", "a")]
    world.close()


@pytest.mark.parametrize("offline", ["a", "b", "c", "ab", "bc", "abc"])
async def test_hosts_on_the_way_may_be_offline(offline: str) -> None:
    """Any host that knows a later place helps, and the agent's own host has the whole trail."""
    world, wire, x = await chain()
    for host in offline:
        world.crash(host)
    await world.settle()
    assert (await asked(world, "s", x, 1)).ok
    wire.cost()
    assert (await asked(world, "s", x, 2)).ok
    assert wire.cost() == [("s", "d")]
    world.close()


async def test_a_restarted_host_knows_where_the_agents_went_that_left_it() -> None:
    world, wire, x = await chain()
    for host in "sabcd":
        world.crash(host)
    wire.deaf = {"s", "a"}
    await world.boot()
    assert world["a"].whereabouts.resolve("x") == x and world["a"].whereabouts.host_of(x) == "b"
    wire.deaf = set()
    assert (await asked(world, "a", x, 1)).ok and world["a"].whereabouts.host_of(x) == "d"
    world.close()


class Circling(Roads):
    """Asks wherever it is sent, also to an earlier place."""

    def __init__(self, host: str, whereabouts: Whereabouts, *rest: Any) -> None:
        super().__init__(host, whereabouts, *rest)
        whereabouts.hear = lambda teller, located: (
            whereabouts._known.update(  # type: ignore[method-assign]
                {located.agent: _Known(located, True, "")}
            )
            or True
        )


async def circle(roads: type[Roads]) -> list[tuple[str, str]]:
    """x went from a to b, c and a, and is about to arrive on b again: each host has sent it on. Returns what a
    letter from s costs."""
    world = World("s", "a", "b", "c", roads=roads)
    await world.boot()
    wire = Wire(world)
    x = await world.create("a", "x")
    wire.deaf = set("sabc")
    await moved(world, x, "a", "b", "c", "a")
    last = world["a"].depart([x], "b")
    while x in world["a"].carrier.residents.known:
        await world.turn()
    drops = world.hub.drops
    world.hub.drops = lambda *each: each[2] is Channel.HANDOFF or drops(*each)
    for pipe in world.hub.pipes.values():
        pipe.clear()  # the notice is lost
    wire.deaf = set()
    asking = world["s"].ask(x, "note", 1)
    for _ in range(20):
        await world.settle()
        if world._events():
            await world.turn()
    cost = wire.cost()
    world.hub.drops = drops
    await world.heal()
    assert asking.result().ok and last.done() and world["b"].state(x)["handled"] == [1]
    world.close()
    return cost


async def test_a_letter_does_not_go_in_circles_after_an_agent_that_does() -> None:
    assert await circle(Roads) == [("s", "a"), ("s", "b")]
    assert (await circle(Circling))[-1] == ("s", "a"), "it is back where it began"


@pytest.mark.parametrize("seed", range(4))
async def test_numbered_messages_in_flight_across_two_quick_hops_keep_their_order(seed: int) -> None:
    world = World("s", "a", "b", "c", seed=seed)
    await world.boot()
    x, y = await world.create("a", "x"), await world.create("s", "y")
    told = [world["s"].ask(y, "pass on", [x, number]) for number in range(100)]
    await world.settle()
    first = world["a"].depart([x], "b")
    while not first.done():
        await world.turn()
    second = world["b"].depart([x], "c")
    await world.until(second)
    await world.heal()
    assert all(each.result().ok for each in told)
    assert world["c"].state(x)["handled"] == list(range(100))
    assert first.result().source == "a" and second.result().destination == "c"
    world.close()


async def test_a_host_that_lies_about_an_agent_does_not_get_its_mail() -> None:
    """Not by claiming it, nor by what it says of others; nor when it had the agent before."""
    world = World("s", "a", "m")
    await world.boot()
    x = await world.create("a", "x")
    await moved(world, x, "a", "m", "a")
    wire = Wire(world)
    lies = [Located(x, MAX_EPOCH, "m"), Located(x, MAX_EPOCH, "s", 17), Located(x, 3, "m")]
    for lie in lies:
        world["m"].tell("s", Residents((lie,)))
        await world.crank()
        assert (await asked(world, "s", x, str(lie))).ok
    assert len(world["a"].state(x)["handled"]) == len(lies) and ("s", "m") not in wire.cost()
    world.close()


async def test_a_liar_that_is_believed_first_loses_its_turn() -> None:
    world = World("s", "a", "m")
    await world.boot()
    wire = Wire(world)
    wire.deaf = {"s"}
    x = await world.create("a", "x")
    wire.deaf = set()
    world["m"].tell("s", Residents((Located(x, MAX_EPOCH, "m"),)))
    await world.crank()
    world["m"].mailroom.receive = lambda host, raw: None  # type: ignore[method-assign]
    world["a"].tell("s", Residents((Located(x, 0, "a"),)))
    await world.crank()
    assert (await asked(world, "s", x, 1, rounds=6)).ok
    assert wire.cost()[0] == ("s", "m"), "it was believed, and kept the letter"
    world.close()


async def test_a_host_that_is_offline_is_not_taken_for_dead_and_is_named_when_time_is_over() -> None:
    world = World("a", "b")
    await world.boot()
    x, y = await world.create("a", "x"), await world.create("b", "y")
    world.crash("b")
    for patience in (None, 30):
        await world.until(world["a"].ask(x, "pass on", [y, patience, patience]))
    world.now += 12
    world["a"].remind()
    assert world["a"].printed_lines == []
    world.now += 19
    world["a"].remind()
    assert world["a"].printed_lines == ["'note' to " + y + " had no answer in time"]
    assert world["a"].roads.why_late(y) == "last heard of on b, which is offline for 31 s"
    await world.heal()
    assert world["b"].state(y)["handled"] == [None], "the one that may wait for ever came; the other was given up"
    world.close()


async def test_who_writes_to_an_agent_that_ended_hears_where_and_when_after_restarts_too() -> None:
    world = World("a", "b", "s")
    await world.boot()
    x = await world.create("a", "x")
    await moved(world, x, "a", "b")
    wire = Wire(world)
    wire.deaf = {"s", "a"}
    await world.until(world["b"].start(world["b"].carrier.lifetimes.dispose(x)))
    for _ in range(2):
        reply = await asked(world, "s", x, 1)
        assert not reply.ok and f"{x} ended on b at " in codec.decode(reply.body, str)
        for host in "abs":
            world.crash(host)
        await world.boot()
        wire.deaf = set()
    world.close()


class Outdated(Sender):
    """Sends again with the epoch of the first time."""

    def unanswered(self, *asked: Any) -> Iterator[Letter]:
        first = {(each.receiver, each.sequence): each.epoch for sent in self._sent.values() for each in sent.letters}
        for letter in super().unanswered(*asked):
            yield replace(letter, epoch=first[letter.receiver, letter.sequence])


async def after_a_loss() -> list[object]:
    """x came from r, so r knows its epochs for sure. A letter that it sent from a is lost, and the one after it, from
    b, says that there is a later epoch. Returns what y on r has read."""
    world = World("r", "a", "b")
    await world.boot()
    y, x = await world.create("r", "y"), await world.create("r", "x")
    await moved(world, x, "r", "a")
    await world.until(world["a"].ask(x, "pass on", [y, 1]))
    drops = world.hub.drops
    world.hub.drops = lambda source, target, channel, message: channel is Channel.MAIL and target == "r"
    await world.until(world["a"].ask(x, "pass on", [y, 2]))
    await moved(world, x, "a", "b")
    world.hub.drops = drops
    await world.until(world["b"].ask(x, "pass on", [y, 3]))
    for _ in range(3):
        world["b"].remind()
        await world.crank()
    world.close()
    return list(world["r"].state(y)["handled"])


async def test_what_is_sent_again_is_of_the_epoch_in_which_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await after_a_loss() == [1, 2, 3]
    monkeypatch.setattr("agentplatform.mailroom.room.Sender", Outdated)
    assert await after_a_loss() == [1]

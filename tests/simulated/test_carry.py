"""The edge of the handoff, one case at a time: hosts over disks and a network that are cranked."""

import asyncio
from typing import Any

import pytest

from agentplatform.custody import events, packing
from agentplatform.custody.messages import HandoffMessage, Offer
from agentplatform.custody.records import Commit
from agentplatform.custody.state import Phase
from agentplatform.settings import Handoff as Deadlines
from ledger import codec
from ledger.errors import Misuse, Unavailable
from ledger.links import frames
from ledger.links.base import Channel
from tests.helpers.edge_world import CODE, World
from tests.helpers.linked_hosts import until

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
_MESSAGE: Any = HandoffMessage


# One hop


async def test_a_hop_takes_the_state_and_the_mail_along(world: World) -> None:
    x = await world.create("a", "x")
    await world.until(world["a"].ask(x, "note", 1))
    hop = await world.until(world["a"].depart([x], "b"))
    assert (hop.source, hop.destination) == ("a", "b") and world["a"].hops == [hop]
    assert world.holder(x) == "b"
    assert world["b"].state(x) == {"handled": [1], "failed": [], "arrivals": [["b", 1]]}
    assert (await world.until(world["a"].ask(x, "note", 2))).ok
    assert world["b"].state(x)["handled"] == [1, 2]


async def test_a_group_moves_under_one_commit(world: World) -> None:
    agents = [await world.create("a", name) for name in ("x", "y", "z")]
    await world.until(world["a"].depart(agents, "b"))
    assert [world.holder(agent) for agent in agents] == ["b", "b", "b"]
    assert sum(isinstance(record, Commit) for record in world["a"].journal.seen) == 1


async def test_a_group_stays_when_one_of_it_cannot_be_opened(world: World) -> None:
    agents = [await world.create("a", name) for name in ("x", "y", "z")]
    world.refuses["b"][agents[1]] = "b has no module 'cv2'"
    with pytest.raises(Unavailable, match="stayed on a: b refused: b has no module 'cv2'"):
        await world.until(world["a"].depart(agents, "b"))
    for agent in agents:
        assert world.holder(agent) == "a"
        (reason,) = world["a"].state(agent)["failed"]
        assert "cv2" in reason
    assert world["b"].runner.copies == {}
    world.refuses["b"].clear()
    await world.until(world["a"].depart(agents, "b"))
    assert [world.holder(agent) for agent in agents] == ["b", "b", "b"]


async def test_a_group_stays_when_one_of_it_cannot_be_captured(world: World) -> None:
    agents = [await world.create("a", name) for name in ("x", "y", "z")]
    world["a"].runner.unpicklable[agents[2]] = "self.lock"
    with pytest.raises(Misuse, match=r"self\.lock"):
        await world.until(world["a"].depart(agents, "b"))
    for agent in agents:
        assert world.holder(agent) == "a"
        assert "self.lock" in world["a"].state(agent)["failed"][0]
        assert (await world.until(world["b"].ask(agent, "note", 1))).ok


async def test_nothing_is_left_of_a_hop_but_the_forwarding_address(world: World) -> None:
    x = await world.create("a", "x")
    await world.until(world["a"].depart([x], "b"))
    assert world["a"].runner.copies == {} and x not in world["a"].mailroom.boxes
    assert not world["a"].carrier.departures.moving(x)
    with pytest.raises(Misuse, match=r"not on a: it went to b; ask there"):
        await world.until(world["a"].depart([x], "b"))


# The beginning and the end of a life


async def test_nobody_is_told_of_a_birth_that_is_not_durable(world: World) -> None:
    birth, certificate = world.birth("x")
    creation = world["a"].start(world["a"].carrier.lifetimes.create(certificate, CODE, b""))
    await world.messages_only()
    ask = world["b"].ask(birth.agent, "note", 1)
    await world.messages_only()
    assert world.runs.now[birth.agent] == ("a", 0) and not creation.done() and not ask.done()
    world.crash("a")
    await world.heal()
    assert creation.cancelled() and world.runs.now == {}
    assert birth.agent not in world["a"].carrier.machine.agents


async def test_nobody_is_told_of_an_end_that_is_not_durable(world: World) -> None:
    x = await world.create("a", "x")
    disposal = world["a"].start(world["a"].carrier.lifetimes.dispose(x))
    await world.messages_only()
    assert not disposal.done() and world["b"].whereabouts.host_of(x) == "a"
    world.crash("a")
    await world.heal()
    assert world.holder(x) == "a" and (await world.until(world["b"].ask(x, "note", 1))).ok
    await world.until(world["a"].start(world["a"].carrier.lifetimes.dispose(x)))
    assert world["b"].whereabouts.host_of(x) == "" and x not in world.runs.now
    reply = await world.until(world["b"].ask(x, "note", 2))
    assert not reply.ok and "ended on a at" in codec.decode(reply.body, str)
    world.crash("a")
    await world.heal()
    assert world.runs.now == {}


# Messages that come twice, late, or after one another in one turn


async def test_every_message_twice(world: World) -> None:
    deliver = world.hub.deliver

    def twice(ends: tuple[str, str]) -> None:
        pipe = world.hub.pipes[ends]
        message = pipe[0]
        deliver(ends)
        if world.hub.pipes.get(ends) is pipe:
            pipe.appendleft(message)
            deliver(ends)

    world.hub.deliver = twice  # type: ignore[method-assign]
    x = await world.create("a", "x")
    for to, back in (("b", "a"), ("a", "b")):
        asks = [world[host].ask(x, "note", number) for number, host in enumerate("ab")]
        await world.until(world[back].depart([x], to))
        await world.heal()
        assert world.holder(x) == to
        assert all(ask.done() for ask in asks)
    assert sorted(world["a"].state(x)["handled"]) == [0, 0, 1, 1]


async def test_every_message_of_two_hops_comes_again_late(world: World) -> None:
    late: list[tuple[str, str, Channel, bytes]] = []

    def note(*message: Any) -> bool:
        late.append(message)
        return False

    world.hub.drops = note
    x = await world.create("a", "x")
    ask = world["b"].ask(x, "note", 1)
    for source, to in (("a", "b"), ("b", "a"), ("a", "b")):
        await world.until(world[source].depart([x], to))
    assert ask.done()
    before, seen = codec.encode(world["b"].state(x)), late.copy()
    for source, target, channel, message in seen:
        world.hub.pipes[source, target].append((channel, message))
        await world.crank()
        assert world.holder(x) == "b" and codec.encode(world["b"].state(x)) == before


async def test_offers_that_come_in_one_turn_of_the_loop() -> None:
    """The second is verified before the examination of the first begins."""
    world = World("a", "b", "c")
    await world.boot()
    x, y, z = await world.create("a", "x"), await world.create("a", "y"), await world.create("c", "z")
    moves = [world["a"].depart([x], "b"), world["a"].depart([y], "b"), world["c"].depart([z], "b")]
    await world.settle()
    for ends in (("a", "b"), ("a", "b"), ("c", "b")):
        world.hub.deliver(ends)
    await world.crank()
    assert all(move.done() for move in moves)
    assert [world.holder(agent) for agent in (x, y, z)] == ["b", "b", "b"]
    world.close()


async def test_an_offer_and_its_end_in_one_turn_of_the_loop(world: World) -> None:
    x = await world.create("a", "x")
    move = world["a"].depart([x], "b")
    await world.settle()
    (transfer,) = world["a"].carrier.machine.leaving
    world["a"].carrier.step(events.GiveUp(transfer, "changed its mind"))
    world.hub.deliver(("a", "b"))
    world.hub.deliver(("a", "b"))
    await world.crank()
    with pytest.raises(Unavailable, match="changed its mind"):
        move.result()
    assert world["b"].runner.copies == {}
    await world.until(world["a"].depart([x], "b"))
    assert world.holder(x) == "b"


@pytest.mark.parametrize("outcome", ["opened", "refused"])
async def test_a_second_offer_while_the_copy_of_the_first_is_still_being_opened(world: World, outcome: str) -> None:
    """The end of the first, late, must not end the second."""
    x = await world.create("a", "x")
    slow = world["b"].runner.hangs[x] = asyncio.Event()
    first = world["a"].depart([x], "b")
    await world.crank()
    (transfer,) = world["a"].carrier.machine.leaving
    world["a"].carrier.step(events.GiveUp(transfer, "it takes too long"))
    await world.crank()
    assert isinstance(first.exception(), Unavailable)
    second = world["a"].depart([x], "b")
    await world.crank()
    assert not second.done() and world["b"].runner.asked.count(("open", x)) == 1
    if outcome == "refused":
        world.refuses["b"][x] = "b has no module 'cv2'"
    slow.set()
    del world["b"].runner.hangs[x]
    await world.crank()
    assert second.done() and world.holder(x) == ("b" if outcome == "opened" else "a")
    if outcome == "refused":
        assert "cv2" in str(second.exception())
        assert world["b"].runner.copies == {}


# What ends an offer


async def test_a_destination_that_vanishes_after_it_accepted(world: World) -> None:
    x = await world.create("a", "x")
    world["a"].depart([x], "b")
    while world["a"].carrier.machine.here(x) is not None:  # until COMMIT
        await world.turn()
    world.crash("b")
    await world.crank()
    ((_, held),) = world["a"].carrier.machine.leaving.items()
    assert (held.peer, held.phase) == ("b", Phase.COMMITTED)  # in doubt: it says for whom it waits
    assert x not in world.runs.now
    ask = world["a"].ask(x, "note", 1)
    await world.crank()
    assert not ask.done()
    await world.heal()
    assert world.holder(x) == "b" and ask.result().ok


async def test_a_destination_that_never_answers() -> None:
    world = World("a", "b", deadlines=Deadlines(offer_deadline=0.01))
    await world.boot()
    x = await world.create("a", "x")
    never = world["b"].runner.hangs[x] = asyncio.Event()
    move = world["a"].depart([x], "b")
    await world.crank()
    await until(move.done)
    with pytest.raises(Unavailable, match=r"stayed on a: b did not answer the offer within 0.01 s"):
        move.result()
    assert "did not answer" in world["a"].state(x)["failed"][0]
    never.set()
    await world.crank()
    assert world.holder(x) == "a" and world["b"].runner.copies == {}
    world.close()


async def test_a_caller_who_gives_up_leaves_no_frozen_agent() -> None:
    """The deadline of an offer is the offer's, not its caller's."""
    world = World("a", "b", deadlines=Deadlines(offer_deadline=0.01))
    await world.boot()
    x = await world.create("a", "x")
    for turns in range(6):
        hang = world["b"].runner.hangs[x] = asyncio.Event()
        move = world["a"].depart([x], "b")
        for _ in range(turns):
            await asyncio.sleep(0)
        move.cancel()
        await world.crank()
        await until(lambda: world["a"].name in world.runs.now.get(x, ()))
        hang.set()
        await world.crank()
        assert world.holder(x) == "a" and move.cancelled()
    assert "did not answer" in world["a"].state(x)["failed"][-1]
    world.close()


async def test_an_agent_whose_text_is_not_there(world: World) -> None:
    x = await world.create("a", "x")
    world.refuses["b"][x] = "b has no module 'skimage'; it runs Python 3.13, the agent was captured by 3.11"
    with pytest.raises(Unavailable, match=r"b refused: b has no module 'skimage'; it runs Python 3.13"):
        await world.until(world["a"].depart([x], "b"))
    assert world.holder(x) == "a"
    assert "skimage" in world["a"].state(x)["failed"][0]
    assert (await world.until(world["b"].ask(x, "note", 1))).ok


async def test_a_destination_without_room(world: World) -> None:
    x = await world.create("a", "x")
    world["b"].short = "memory: 3 MiB free, 9 MiB needed"
    with pytest.raises(Unavailable, match="b has no room: memory: 3 MiB free"):
        await world.until(world["a"].depart([x], "b"))
    assert world.holder(x) == "a" and ("open", x) not in world["b"].runner.asked


async def test_a_closed_host_takes_nobody_and_makes_nobody_and_lets_go_of_whom_it_has(world: World) -> None:
    x, y = await world.create("a", "x"), await world.create("b", "y")
    world["b"].closed_for = "being drained"
    with pytest.raises(Unavailable, match="b is being drained and takes no agents; name another host"):
        await world.until(world["a"].depart([x], "b"))
    assert world.holder(x) == "a" and ("open", x) not in world["b"].runner.asked
    with pytest.raises(Unavailable, match="b is being drained and takes no new agents"):
        await world.create("b", "z")
    with pytest.raises(Unavailable, match="b is being drained and takes no new agents"):
        await world.until(world["b"].start(world["b"].carrier.lifetimes.clone(y)))
    await world.until(world["b"].depart([y], "a"))
    assert world.holder(y) == "a" and not world["b"].runner.copies


@pytest.mark.parametrize(
    ("late", "words"), [("a", r"x-.* stayed on a: the ledger is old"), ("b", "b takes no agents: the ledger is old")]
)
async def test_nothing_new_rests_on_a_ledger_that_is_behind(world: World, late: str, words: str) -> None:
    x = await world.create("a", "x")
    world[late].outdated = "the ledger is old"
    with pytest.raises(Unavailable, match=words):
        await world.until(world["a"].depart([x], "b"))
    assert world.holder(x) == "a" and ("open", x) not in world["b"].runner.asked
    world[late].outdated = ""
    await world.until(world["a"].depart([x], "b"))
    assert world.holder(x) == "b"


async def test_an_agent_does_not_go_where_the_claims_are_not_what_is_asked_for_here(world: World) -> None:
    x = await world.create("a", "x")
    world["a"].lacking = "its claim says jail 'rlimits'"
    with pytest.raises(Misuse, match=r"x-.* to b: its claim says jail 'rlimits' \(host.toml, \[trust\]\)"):
        await world.until(world["a"].depart([x], "b"))
    assert world.holder(x) == "a" and ("open", x) not in world["b"].runner.asked
    y = await world.create("b", "y")
    await world.until(world["b"].depart([y], "a"))  # who comes is not asked
    assert world.holder(y) == "a"


async def test_a_destination_that_is_revoked_between_offer_and_accept(world: World) -> None:
    """The link may be there still: the ledger's word counts."""
    x = await world.create("a", "x")
    move = world["a"].depart([x], "b")
    while not world["b"].journal.durable.arriving:  # until RECEIVED: the ACCEPT is on its way
        await world.turn()
    del world.registry["b"]
    await world.crank()
    with pytest.raises(Unavailable, match="b is not trusted any more: revoked by a vote"):
        move.result()
    assert world.holder(x) == "a" and world["b"].runner.copies == {}
    with pytest.raises(Misuse, match="b is not trusted by the ledger at height 7"):
        await world.until(world["a"].depart([x], "b"))
    assert "revoked" in world["a"].state(x)["failed"][0] and (await world.until(world["a"].ask(x, "note", 1))).ok


async def test_an_agent_that_goes_on_at_once_waits_until_its_arrival_is_durable(world: World) -> None:
    x = await world.create("a", "x")
    offered: list[bool] = []

    def watch(source: str, target: str, channel: Channel, message: bytes) -> bool:
        if source == "b" and channel is Channel.HANDOFF and isinstance(codec.decode(message, _MESSAGE), Offer):
            offered.append(world["b"].journal.durable.here(x) is not None)
        return False

    world.hub.drops = watch
    move = world["a"].depart([x], "b")
    await world.settle()
    ask = world["a"].ask(x, "go", "a")  # it is frozen: the order comes with the notice
    await world.until(move)
    assert offered == [True] and ask.done() and world.holder(x) == "a"


# What is too large, and what dies on the way


async def test_what_is_larger_than_a_message_stays_and_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (packing, frames):
        monkeypatch.setattr(module, "MAX_MESSAGE_BYTES", 100_000)
    x = await world.create("a", "x")
    world["a"].state(x)["ballast"] = bytes(100_000)
    with pytest.raises(Misuse, match=r"state, mail and code have .* at most"):
        await world.until(world["a"].depart([x], "b"))
    assert world.holder(x) == "a"
    assert "at most" in world["a"].state(x)["failed"][0]


async def test_mail_larger_than_a_message_comes_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """COMMIT is durable: a notice that cannot be sent would leave the agent on no host."""
    monkeypatch.setattr(packing, "MAX_MAIL_BYTES", 5_000)
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 10_000)
    x = await world.create("a", "x")
    move = world["a"].depart([x], "b")
    await world.settle()
    asks = [world["a"].ask(x, "note", [number, bytes(1_000)]) for number in range(20)]
    await world.crank()
    assert move.done()
    for _ in range(20):
        world["a"].remind()
        await world.crank()
    assert all(ask.done() for ask in asks)
    assert [number for number, _ in world["b"].state(x)["handled"]] == list(range(20))


@pytest.mark.parametrize("fate", ["arrives", "stays", "cannot stay"])
async def test_a_worker_that_dies_while_its_agent_is_on_offer(
    world: World, fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    x = await world.create("a", "x")
    await world.until(world["a"].ask(x, "note", 1))
    if fate != "arrives":
        world.refuses["b"][x] = "b has no module 'cv2'"
    if fate == "cannot stay":
        world.refuses["a"][x] = "a has it no more either"
    move = world["a"].depart([x], "b")
    await world.settle()
    world["a"].runner.die(x)
    world["a"].died(x, "killed")
    await world.crank()
    assert (move.exception() is None) == (fate == "arrives")
    if fate == "cannot stay":
        assert world["a"].carrier.lifetimes.state_of(x) == "stranded"
        assert "a has it no more either" in caplog.text
        caplog.clear()
        world.crash("a")
        world.refuses["a"].clear()
        await world.heal()
    else:
        assert (await world.until(world["a"].ask(x, "note", 2))).ok
    assert world.holder(x) == ("b" if fate == "arrives" else "a")
    state = world[world.holder(x)].state(x)
    assert state["handled"][:1] == [1]
    if fate == "stays":
        assert "cv2" in state["failed"][0] and state["handled"] == [1, 2]


@pytest.mark.parametrize("fate", ["runs", "is stranded", "stays away"])
async def test_a_worker_that_dies_while_its_copy_is_inert(
    world: World, fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    x = await world.create("a", "x")
    await world.until(world["a"].ask(x, "note", 1))
    world["a"].depart([x], "b")
    while not world["b"].journal.durable.arriving:  # until RECEIVED
        await world.turn()
    world["b"].runner.die(x)
    world["b"].died(x, "killed")
    if fate == "is stranded":
        world.refuses["b"][x] = "b has no module 'cv2' any more"
    if fate == "stays away":
        world.hub.cut("a", "b")  # the ACCEPT is lost
    await world.crank()
    await world.heal()
    if fate == "is stranded":
        assert world["b"].carrier.lifetimes.state_of(x) == "stranded"
        assert "no module 'cv2' any more" in caplog.text
        caplog.clear()
        world.crash("b")
        world.refuses["b"].clear()
        await world.heal()
    assert world.holder(x) == ("a" if fate == "stays away" else "b")
    assert (await world.until(world["a"].ask(x, "note", 2))).ok
    assert world[world.holder(x)].state(x)["handled"] == [1, 2]
    await world.until(world[world.holder(x)].depart([x], "a" if world.holder(x) == "b" else "b"))


async def test_a_copy_that_cannot_be_opened_after_a_restart_is_stranded_and_not_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    x = await world.create("a", "x")
    await world.until(world["a"].ask(x, "note", 1))
    world["a"].depart([x], "b")
    while world["a"].carrier.machine.here(x) is not None:  # until COMMIT
        await world.turn()
    world.crash("b")
    world.refuses["b"][x] = "b has no module 'cv2' any more"
    await world.heal()
    assert world["b"].carrier.lifetimes.state_of(x) == "stranded" and x not in world.runs.now
    assert [located.host for located in world["b"].whereabouts.alive()] == ["b"]
    world.crash("b")
    world.refuses["b"].clear()
    await world.heal()
    assert world.holder(x) == "b" and world["b"].state(x)["handled"] == [1]
    assert "could not be opened: b has no module 'cv2' any more" in caplog.text
    caplog.clear()


async def test_an_agent_does_not_stop_for_a_move_over_a_link_that_is_down(world: World) -> None:
    x = await world.create("a", "x")
    world.hub.cut("a", "b")
    await world.crank()
    failed = world["a"].depart([x], "b")
    await world.crank()
    with pytest.raises(Unavailable, match="there is no link to b now"):
        failed.result()
    assert ("capture", x) not in world["a"].runner.asked and world["a"].state(x)["failed"] == []
    await world.until(world["a"].ask(x, "go", "b"))  # frozen at its own wish: it hears of it
    await world.crank()
    assert "there is no link to b now" in world["a"].state(x)["failed"][0] and world.holder(x) == "a"

"""Declarations of loss at their edge: who is asked, what binds whom, and a source that comes back after all."""

from typing import Any

import pytest
from msgspec.structs import replace

from agentplatform.custody.declaring import fresh
from agentplatform.custody.messages import Canvass, Cargo, Forswear, HandoffMessage, Object
from agentplatform.custody.waits import waits
from agentplatform.parcel.manifest import agent_digest
from ledger import codec
from ledger.contracts.losses import Copy, Declaration, Declare, Statement
from ledger.errors import Misuse, PeerFault, Unavailable
from tests.helpers.edge_world import World
from tests.helpers.linked_hosts import CHAIN, identity

pytest_plugins = "tests.helpers.edge_fixtures"
_MESSAGE: Any = HandoffMessage


async def in_doubt(*names: str, count: int = 1) -> tuple[World, list[str]]:
    """Agents of a were on their way to b, which has inert copies, when a crashed; there are c, and whoever is named."""
    world = World("a", "b", "c", *names)
    await world.boot()
    world.entries.members = {"b", "c", *names}
    agents = [await world.create("a", f"x{i}") for i in range(count)]
    for agent in agents:
        await world.until(world["a"].ask(agent, "note", 1))
    world["a"].depart(agents, "b")
    await world.settle()
    while not any(world["b"].carrier.machine.arriving.values()):
        await world.turn()
    world.hub.cut("a", "b")  # the answer does not come
    await world.crank()
    world.crash("a")
    await world.crank()
    (wait,) = waits(world["b"].carrier.machine, False)
    assert (wait.waits_for, sorted(wait.agents)) == ("a", sorted(agents))
    return world, agents


async def declared(world: World, agent: str) -> None:
    await world.until(world["b"].start(world["b"].carrier.declarations.declare(agent, 60.0)))
    await world.crank()


@pytest.mark.parametrize("count", [1, 2])
async def test_the_copies_go_on_with_what_they_knew_at_the_fresh_epoch(count: int) -> None:
    world, agents = await in_doubt("d", count=count)
    await declared(world, agents[0])
    for agent in agents:
        assert world.holder(agent) == "b" and world["b"].carrier.machine.here(agent) == 2
        await world.until(world["b"].ask(agent, "note", 2))
        assert world["b"].state(agent)["handled"] == [1, 2]
    hop = await world.until(world["b"].depart(agents, "c"))
    assert hop.destination == "c" and world["c"].carrier.machine.here(agents[0]) == 3
    world.close()


@pytest.mark.parametrize("when", range(6))
async def test_the_source_comes_back_and_sees_the_declaration_before_it_resumes(when: int) -> None:
    """With its disk as it was: the agent was on offer there. Also when b was started again in between."""
    world, (agent,) = await in_doubt()
    await declared(world, agent)
    if when % 2:
        world.crash("b")
        await world.boot("b")
    for _ in range(when // 2):
        world.crash("a")
        await world.boot("a")
    await world.heal()
    assert world.holder(agent) == "b" and world["a"].carrier.machine.went(agent) == ("b", 2)
    assert agent not in world["a"].runner.copies
    world.close()


async def test_what_was_declared_while_the_host_with_the_copies_was_down_counts() -> None:
    """Its chain knows when it starts, before the copies are opened again."""
    world, agents = await in_doubt(count=2)
    transfer = world["b"].carrier.machine.arriving_by[agents[0]]
    world.crash("b")
    entry = Declaration(2, "a", "b", transfer, 1)
    world.entries.declared = {agent_digest(agent): entry for agent in agents}
    await world.boot("b")
    await world.crank()
    for agent in agents:
        assert world.holder(agent) == "b" and world["b"].carrier.machine.here(agent) == 2
        await world.until(world["b"].ask(agent, "note", 2))
        assert world["b"].state(agent)["handled"] == [1, 2]
    world.close()


async def test_a_host_that_does_not_answer_blocks_it_and_is_named() -> None:
    world, (agent,) = await in_doubt("d")
    world.crash("d")
    task = world["b"].start(world["b"].carrier.declarations.declare(agent, 0.0))
    await world.crank()
    with pytest.raises(Unavailable, match="not signed by c, d"):
        task.result()
    task = world["b"].start(world["b"].carrier.declarations.declare(agent, 0.2))
    await world.crank()
    with pytest.raises(Unavailable, match="not signed by d:"):
        await task
    assert world["b"].carrier.machine.here(agent) is None and not world.entries.declared
    await world.boot("d")
    await declared(world, agent)  # and it can be asked again
    assert world["b"].carrier.machine.here(agent) == 2
    world.close()


async def test_an_objection_ends_it_at_once() -> None:
    world, (agent,) = await in_doubt()
    cargo = world["b"].carrier.machine.arriving[world["b"].carrier.machine.arriving_by[agent]].cargo
    machine = world["c"].carrier.machine
    machine.arriving_by[agent] = b"\7" * 16
    machine.arriving[b"\7" * 16] = replace(next(iter(world["b"].carrier.machine.arriving.values())), cargo=cargo)
    with pytest.raises(Misuse, match="c objects: c has a copy of x0"):
        await declared(world, agent)
    assert not world.entries.declared
    world.close()


async def test_only_an_inert_copy_is_declared() -> None:
    world, (agent,) = await in_doubt()
    with pytest.raises(Misuse, match=r"no inert copy of .* is on c"):
        await world.until(world["c"].start(world["c"].carrier.declarations.declare(agent, 1.0)))
    await declared(world, agent)
    with pytest.raises(Misuse, match="no inert copy"):
        await declared(world, agent)
    world.close()


async def test_a_signature_is_for_what_the_chain_says_there() -> None:
    """c's chain has a declaration of the agent that b's lacks: c signs that, and b goes on asking."""
    world, (agent,) = await in_doubt()
    task = world["b"].start(world["b"].carrier.declarations.declare(agent, 0.2))
    await world.settle()
    digest = agent_digest(agent)
    transfer = world["b"].carrier.machine.arriving_by[agent]
    said = Statement(CHAIN, transfer, "a", "b", (Copy(digest, 2, 1),))
    answer = Forswear(transfer, said.sign(identity("c")))
    world["b"].carrier.receive("c", codec.encode(answer))
    world.hub.cut("b", "c")
    with pytest.raises(Unavailable, match="not signed by c"):
        await task
    world.close()


# What a hostile host may ask


async def asked(world: World, agent: str, **change: Any) -> Canvass:
    machine, parcels = world["b"].carrier.machine, world["b"].carrier.arrivals.parcels
    transfer = machine.arriving_by[agent]
    manifests = tuple(parcel.manifest for parcel in parcels(transfer))
    return replace(Canvass(transfer, "a", machine.arriving[transfer].cargo, manifests), **change)


@pytest.mark.parametrize(
    "change",
    [
        {"cargo": (Cargo("stranger-0123456789abcdef", 1),)},
        {"source": "c"},
        {"source": "b"},
        {"transfer": bytes(16)},
        {"manifests": ()},
        {"manifests": (b"",)},
        {"cargo": (), "manifests": ()},
    ],
)
async def test_nobody_is_bound_by_who_cannot_show_the_sources_offer(change: dict[str, Any]) -> None:
    """Else any host could keep any agent from going anywhere."""
    world, (agent,) = await in_doubt()
    question = await asked(world, agent, **change)
    with pytest.raises(PeerFault):
        world["c"].carrier.receive("b", codec.encode(question))
    assert not world["c"].carrier.machine.sworn
    world.close()


async def test_an_epoch_out_of_the_air_or_anothers_offer_binds_nobody() -> None:
    world, (agent,) = await in_doubt("d")
    question = await asked(world, agent)
    far = replace(question, cargo=(replace(question.cargo[0], epoch=2**62),))
    for host, message in (("b", far), ("d", question)):  # d shows what was offered to b
        with pytest.raises(PeerFault, match="something else"):
            world["c"].carrier.receive(host, codec.encode(message))
    held = replace(question, cargo=(replace(question.cargo[0], subject=b"its residence"),))
    world["c"].carrier.receive("b", codec.encode(held))
    pipe = world.hub.pipes["c", "b"]
    answers = [codec.decode(raw, _MESSAGE) for _, raw in pipe]
    assert [type(each) for each in answers] == [Object] and not world["c"].carrier.machine.sworn
    world.close()


async def test_answers_that_nobody_asked_for_change_nothing() -> None:
    world, (agent,) = await in_doubt()
    transfer = world["b"].carrier.machine.arriving_by[agent]
    for word in (Object(transfer, "no"), Forswear(transfer, bytes(64)), Forswear(bytes(16), b"")):
        world["b"].carrier.receive("c", codec.encode(word))
    await declared(world, agent)
    assert world["b"].carrier.machine.here(agent) == 2
    world.close()


async def test_of_two_declarations_one_passes() -> None:
    world, (agent,) = await in_doubt()
    await declared(world, agent)
    copies = tuple(Copy(agent_digest(load.agent), load.epoch, 0) for load in fresh((Cargo(agent, 1),)))
    said = Statement(CHAIN, bytes(16), "a", "c", copies)
    with pytest.raises(Misuse, match="too late"):
        world.entries.declare("c", Declare(bytes(16), "a", "c", copies, (("b", said.sign(identity("b"))),)))
    world.close()

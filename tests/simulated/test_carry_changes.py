"""A change of an agent's custody at its edge: what the ledger, the worker, the mail and other hosts see of it, and a
crash at every point of it."""

import asyncio
from typing import Any

import pytest

from agentplatform.commands import Command
from agentplatform.custody import lifetimes, packing
from agentplatform.custody.events import GiveUp
from agentplatform.custody.residences import consent, subject_of
from agentplatform.custody.waits import LEDGER, waits
from agentplatform.messages import Custody
from agentplatform.parcel.manifest import agent_id
from ledger.contracts.residence import Abort, End, Forgo, Found, Residence
from ledger.errors import Misuse, Unavailable
from ledger.identity import Identity
from tests.helpers.edge_world import OWNER, World
from tests.helpers.linked_hosts import CHAIN

pytest_plugins = "tests.helpers.edge_fixtures"
OTHER: dict[Custody, Custody] = {"local": "held", "held": "local"}


async def start(custody: Custody, **options: Any) -> tuple[World, str]:
    """x, in that custody, is on a and has noted 1; there is b."""
    world = World("a", "b", **options)
    await world.boot()
    agent = await world.create("a", "x", custody)
    await world.until(world["a"].ask(agent, "note", 1))
    return world, agent


def entry(world: World, agent: str) -> tuple[str, int] | None:
    now = world.entries.known.get(subject_of(OWNER.public, agent))
    return None if now is None else (now.host, now.epoch)


def in_custody(world: World, agent: str) -> Custody:
    """As its host, its worker and the ledger have it; the three agree."""
    host = world[world.holder(agent)]
    custody = host.carrier.machine.custody(agent)
    known, now = host.carrier.machine.agents[agent], entry(world, agent)
    if custody == "held":
        assert now == (host.name, known.epoch)
    else:
        assert now is None or (now[0] == "" and now[1] <= known.epoch)
    assert host.carrier.residents.known[agent].birth.custody == custody
    assert host.runner.custody.get(agent, custody) == custody
    return custody


async def test_a_state_that_holders_do_not_take_stays_in_local_custody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_STATE_BYTES", 2 << 20)
    world, agent = await start("local")
    world["a"].state(agent)["ballast"] = bytes(3 << 20)
    with pytest.raises(Misuse, match=r"at most .* are taken, for its holders"):
        await world.until(world.change("a", agent, "held"))
    assert entry(world, agent) is None and in_custody(world, agent) == "local"
    assert not world.spools["a"].files
    world["a"].state(agent)["ballast"] = b""
    await world.until(world.change("a", agent, "held"))
    assert in_custody(world, agent) == "held"
    world.close()


async def test_it_goes_on_in_the_other_custody_at_the_next_epoch_and_moves_in_that() -> None:
    world, agent = await start("local")
    await world.until(world.change("a", agent, "held"))
    assert entry(world, agent) == ("a", 1) and in_custody(world, agent) == "held"
    await world.until(world["a"].ask(agent, "note", 2))
    assert world["a"].state(agent) == {"handled": [1, 2], "failed": [], "arrivals": [["a", 1]]}
    await world.until(world["a"].depart([agent], "b"))
    assert entry(world, agent) == ("b", 2)
    await world.until(world.change("b", agent, "local"))
    assert entry(world, agent) == ("", 3) and in_custody(world, agent) == "local"
    await world.until(world["b"].depart([agent], "a"))
    assert entry(world, agent) == ("", 3) and world["a"].carrier.machine.here(agent) == 4
    await world.until(world.change("a", agent, "held"))  # above all earlier epochs
    assert entry(world, agent) == ("a", 5) and in_custody(world, agent) == "held"
    await world.until(world["b"].ask(agent, "note", 3))
    assert world["a"].state(agent)["handled"] == [1, 2, 3]


async def test_what_is_in_that_custody_already_does_not_change() -> None:
    world, agent = await start("local")
    await world.until(world.change("a", agent, "local"))
    assert world["a"].carrier.machine.here(agent) == 0 and entry(world, agent) is None


@pytest.mark.parametrize("custody", ["local", "held"])
async def test_a_restart_finds_it_in_the_custody_that_it_changed_to(custody: Custody) -> None:
    """Its birth certificate still has the other."""
    world, agent = await start(custody)
    await world.until(world.change("a", agent, OTHER[custody]))
    await world.until(world["a"].ask(agent, "note", 2))
    world.crash("a")
    await world.boot()
    await world.heal()
    assert in_custody(world, agent) == OTHER[custody]
    assert world["a"].runner.custody[agent] == OTHER[custody]  # which worker it is in, and whether that needs a lease
    assert world["a"].state(agent)["handled"] == [1, 2]
    await world.until(world["a"].depart([agent], "b"))
    assert in_custody(world, agent) == OTHER[custody] and world["b"].runner.custody[agent] == OTHER[custody]


async def test_mail_that_comes_meanwhile_follows_it() -> None:
    world, agent = await start("local")
    change = world.change("a", agent, "held")
    await world.settle()
    asks = [world[name].ask(agent, "note", note) for name, note in (("a", 2), ("b", 3))]  # it is frozen
    await world.until(change)
    await world.heal()
    assert all(ask.done() for ask in asks) and sorted(world["a"].state(agent)["handled"]) == [1, 2, 3]
    await world.until(world["a"].depart([agent], "b"))
    await world.until(world["a"].ask(agent, "note", 4))
    assert world["b"].state(agent)["handled"][-1] == 4


@pytest.mark.parametrize("owner", [Identity(b"mallory".ljust(32, b".")), None])
async def test_a_strangers_signature_changes_nothing(owner: Identity | None) -> None:
    world, agent = await start("local")
    if owner is None:  # its owner's, for another epoch
        change = world["a"].start(world["a"].carrier.lifetimes.change_custody(agent, "held", b"", "itself", "a test"))
    else:
        change = world.change("a", agent, "held", owner)
    await world.crank()
    with pytest.raises(Misuse, match="did not sign that it be in held custody on a from epoch 1"):
        change.result()
    assert in_custody(world, agent) == "local" and world["a"].carrier.machine.here(agent) == 0
    assert entry(world, agent) is None and world["a"].state(agent)["failed"] == []


async def test_without_a_lease_it_stays_in_local_custody(monkeypatch: pytest.MonkeyPatch) -> None:
    world, agent = await start("local")
    monkeypatch.setattr(lifetimes, "LEASE_PATIENCE", 0.0)
    monkeypatch.setattr(world.lease, "until", None)
    change = world.change("a", agent, "held")
    with pytest.raises(Unavailable, match="stays in local custody: a has no lease"):
        await change
    assert world.holder(agent) == "a" and entry(world, agent) is None
    assert ("capture", agent) not in world["a"].runner.asked  # what it did was not stopped


@pytest.mark.parametrize("custody", ["local", "held"])
@pytest.mark.parametrize("first", [0, 1])
async def test_without_a_quorum_it_waits_and_either_entry_may_be_decided(custody: Custody, first: int) -> None:
    world, agent = await start(custody)
    world.entries.quorum = False
    change = world.change("a", agent, OTHER[custody])
    await world.crank()
    machine = world["a"].carrier.machine
    (wait,) = waits(machine, False)
    assert (wait.agents, wait.waits_for) == ((agent,), LEDGER) and not change.done()
    with pytest.raises(Misuse, match="about to change its custody"):
        machine.free(agent)
    (transfer,) = machine.leaving
    world["a"].carrier.step(GiveUp(transfer, "a test's deadline"))
    await world.crank()
    late = [action for _, action in world.entries.late]
    assert list(map(type, late)) == ([Found, Forgo] if custody == "local" else [End, Abort])
    world.entries.quorum = True
    world.entries.decide("a", late[first])
    with pytest.raises(Misuse, match="too late"):
        world.entries.decide("a", late[1 - first])
    world.entries.follow()
    await world.heal()
    assert in_custody(world, agent) == (OTHER[custody], custody)[first] and machine.here(agent) == 1
    if first:
        with pytest.raises(Unavailable, match="was withdrawn"):
            change.result()
        assert len(world["a"].state(agent)["failed"]) == 1
    else:
        assert change.result() is None
    await world.until(world["a"].ask(agent, "note", 2))
    assert world["a"].state(agent)["handled"] == [1, 2]


async def test_what_the_ledger_refuses_is_taken_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner's trust has just ended. Nobody waits for a deadline."""
    world, agent = await start("local")
    decide = world.entries.decide

    def refuse(caller: str, action: Any) -> None:
        if isinstance(action, Found):
            raise Misuse("the owner may transact no more")
        decide(caller, action)

    monkeypatch.setattr(world.entries, "decide", refuse)
    change = world.change("a", agent, "held")
    await world.crank()
    with pytest.raises(Unavailable, match="withdrawn"):
        change.result()
    assert in_custody(world, agent) == "local" and entry(world, agent) == ("", 1)


async def test_an_owner_that_consented_to_another_host_too_has_its_agent_where_it_is() -> None:
    world, agent = await start("local")
    world.entries.known[subject_of(OWNER.public, agent)] = Residence(OWNER.public, 1, "b", (), 1)
    change = world.change("a", agent, "held")
    await world.crank()
    with pytest.raises(Unavailable, match="withdrawn"):
        change.result()
    assert world.holder(agent) == "a" and world["a"].carrier.machine.custody(agent) == "local"


async def test_an_agent_that_a_quorum_gives_away_meanwhile_is_gone() -> None:
    world, agent = await start("held")
    world.entries.quorum = False
    change = world.change("a", agent, "local")
    await world.crank()
    world.entries.known[subject_of(OWNER.public, agent)] = Residence(OWNER.public, 1, "c", (), 2)
    world.entries.follow()
    await world.crank()
    with pytest.raises(Unavailable, match="gave it to c"):
        change.result()
    assert world["a"].carrier.machine.went(agent) == ("c", 1) and agent not in world["a"].runner.copies


async def test_a_worker_that_ends_meanwhile_loses_nothing() -> None:
    for custody in ("local", "held"):
        world, agent = await start(custody)
        world.entries.quorum = False
        change = world.change("a", agent, OTHER[custody])
        await world.crank()
        world["a"].runner.die(agent)
        world["a"].died(agent, "a test")
        world.entries.quorum = True
        await world.heal()
        assert change.result() is None and in_custody(world, agent) == OTHER[custody]
        assert world["a"].state(agent)["handled"] == [1]


async def test_a_deactivated_agent_is_woken_for_it() -> None:
    world, agent = await start("local")
    await world.until(world["a"].start(world["a"].carrier.dormitory.deactivate(agent, None)))
    await world.until(world.change("a", agent, "held"))
    assert in_custody(world, agent) == "held"


async def test_what_waited_for_a_lease_may_leave_in_local_custody() -> None:
    world, agent = await start("held")
    other, gateway = await world.create("b", "y"), world["a"].gateway
    gateway.may_leave = lambda who: world["a"].carrier.machine.custody(who) == "local"
    ask = world["a"].ask(agent, "pass on", [other, 5])
    await world.crank()
    assert not ask.done() and world["b"].state(other)["handled"] == []
    await world.until(world.change("a", agent, "local"))
    await world.heal()
    assert ask.done() and world["b"].state(other)["handled"] == [5]


def clone(world: World, agent: str, salt: bytes, host: str = "a", owner: Identity = OWNER) -> "asyncio.Task[str]":
    """As its owner orders it, who signs for the clone that the salt makes."""
    made = agent_id("x", owner.public, salt)
    signed = consent(CHAIN, owner, made, host)
    order = Command(agent, "clone", "", 0, nonce=salt, salt=salt, consent=signed)
    return world["a"].start(world["a"].lives.obey(agent, order))


async def test_a_clone_of_one_in_held_custody_is_on_the_ledger_before_it_lives() -> None:
    world, agent = await start("held")
    made = await world.until(clone(world, agent, bytes(range(16))))
    assert made == agent_id("x", OWNER.public, bytes(range(16))) != agent
    assert entry(world, made) == ("a", 0) and in_custody(world, made) == "held"
    assert world["a"].runner.custody[made] == "held" and world["a"].state(made)["handled"] == [1]
    await world.until(world["a"].depart([made], "b"))
    world.crash("b")
    await world.boot()
    await world.heal()
    assert entry(world, made) == ("b", 1) and in_custody(world, made) == "held"
    again = clone(world, agent, bytes(range(16)))  # the same command, after it was forgotten
    await world.crank()
    assert isinstance(again.exception(), Misuse) and in_custody(world, made) == "held"


async def test_a_clone_is_in_local_custody_where_its_owner_does_not_sign_or_its_original_is() -> None:
    world, agent = await start("held")
    lifetimes = world["a"].carrier.lifetimes
    made = await world.until(world["a"].start(lifetimes.clone(agent, await lifetimes.conceive(agent))))
    assert in_custody(world, made) == "local" and entry(world, made) is None
    other = await world.create("a", "x")
    made = await world.until(clone(world, other, bytes(range(16))))
    assert in_custody(world, made) == "local" and made != agent_id("x", OWNER.public, bytes(range(16)))


async def test_no_stranger_and_no_other_host_makes_a_clone_in_held_custody() -> None:
    world, agent = await start("held")
    for host, owner in (("b", OWNER), ("a", Identity(b"mallory".ljust(32, b".")))):
        made = clone(world, agent, bytes(range(16)), host, owner)
        await world.crank()
        with pytest.raises(Misuse, match="did not sign"):
            made.result()
    assert list(world["a"].carrier.machine.agents) == [agent] and ("clone", agent) not in world["a"].runner.asked


async def test_a_clone_that_cannot_be_made_leaves_no_entry() -> None:
    world, agent = await start("held")

    async def veto(agent: str) -> None:
        raise Misuse("not now")

    world["a"].runner.clone = veto  # type: ignore[method-assign]
    made = clone(world, agent, bytes(range(16)))
    await world.crank()
    with pytest.raises(Misuse, match="not now"):
        made.result()
    assert entry(world, agent_id("x", OWNER.public, bytes(range(16)))) == ("", 1)


async def changes_with_a_crash(custody: Custody, at: int, seed: int, quorum: bool) -> bool:
    """The host crashes after so many events of the change; what it asked may be decided while it is down. False when
    there are fewer."""
    world, agent = await start(custody, seed=seed)
    world.entries.quorum = quorum
    change = world.change("a", agent, OTHER[custody])
    await world.settle()
    for _ in range(at):
        if not world._events():
            break
        await world.turn()
    more = bool(world._events())
    was_done = change.done()
    world.crash("a")
    if not quorum:
        world.entries.quorum = True
        for caller, late in world.entries.late:
            world.entries.decide(caller, late)
    await world.boot()
    await world.heal()
    now = in_custody(world, agent)
    assert not was_done or now == OTHER[custody], "what its owner was told does not hold"
    assert world["a"].carrier.machine.here(agent) == (0 if entry(world, agent) in (None, ("a", 0)) else 1)
    await world.until(world["b"].ask(agent, "note", 2))
    assert world["a"].state(agent)["handled"] == [1, 2]
    await world.until(world["a"].depart([agent], "b"))
    assert in_custody(world, agent) == now
    world.close()
    return more


@pytest.mark.parametrize("custody", ["local", "held"])
@pytest.mark.parametrize("quorum", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
async def test_a_crash_at_any_point_leaves_it_in_one_custody(custody: Custody, quorum: bool, seed: int) -> None:
    points = 0
    while await changes_with_a_crash(custody, points, seed, quorum):
        points += 1
    assert points >= 1, f"the change had {points} events"

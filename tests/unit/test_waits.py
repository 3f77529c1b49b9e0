"""What is blocked in custody is said with the one that it waits for."""

import asyncio
from unittest.mock import Mock

import pytest

from agentplatform.custody.events import Decided, Depart, Disposed, Durable, Examined, GiveUp, Message
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Accept, Cargo, Offer
from agentplatform.custody.records import Commit, Prepare, Received
from agentplatform.custody.waits import LEDGER, OWNER, stranded, waits
from agentplatform.desk.host import HostDesk
from tests.unit.test_handoff_held import CARGO, MOVED, T1, asked, newborn, offered, received


def said(machine: Held, frozen: bool = False) -> list[tuple[tuple[str, ...], str]]:
    return [(wait.agents, wait.waits_for) for wait in waits(machine, frozen)]


def committed() -> Held:
    source = asked()
    source.step(MOVED)
    source.step(Durable(Commit(T1, CARGO)))
    return source


def withdrawing() -> Held:
    source = asked()
    source.step(GiveUp(T1, "late"))
    return source


@pytest.mark.parametrize(
    ("machine", "whom"),
    [
        (offered(), "B"),
        (asked(), LEDGER),
        (withdrawing(), LEDGER),
        (committed(), "B"),
        (received(), LEDGER),
    ],
)
def test_held_custody(machine: Held, whom: str) -> None:
    assert said(machine) == [(("x",), whom)]


def test_a_copy_in_local_custody_waits_for_its_source() -> None:
    destination, cargo = Held("B"), (Cargo("x", 1),)
    destination.step(Message("A", Offer(T1, cargo, ())))
    assert said(destination) == []  # it may refuse still
    destination.step(Examined(T1, None))
    destination.step(Durable(Received(T1, "A", cargo)))
    assert said(destination) == [(("x",), "A")]


def test_without_a_lease_held_residents_stand_still() -> None:
    assert said(newborn()) == [] and said(newborn(), frozen=True) == [(("x",), LEDGER)]
    assert said(Held("B"), frozen=True) == []


def test_an_end_that_the_ledger_does_not_know() -> None:
    source = newborn()
    source.step(Disposed("x"))
    assert said(source) == [(("x",), LEDGER)]
    source.step(Decided("x", 1, "", b""))
    assert said(source) == []


def test_what_is_settled_waits_for_nobody() -> None:
    source = newborn()
    source.step(Depart(T1, "B", source.cargo(["x"])))
    source.step(Durable(Prepare(T1, "B", CARGO)))
    source.step(Message("B", Accept(T1, True)))
    source.step(Decided("x", 1, "A", b""))
    assert said(source) == []


def test_an_agent_that_nothing_opens_again_waits_for_its_owner() -> None:
    machine = newborn()
    (agent,) = machine.agents
    assert [(wait.agents, wait.waits_for) for wait in stranded(machine, ())] == [((agent,), OWNER)]
    assert list(stranded(machine, {agent})) == []
    assert list(stranded(committed(), ())) == []  # it is another host's


def test_an_agent_that_is_being_opened_waits_for_nobody() -> None:
    """Opening may take seconds after a start, and nobody should be told to dispose of it meanwhile."""
    machine = newborn()
    (agent,) = machine.agents
    for opening, told in (({agent}, []), (set(), [OWNER])):
        carrier = Mock()
        carrier.configure_mock(**{"residents.known": {}, "recalls.waits.return_value": ()})
        carrier.machine, carrier.reopening.opening = machine, opening
        here = Mock(host="A", carrier=carrier, disk=Mock(**{"room.full": None}))
        here.keeper.frozen, here.replication.waits.return_value = False, ()
        here.whereabouts.resolve.return_value, here.rms.closed = agent, False
        here.mailroom.long_at_work.return_value = None
        assert [row["waits_for"] for row in asyncio.run(HostDesk(here).blocked(agent))] == told

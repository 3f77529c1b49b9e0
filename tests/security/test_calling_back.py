"""Who may call an agent back, and of whom a host believes that one does not come."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform.bulletins import CallBack, StaysAway
from agentplatform.calling_back import CALLS_AT_ONCE, CallingBack
from agentplatform.exchange import MAX_MESSAGE
from ledger import codec
from ledger.errors import PeerFault, Unavailable
from ledger.links.base import Channel
from services.dms.memory import MemoryStore
from services.eds.explain import Outcome
from services.eds.plan import Plan
from services.eds.rules import MAX_AGENTS

X, Y, Z = "x-0123456789abcdef", "y-0123456789abcdef", "z-0123456789abcdef"


class Host:
    """One side, with its surroundings written down. Here are x, y and z, in epoch 3."""

    def __init__(self) -> None:
        self.closed: set[str] = set()
        self.here: dict[str, int] = {X: 3, Y: 3, Z: 3}
        self.states = dict.fromkeys(self.here, "runs")
        self.places: dict[str, str] = {}
        self.vetoes: dict[str, str] = {}
        self.moved: list[tuple[tuple[str, ...], str]] = []
        self.told: list[tuple[str, CallBack | StaysAway]] = []
        self.tasks: list[asyncio.Task[None]] = []
        carrier: Any = SimpleNamespace(
            machine=SimpleNamespace(here=self.here.get), lifetimes=SimpleNamespace(state_of=self.states.get)
        )
        whereabouts: Any = SimpleNamespace(host_of=self.places.get)
        tell: Any = lambda host, said: self.told.append((host, said))  # noqa: E731
        start: Any = lambda work: self.tasks.append(asyncio.ensure_future(work))  # noqa: E731
        store = MemoryStore()
        self.back = CallingBack(
            "here", store, carrier, whereabouts, self.closed.__contains__, self.carry_out, tell, start
        )

    async def carry_out(self, plan: Plan, why: str) -> Outcome:
        if "all" in self.vetoes:
            raise Unavailable(self.vetoes["all"])
        agents = tuple(move.agent for move in plan.moves if move.agent not in self.vetoes)
        self.moved.append((agents, plan.moves[0].destination))
        return Outcome({agent: why for agent, why in self.vetoes.items() if agent in plan.hosts})

    async def settle(self) -> None:
        while self.tasks:
            await self.tasks.pop()

    async def came(self, agent: str, source: str, closed: bool) -> None:
        if closed:
            self.closed.add(source)
        self.back.arrived(agent, 3, source)
        self.closed.clear()
        await self.settle()

    async def asked(self, host: str, *agents: tuple[str, int]) -> dict[str, str]:
        """What the other is told of agents that do not come."""
        self.told.clear()
        self.back.heard(host, CallBack(agents))
        await self.settle()
        assert all(to == host for to, _ in self.told)
        return {agent: why for _, said in self.told for agent, why in said.agents if isinstance(why, str)}

    async def asked_beside(self, host: str, *agents: tuple[str, int]) -> set[str]:
        """While another one's call is answered. Which hosts are told of agents that do not come."""
        self.back.heard(host, CallBack(agents))
        await self.settle()
        return {to for to, _ in self.told}


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.calling_back.PAUSES", (0.0,))


@pytest.fixture
async def host() -> Host:
    return Host()


async def test_who_came_from_a_drained_host_goes_back_together_and_once(host: Host) -> None:
    await host.came(X, "west", closed=True)
    await host.came(Y, "west", closed=True)
    assert await host.asked("west", (X, 3), (Y, 3)) == {} and host.moved == [((X, Y), "west")]
    assert "since west was drained" in (await host.asked("west", (X, 3)))[X]


async def test_nobody_calls_back_an_agent_that_left_on_other_grounds(host: Host) -> None:
    await host.came(X, "west", closed=False)  # it left a host that was open
    await host.came(Y, "west", closed=True)
    await host.came(Z, "west", closed=True)
    assert set(await host.asked("west", (X, 3))) == {X}
    assert set(await host.asked("east", (Y, 3))) == {Y}  # another host's
    assert "not on here any more as it came" in (await host.asked("west", (Y, 4)))[Y]  # of another time
    host.here[Y] = 5  # it was elsewhere meanwhile, and came back from there
    assert set(await host.asked("west", (Y, 3))) == {Y} == set(await host.asked("west", (Y, 5)))
    assert set(await host.asked("west", ("gone-0123456789abcdef", 3))) == {"gone-0123456789abcdef"}
    host.states[Z] = "deactivated"  # by its owner
    assert (await host.asked("west", (Z, 3)))[Z] == "it is deactivated on here"
    assert host.moved == []


async def test_an_agent_that_does_not_want_to_go_back_stays_and_says_why(host: Host) -> None:
    await host.came(X, "west", closed=True)
    await host.came(Y, "west", closed=True)
    host.vetoes = {X: "I like it here"}
    assert await host.asked("west", (X, 3), (Y, 3)) == {X: "I like it here"} and host.moved == [((Y,), "west")]
    await host.came(Z, "west", closed=True)
    host.vetoes = {"all": "there is no link"}
    assert await host.asked("west", (Z, 3)) == {Z: "there is no link"}


async def test_reasons_in_long_letters_still_go_in_one_bulletin(host: Host) -> None:
    agents = [f"{'a' * 40}-{number:016x}" for number in range(64)]
    for agent in agents:
        host.here[agent], host.states[agent] = 3, "runs"
        await host.came(agent, "west", closed=True)
    host.vetoes = {"all": "\U0001f40c" * 1000}
    assert len(await host.asked("west", *((agent, 3) for agent in agents))) == 64
    assert max(len(codec.encode(said)) for _, said in host.told) <= MAX_MESSAGE[Channel.ADVERT]


async def test_who_could_not_go_at_once_is_tried_again_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.calling_back.PAUSES", (0.0, 0.0))
    await host.came(X, "west", closed=True)
    await host.came(Y, "west", closed=True)
    host.vetoes = {X: "it is on its way"}
    host.back.heard("west", CallBack(((X, 3), (Y, 3))))
    while not host.moved:  # noqa: ASYNC110
        await asyncio.sleep(0)
    host.vetoes = {}
    await host.settle()
    assert host.moved == [((Y,), "west"), ((X,), "west")] and host.told == []


async def test_a_call_that_comes_again_while_it_is_answered_is_answered_once(host: Host) -> None:
    await host.came(X, "west", closed=True)
    for _ in range(3):
        host.back.heard("west", CallBack(((X, 3),)))
    await host.settle()
    assert host.moved == [((X,), "west")]


async def test_a_host_that_calls_without_end_gets_a_bounded_number_of_answers_at_once(host: Host) -> None:
    for number in range(CALLS_AT_ONCE + 50):
        host.back.heard("west", CallBack(((f"a-{number:016x}", 1),)))
    assert len(host.tasks) == CALLS_AT_ONCE
    await host.came(X, "east", closed=True)  # and so are these done
    assert await host.asked("east", (X, 3)) == {} and host.moved == [((X,), "east")]
    assert await host.asked("west", ("gone-0123456789abcdef", 3)) != {}


async def test_nobody_keeps_the_call_of_another_host_from_being_heard(host: Host) -> None:
    await host.came(X, "west", closed=True)
    host.back.heard("east", CallBack(((X, 3),)))
    assert await host.asked_beside("west", (X, 3)) == {"east"}
    assert host.moved == [((X,), "west")]


async def test_only_the_host_that_was_asked_says_that_an_agent_does_not_come(host: Host) -> None:
    for agent in (X, Y):
        del host.here[agent]
    calling = asyncio.ensure_future(host.back.call({("south", "g"): [(X, 4), (Y, 4)]}, 60.0))
    await asyncio.sleep(0)
    assert host.told == [("south", CallBack(((X, 4), (Y, 4))))]
    host.back.heard("east", StaysAway(((X, "a lie"), (Z, "a lie"))))
    host.back.heard("south", StaysAway(((X, "I like it here"), (Z, "a lie"))))
    host.here[Y] = 5
    assert await calling == {X: "I like it here"}


async def test_more_than_a_group_is_called_back_by_nobody_who_is_honest(host: Host) -> None:
    agents = tuple((f"a-{number:016x}", 1) for number in range(MAX_AGENTS))
    assert len(await host.asked("west", *agents)) == MAX_AGENTS
    assert max(len(codec.encode(said)) for _, said in host.told) < MAX_MESSAGE[Channel.ADVERT]
    with pytest.raises(PeerFault, match="west: called 257 agents back at once"):
        await host.asked("west", *agents, (X, 3))


async def test_who_went_on_or_is_not_heard_of_is_named(host: Host) -> None:
    host.here.clear()
    host.places |= {X: "east", Y: "south", Z: ""}
    away = await host.back.call({("south", "g"): [(X, 4), (Y, 4), (Z, 4)]}, 0.2)
    assert away == {X: "it went on to east", Y: "south did not say within 0 s", Z: "it has ended"}

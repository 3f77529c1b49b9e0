"""What becomes of the wishes of agents."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform.lives import Lives
from agentplatform.ticket import Ticket
from ledger.errors import Unavailable
from tests.helpers.mail_desk import AGENT, OTHER, turn


@pytest.mark.parametrize("why_not", ["family", "no room", "no room for its owner's", ""])
async def test_an_agent_that_wanted_a_clone_hears_what_became_of_it(
    monkeypatch: pytest.MonkeyPatch, why_not: str
) -> None:
    monkeypatch.setattr("agentplatform.lives.MAX_FAMILY", 1 if why_not == "family" else 2)
    told: list[tuple[str, ...]] = []

    async def clone(agent: str, child: object) -> str:
        if why_not.startswith("no room"):
            raise Unavailable("there is no room")
        return OTHER

    async def nothing(agent: str, *more: bytes) -> None: ...

    resident = SimpleNamespace(birth=SimpleNamespace(owner=b"ada"))
    carrier: Any = SimpleNamespace(
        residents=SimpleNamespace(known={AGENT: resident}),
        dormitory=SimpleNamespace(awake=nothing),
        lifetimes=SimpleNamespace(clone=clone, conceive=nothing),
        machine=SimpleNamespace(free=lambda agent: None, quarantined=set()),
    )
    runner: Any = SimpleNamespace(tell=lambda *word: told.append(word), clone=nothing)
    gateway: Any = SimpleNamespace(release=lambda agent, act: act())
    lives = Lives("a", carrier, runner, gateway, dict, lambda *note: None, asyncio.ensure_future)
    if why_not == "no room for its owner's":
        order: Any = SimpleNamespace(verb="clone", salt=b"", consent=b"")
        with pytest.raises(Unavailable):
            await lives.obey(AGENT, order)
    else:
        lives.wants_clone(AGENT)
    while not told:
        await turn()
    assert told == [(AGENT, "on_cloned", "" if why_not else OTHER)]


@pytest.mark.parametrize("whose", ["its own", "its owner's", "its owner's, and it fails"])
async def test_who_is_deactivated_is_not_woken_to_go_by_an_earlier_ticket(
    monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    monkeypatch.setattr("agentplatform.lives.FIRST_PAUSE", 0.0)
    tries, asleep = [], asyncio.Event()

    async def awake(agent: str) -> None: ...

    async def depart(agents: list[str], host: str, *rest: Any, **more: Any) -> None:
        tries.append(host)
        raise Unavailable("there is no link")

    async def lay_down(agent: str, seconds: float | None) -> None:
        asleep.set()
        if whose == "its owner's, and it fails":
            raise Unavailable("it is busy")

    carrier: Any = SimpleNamespace(
        residents=SimpleNamespace(known={AGENT: object()}),
        dormitory=SimpleNamespace(awake=awake, lay_down=lay_down, deactivate=lay_down),
        departures=SimpleNamespace(depart=depart),
        machine=SimpleNamespace(quarantined=set()),
    )
    runner: Any = SimpleNamespace(tell=lambda *word: None)
    gateway: Any = SimpleNamespace(release=lambda agent, act: act())
    lives = Lives("a", carrier, runner, gateway, dict, lambda *note: None, asyncio.ensure_future)
    lives.books(AGENT, Ticket("b", retries=100))
    while len(tries) < 2:
        await turn()
    if whose == "its own":
        lives.wants_to_sleep(AGENT, None)
    else:
        order: Any = SimpleNamespace(verb="deactivate", seconds=None)
        with contextlib.suppress(Unavailable):
            await lives.obey(AGENT, order)
    await asleep.wait()
    before = len(tries)
    for _ in range(50):
        await turn()
    assert (before < len(tries)) == (whose == "its owner's, and it fails") and before < 100

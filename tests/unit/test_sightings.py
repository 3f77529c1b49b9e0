"""Since when agents of a group are on another host."""

from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform import sightings
from agentplatform.deciding import Deciding
from agentplatform.messages import Requires
from agentplatform.sightings import Sightings
from services.dms.memory import MemoryStore
from services.eds.limits import Limits
from services.eds.policies.falcon import Falcon
from services.eds.rules import Group
from services.rms.resources import Needs


def test_an_agent_that_was_seen_to_move_stays_for_a_while_from_then_on() -> None:
    seen = Sightings()
    assert seen.since("a", "east", 10.0) == 0.0  # it may have been there for long
    assert seen.since("a", "east", 11.0) == 0.0
    assert seen.since("a", "west", 12.0) == 12.0 == seen.since("a", "west", 13.0)
    assert seen.since("a", "east", 14.0) == 14.0
    assert seen.since("b", "east", 15.0) == 0.0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "MAX_AGENTS", 2)
    seen = Sightings()
    for agent in ("a", "b", "a", "c"):
        seen.since(agent, "east", 1.0)
    assert seen.since("a", "west", 2.0) == 2.0
    assert seen.since("b", "west", 2.0) == 0.0  # forgotten


async def test_the_picture_holds_agents_elsewhere_for_the_minimum_stay_too() -> None:
    where = {"a": "here", "b": "east"}
    known = {"a": SimpleNamespace(since=5.0)}
    empty: Any = SimpleNamespace(verdicts=dict, adverts=dict, links=dict)
    residents: Any = SimpleNamespace(known=known)
    mailroom: Any = SimpleNamespace(
        boxes={}, subscriptions=SimpleNamespace(to=None), requires=lambda _: Requires(Needs())
    )
    whereabouts: Any = SimpleNamespace(host_of=where.get)
    unused: Any = None
    deciding = Deciding(
        "here", Falcon(), MemoryStore(), whereabouts, residents, mailroom, unused, empty, empty, unused, Limits(), ()
    )

    async def since() -> tuple[float, ...]:
        picture = await deciding._snapshot([Group("g", ("a", "b"))])
        return tuple(resident.since for resident in picture.residents)

    assert await since() == (5.0, 0.0)
    where["b"] = "west"
    _, moved = await since()
    where["a"] = "west"  # by its own wish, or by the last decision
    del known["a"]
    left, stayed = await since()
    assert 5.0 < moved == stayed <= left

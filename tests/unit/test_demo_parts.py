"""The parts of the demo that need no hosts: the emulated walk, and the film that trusts no answer unseen."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from agentplatform.console.demo import coverage, film
from agentplatform.frontdoor.client import AgentProxy
from ledger.errors import Unavailable
from services.eds.events import UserMoved
from services.eds.planner import search
from services.eds.policies.falcon import Falcon
from services.eds.rules import Atomic
from services.eds.snapshot import Access
from tests.helpers.edge_scenes import host, mesh, scene

TOGETHER = (Atomic(("ada", "faces")),)
LEGS = [
    ("north", coverage.ACCESS_POINTS["east"], "east", None),
    ("east", coverage.ACCESS_POINTS["south"], "south", None),
    ("south", coverage.NEARLY_WEST, "north", "west"),
    ("north", coverage.ACCESS_POINTS["east"], "east", "west"),
]


@pytest.mark.parametrize("between_ms", [0.1, 10.0], ids=["quick", "busy"])
@pytest.mark.parametrize(("start", "end", "expected", "revoked"), LEGS)
def test_falcon_leads_the_group_along_the_walk(
    start: str, end: coverage.Position, expected: str, revoked: str | None, between_ms: float
) -> None:
    hosts = [host(name, revoked="gone" if name == revoked else None) for name in sorted(coverage.ACCESS_POINTS)]
    links = tuple(mesh([each.host for each in hosts], rtt_ms=between_ms))
    snapshot = scene(hosts, {"ada": start, "faces": start}, rules=TOGETHER, links=links, access={})
    access = tuple(msgspec.convert(each, Access) for each in coverage.access(end, {}))
    snapshot = msgspec.structs.replace(snapshot, access={"ada": access})
    found = search(snapshot, Falcon().offers(snapshot))
    assert found.plan.hosts == {"ada": expected, "faces": expected}


def test_the_revoked_host_would_have_been_the_nearest() -> None:
    assert coverage.nearest(coverage.NEARLY_WEST) == "west"


def test_what_the_device_reports_is_an_event_and_labelled() -> None:
    event = msgspec.convert(coverage.event("ada", (0.0, 0.0), {"east": 3.0}), UserMoved | int)
    assert isinstance(event, UserMoved) and event.position == (0.0, 0.0)
    assert {access.source for access in event.access} == {"emulated"}
    by_host = {access.host: access.rtt_ms for access in event.access}
    assert by_host["east"] == by_host["north"] + 3.0


def test_the_way_ends_where_it_should() -> None:
    places = list(coverage.way((0.0, 1.0), (1.0, 0.0)))
    assert places[-1] == (1.0, 0.0) and len(set(places)) == len(places)


def service(reply: Callable[[int], dict[str, Any]]) -> AgentProxy:
    """An agent that answers every packet with `reply(pts)`."""
    return cast(AgentProxy, SimpleNamespace(call=lambda kind, body, patience: reply(body["pts"])))


def faithful(pts: int) -> dict[str, Any]:
    label = None if pts == 0 else "ada"
    return {"pts": pts, "frame": pts + 1, "host": "north" if pts < 3 else "east", "faces": [{"label": label}]}


def filming(reply: Callable[[int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> film.Film:
    monkeypatch.setattr(film, "PACE", 0.0)
    packets = (SimpleNamespace(data=b"", pts=pts, picture=None) for pts in range(1_000_000))
    made = film.Film(service(reply), packets)
    made.start()
    return made


def test_the_film_waits_for_an_answer_from_the_host_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = filming(faithful, monkeypatch)
    shot = made.recognised("east", since=0.0)
    made.end()
    assert (shot.host, shot.label) == ("east", "ada")
    assert [each.label for each in made.shots()[:2]] == [None, "ada"]


BROKEN = {
    "loses a frame": lambda pts: faithful(pts) | {"frame": pts},
    "answers one twice": lambda pts: faithful(max(0, pts - 1)),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
def test_the_film_catches_a_service_that(reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = filming(reply, monkeypatch)
    with pytest.raises(Unavailable, match="lost or came twice"):
        made.recognised("east", since=time.time())
    with pytest.raises(Unavailable, match="lost or came twice"):
        made.shots()

"""Travellers, and a master with its workers, on daemons that are killed."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentplatform.itineraries import Circular, MasterWorkers
from tests.helpers.itinerary_agents import Boss, Log, Rounds, Slow
from tests.helpers.local import Local, consortium, gone, patiently, until

NORTH, EAST, SOUTH = "north", "east", "south"
pytestmark = pytest.mark.slow


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("itineraries") / "root", NORTH, EAST, SOUTH, light=True) as local:
        yield local


def test_a_traveller_goes_on_after_its_hosts_were_killed_and_no_stop_counts_twice(hosts: Local) -> None:
    log = hosts.host(NORTH).create(Log, "log")
    rounds = hosts.host(NORTH).create(Rounds, init=log.id)
    rounds.call("go", Circular((EAST, SOUTH), rounds=40))
    for victim, stops in ((EAST, 10), (SOUTH, 25), (EAST, 40)):
        until(f"{stops} stops", lambda stops=stops: len(log.call("read")) >= stops)  # type: ignore[misc]
        children = hosts.kill(victim)
        until("the end of the killed", lambda children=children: gone(children))  # type: ignore[misc]
        hosts.start(victim)

    def said() -> list[Any]:
        notes: list[Any] = log.call("read")
        return notes

    until("the end", lambda: patiently(lambda: rounds.call("look"))[1] is False)
    host, _, notes = patiently(lambda: rounds.call("look"))
    until("the last word", lambda: len(said()) >= len(notes))
    assert said() == [[number, name] for number, name in enumerate(notes, 1)]  # each once, in order
    # While a host is down its stops are skipped; no other is.
    assert set(notes) == {EAST, SOUTH} and 40 <= len(notes) <= 80 and host == notes[-1]


def test_a_part_of_a_worker_whose_host_dies_is_done_by_another(hosts: Local) -> None:
    north = hosts.host(NORTH)
    log, boss = north.create(Log, "log"), north.create(Boss)
    for name in (EAST, SOUTH):
        patiently(lambda name=name: hosts.host(name).agent("log"))  # type: ignore[misc]
    workers = tuple((north.create(Slow).id, name) for name in (EAST, SOUTH))
    parts = tuple((number, EAST if number == 0 else "") for number in range(4))
    answered: list[Any] = []

    def work() -> None:
        crew = MasterWorkers(workers, parts, patience=8.0)
        answered.append(patiently(lambda: boss.call("do", crew, patience=60.0)))

    thread = threading.Thread(target=work)
    thread.start()
    until("a worker that is stuck", lambda: ["stuck", EAST] in log.call("read"))
    children = hosts.kill(EAST)
    until("the end of the killed", lambda: gone(children))
    thread.join(60.0)
    ((results, lost),) = answered
    assert results == [[number, SOUTH] for number in range(4)]
    assert len(lost) == 1 and "did not answer 'itinerary: work' within 8 s" in lost[0]
    hosts.start(EAST)  # the lost one hears that it is dismissed, when its host is up again
    until("the end of both workers", lambda: not any(hosts.residents(worker) for worker, _ in workers))

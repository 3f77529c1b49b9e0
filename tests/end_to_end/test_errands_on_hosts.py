"""Two real daemons: timers, questions, tickets and topics of agents that move, and whose hosts are killed."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.errand_agents import Errand, Holder
from tests.helpers.local import Local, consortium, gone, patiently, until

NORTH, SOUTH = "north", "south"


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("errands") / "root", NORTH, SOUTH, light=True) as local:
        yield local


def restart(hosts: Local, *names: str) -> None:
    left = [process for name in names for process in hosts.kill(name)]
    until("the end of the killed", lambda: gone(left))
    hosts.start(*names)


@pytest.mark.slow
def test_errands_survive_moves_and_kills(hosts: Local) -> None:
    north, south = hosts.host(NORTH), hosts.host(SOUTH)
    holder, errand = south.create(Holder, "holder"), north.create(Errand, "errand")
    patiently(lambda: north.agent("holder"))

    def notes() -> list[Any]:
        found: list[Any] = patiently(lambda: errand.call("notes"))[1]
        return found

    errand.call("ask", {"to": holder.id})
    errand.call("set", {"seconds": 0.5, "name": "bell"})
    errand.call("join", "weather")
    until("the question", lambda: holder.call("held") == 1)
    errand.dispatch(SOUTH)
    until("the bell", notes)
    assert patiently(lambda: errand.call("notes")) == [SOUTH, [["rang", "bell"]]]
    restart(hosts, SOUTH)  # both agents, the question and its ticket
    holder, errand = (patiently(lambda name=name: hosts.host(SOUTH).agent(name)) for name in ("holder", "errand"))
    assert patiently(lambda: holder.call("held")) == 1
    holder.call("let go", "yes")
    until("the answer", lambda: len(notes()) == 2)

    asked = _later(lambda: hosts.host(SOUTH).agent(errand.id).call("delegate", holder.id))
    until("the delegated message", lambda: holder.call("held") == 1)
    patiently(lambda: errand.dispatch(NORTH))
    restart(hosts, NORTH)  # the errand, which passes the answer on
    holder.call("let go", "at last")
    assert asked() == "at last"

    herald = hosts.host(SOUTH).create(Errand, "herald")

    def told() -> bool:  # until the news of who has subscribed is there
        herald.call("tell", {"topic": "weather", "name": "rain"})
        return len(notes()) > 2

    until("the weather", told)
    said = notes()
    assert said[:2] == [["rang", "bell"], ["answered", "yes"]]
    assert all(each == ["rang", "rain"] for each in said[2:])

    herald.call("set", {"seconds": 0.5, "name": "alarm"})
    herald.deactivate()  # nobody writes to it any more
    restart(hosts, SOUTH)
    until("the alarm", lambda: "rang alarm" in "\n".join(hosts.host(SOUTH).call("logs", agent=herald.id)["lines"]))
    assert patiently(lambda: hosts.host(SOUTH).agent(herald.id).call("notes")) == [SOUTH, [["rang", "alarm"]]]


def _later(act: Any) -> Any:
    """Runs `act` beside the test; returns what waits for its result."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(act()))
    thread.start()

    def wait() -> Any:
        thread.join(60.0)
        assert result, "it was never answered"
        return result[0]

    return wait

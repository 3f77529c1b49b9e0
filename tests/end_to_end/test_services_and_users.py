"""Two real daemons: a service is found before and after it moved, and a user's agent hears that the user did."""

from collections.abc import Iterator

import pytest

from ledger.errors import Misuse
from tests.helpers.kinds_of_agents import Echo, Guide, Rude, Seeker
from tests.helpers.local import Local, consortium, until

NORTH, SOUTH = "north", "south"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("kinds") / "root", NORTH, SOUTH, light=True) as local:
        yield local


def test_a_service_is_found_before_and_after_it_moved(hosts: Local) -> None:
    north, south = hosts.host(NORTH), hosts.host(SOUTH)
    echo, other, seeker = north.create(Echo), south.create(Echo), north.create(Seeker)
    owner = north.owner().public.hex()
    until("both are known", lambda: len(north.find("echo")) == len(south.find("echo")) == 2)
    assert [(row.agent, row.host, row.owner) for row in north.find("echo", "1.2", owner=owner)] == [
        (echo.id, NORTH, owner),
        (other.id, SOUTH, owner),
    ]
    assert south.find("echo")[0].agent == other.id
    assert seeker.call("ask", 1) == [NORTH, 1]
    echo.dispatch(SOUTH)
    for host in (north, south):
        until("it moved", lambda host=host: {row.host for row in host.find("echo")} == {SOUTH})
    assert seeker.call("ask", 2) == [SOUTH, 2]
    clone = echo.clone()
    assert clone.call("echo", 3) == [SOUTH, 3]
    other.dispose()
    for host in (north, south):  # the clone is in no directory, and who ended neither
        until("it ended", lambda host=host: [row.agent for row in host.find("echo")] == [echo.id])
    assert north.find("echo", "2.0") == north.find("echo", owner="0" * 64) == []
    with pytest.raises(Misuse, match="nothing to find"):
        north.find("echo", "new")
    clone.dispose()
    echo.dispose()
    seeker.dispose()


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc0", b"\x93\xa4Echo\xc0\xc0", b"\x93\xc0\xc0\xa3ada", b"\x94\xc0\xc0\xc0\xc0", b"\x91" * 2000 + b"\xc0"],
)
def test_an_agent_that_asks_nonsense_of_its_host_hears_so(hosts: Local, body: bytes) -> None:
    north = hosts.host(NORTH)
    rude = north.create(Rude)
    with pytest.raises(Misuse, match="rude"):
        rude.call("ask", body)
    assert rude.call("ask", b"\x93\xa4echo\xc0\xc0") == []  # both go on
    rude.dispose()


def test_a_group_follows_the_user_of_the_agent_in_it(hosts: Local) -> None:
    north = hosts.host(NORTH)
    guide, echo = north.create(Guide, "leader", "cy"), north.create(Echo)
    for each in (guide, echo):
        each.call("look")
    north.call("group", name="walk", user="", agents=[guide.id, echo.id], rules=[])
    north.call("event", event={"type": "user-moved", "user": "di", "access": []})
    north.call("event", event={"type": "user-moved", "user": "cy", "access": []})
    until("its host decided about both", lambda: north.call("why", agent=echo.id))
    assert [each["why"] for each in north.call("why", agent=echo.id)] == ["cy moved"]
    assert guide.call("look")[:2] == ["cy", {"near": ""}]
    guide.dispose()
    echo.dispose()


def test_the_agents_of_a_user_who_moved_hear_of_it_wherever_they_are(hosts: Local) -> None:
    north, south = hosts.host(NORTH), hosts.host(SOUTH)
    near, far = north.create(Guide, "near", {"user": "ada"}), south.create(Guide, "far", "ada")
    stranger = south.create(Guide, "stranger", "bo")
    until("all are known", lambda: len(north.call("agents")) == 3)
    far.call("look")
    access = [{"host": host, "rtt_ms": 5.0, "loss": 0.0, "source": "emulated"} for host in (NORTH, SOUTH)]
    access[1]["rtt_ms"] = 1.0
    north.call("event", event={"type": "user-moved", "user": "ada", "access": access})
    for agent in (near, far):
        until("it heard", lambda agent=agent: agent.call("look")[:2] == ["ada", {"near": SOUTH}])
    until("its host decided about it", lambda: north.call("why", agent=near.id))
    assert north.call("why", agent=near.id)[0]["why"] == "ada moved"
    assert stranger.call("look")[:2] == ["bo", {}] and not south.call("why", agent=stranger.id)
    with pytest.raises(Misuse, match="stands for a user"):
        north.create(Guide, "nobody")

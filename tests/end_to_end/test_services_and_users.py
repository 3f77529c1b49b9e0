"""Two real daemons: a service is found before and after it moved, and a user's agent hears that the user did."""

from collections.abc import Iterator

import pytest

from ledger.errors import Misuse
from tests.helpers.kinds_of_agents import Echo, Forger, Guide, Rude, Seeker, Watcher
from tests.helpers.local import Local, consortium, until

NORTH, SOUTH = "north", "south"
TRIGGER = """
[[decisions.triggers]]
measure = "told:frames-dropped"
above = 5.0
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("kinds") / "root", NORTH, SOUTH, start=(), light=True) as local:
        with local.home(NORTH).settings_file.open("a") as settings:
            settings.write(TRIGGER)
        local.start(NORTH, SOUTH)
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
    both = [guide.id, echo.id]
    against = [{"type": "atomic", "agents": both}, {"type": "exclusion", "agents": both}]
    with pytest.raises(Misuse, match=r"nobody can keep these rules together.*must be together; .* must be apart"):
        north.call("group", name="walk", user="", agents=both, rules=against)
    north.call("group", name="walk", user="", agents=both, rules=[])
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


def test_an_agent_hears_events_that_it_has_subscribed_to_from_its_host_and_from_nobody_else(hosts: Local) -> None:
    north, south = hosts.host(NORTH), hosts.host(SOUTH)
    watcher, there = north.create(Watcher, None, ["eds/overload", "eds/user-moved"]), south.create(Watcher)
    forger = north.create(Forger)
    until("it is known", lambda: south.agent(watcher.id).host == NORTH)
    forger.call("letter", watcher.id)
    forger.call("multicast")
    for door in (north, south):
        with pytest.raises(Misuse, match="hosts alone"):
            door.agent(watcher.id).call("eds/overload", {"host": NORTH, "resource": "lies", "seconds": 1.0})
    north.call("event", event={"type": "user-moved", "user": "ada", "access": []})  # whom it does not follow
    north.call("event", event={"type": "overload", "host": SOUTH, "resource": "cpu", "seconds": 3.0})
    until("it heard of it", lambda: watcher.call("look") == [[SOUTH, "cpu", 3.0, "eds@north"]])
    watcher.dispatch(SOUTH)  # the subscription goes with it
    south.call("event", event={"type": "overload", "host": NORTH, "resource": "memory"})
    until("it heard that too", lambda: watcher.call("look")[1:] == [[NORTH, "memory", 0.0, "eds@south"]])
    assert there.call("look") == []
    until("its owner hears why", lambda: "hosts alone" in str(north.call("logs", agent=forger.id)))
    for each in (watcher, there, forger):
        each.dispose()


def test_what_an_agent_reports_is_decided_about_when_a_trigger_says_so(hosts: Local) -> None:
    north = hosts.host(NORTH)
    lone, watcher = north.create(Guide, "player", "di"), north.create(Watcher)
    lone.call("look")
    north.call("group", name="film", user="", agents=[watcher.id, lone.id], rules=[])
    watcher.call("tell", {"kind": "frames-dropped", "value": 4.0})
    watcher.call("tell", {"kind": "others", "value": 12.0})
    watcher.call("tell", {"kind": "frames-dropped", "value": 12.0})
    (why,) = until("its host decided", lambda: north.call("why", agent=lone.id))
    assert why["why"] == f"{watcher.id} tells frames-dropped 12"
    watcher.dispose()
    lone.dispose()

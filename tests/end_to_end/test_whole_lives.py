"""Two real daemons: clones that move, sleep through a SIGKILL, retractions, vetoes, workers that end alone."""

import os
import signal
from collections.abc import Iterator

import pytest

from agentplatform import Ticket
from agentplatform.console import processes
from agentplatform.frontdoor.client import AgentProxy
from ledger.errors import Misuse, Unavailable
from tests.helpers.livers import Choosy, Feather, Liver, Loose, Mayfly
from tests.helpers.local import Local, consortium, patiently, until

NORTH, SOUTH = "north", "south"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("lives") / "root", NORTH, SOUTH, light=True) as local:
        yield local


def state(hosts: Local, agent: AgentProxy, host: str = NORTH) -> str | None:
    rows = hosts.host(host).call("agents")
    return next((row["state"] for row in rows if row["agent"] == agent.id), None)


def notes(hosts: Local, agent: AgentProxy, host: str = NORTH) -> str:
    return "\n".join(hosts.host(host).call("logs", agent=agent.id)["lines"])


@pytest.mark.parametrize("kind", [Liver, Feather])
def test_clones_and_their_clones_move_like_any_agent(hosts: Local, kind: type[Liver]) -> None:
    one = hosts.host(NORTH).create(kind, "mother")
    one.call("add", 7)
    two = one.clone()
    three = two.clone()
    assert len({one.id, two.id, three.id}) == 3
    until("on_cloned", lambda: f"cloned {two.id}" in one.call("hooks"))
    assert two.call("hooks")[:3] == ["creation", "cloning", "clone"]
    for clone in (two, three):
        hop = clone.dispatch(SOUTH)
        assert hop["agents"] == [clone.id] and hop["epoch"] == 1
        assert clone.call("look") == [clone.id, SOUTH, 1, 7]
    three.call("add", 1)
    assert [agent.call("look")[3] for agent in (one, two, three)] == [7, 7, 8]
    there = three.clone()  # commands for an agent elsewhere are its owner's
    assert there.call("look")[:3] == [there.id, SOUTH, 0]
    assert there.dispatch(NORTH)["source"] == SOUTH
    for agent in (one, two, three, there):
        agent.dispose()


def test_an_agent_clones_itself(hosts: Local) -> None:
    one = hosts.host(NORTH).create(Loose, "spore")
    one.call("add", 2)
    one.call("clone")
    hook = until("on_cloned", lambda: [hook for hook in one.call("hooks") if hook.startswith("cloned")])[0]
    clone = hosts.host(NORTH).agent(hook.removeprefix("cloned "))
    assert clone.call("look")[2:] == [0, 2]
    clone.dispose()
    one.dispose()


def test_who_clones_itself_and_goes_hears_of_its_clone(hosts: Local) -> None:
    one = hosts.host(NORTH).create(Liver, "spore")
    one.call("clone and go", SOUTH)
    until("it went", lambda: one.host == SOUTH)
    hooks = one.call("hooks")
    wanted = ["cloned spore", f"dispatching {SOUTH}", f"arrival {NORTH}"]
    assert [hook.partition("-")[0] for hook in hooks[-3:]] == wanted
    clone = hosts.host(NORTH).agent(hooks[-3].removeprefix("cloned "))
    assert clone.host == NORTH
    for agent in (one, clone):
        agent.dispose()


def test_a_deactivated_agent_has_no_worker_and_wakes_by_mail_by_time_and_when_told(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Liver, "sleeper")
    agent.call("add", 3)
    before = hosts.host(NORTH).call("status")
    agent.deactivate()
    assert state(hosts, agent) == "deactivated"
    status = hosts.host(NORTH).call("status")
    assert (status["agents"], status["deactivated"]) == (before["agents"], before["deactivated"] + 1)
    agent.deactivate(for_=3600)  # it sleeps already; now it has a time
    agent.activate()
    assert state(hosts, agent) == "runs"
    agent.activate()  # it runs already
    agent.deactivate()
    assert agent.call("add", 1) == 4  # mail wakes it
    agent.deactivate(for_=0.2)
    until("its time", lambda: state(hosts, agent) == "runs")
    agent.call("sleep", None)
    until("its own wish", lambda: state(hosts, agent) == "deactivated")
    agent.dispatch(SOUTH)  # who is sent away is woken first
    assert agent.call("look")[1:] == [SOUTH, 1, 4]
    agent.deactivate()  # from elsewhere
    until("asleep there", lambda: state(hosts, agent, SOUTH) == "deactivated")
    agent.dispose()
    assert "good-bye" in notes(hosts, agent, SOUTH)


@pytest.mark.slow
def test_who_ended_elsewhere_does_not_come_back_when_all_are_started_again(hosts: Local) -> None:
    ghost, other = (hosts.host(NORTH).create(Liver, "ghost") for _ in range(2))
    ghost.dispatch(SOUTH)
    ghost.dispose()
    processes.stop(hosts.root, (NORTH, SOUTH))
    hosts.start(NORTH, SOUTH)
    assert patiently(lambda: hosts.host(NORTH).agent("ghost")).id == other.id  # two have that name until it has heard
    assert ghost.id not in [row["agent"] for row in hosts.host(NORTH).call("agents")]
    with pytest.raises(Misuse, match=f"ended on {SOUTH}"):
        hosts.host(NORTH).agent(ghost.id).call("look")
    other.dispose()


def test_deactivated_agents_sleep_through_a_killed_host(hosts: Local) -> None:
    north = hosts.host(NORTH)
    agents = [north.create(kind, "bear") for kind in (Liver, Loose, Mayfly, Feather)]
    timed = north.create(Liver, "alarm")
    for count, agent in enumerate(agents):
        agent.call("add", count)
        agent.deactivate()
    timed.deactivate(for_=0.5)
    hosts.kill(NORTH)
    hosts.start(NORTH)
    assert [state(hosts, agent) for agent in agents] == ["deactivated"] * 4
    until("the alarm", lambda: state(hosts, timed) == "runs")
    for count, agent in enumerate(agents):
        again = patiently(lambda agent=agent: hosts.host(NORTH).agent(agent.id))
        assert again.call("add", 10) == 10 + count
        assert again.call("hooks") == ["creation", "deactivating", "activation"]
        again.dispose()
    patiently(timed.dispose)
    hosts.kill(NORTH)  # who woke up stays awake, who ended stays gone
    hosts.start(NORTH)
    assert all(state(hosts, agent) is None for agent in agents)


def test_an_owner_calls_an_agent_back(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Liver, "boomerang")
    agent.dispatch(SOUTH)
    assert agent.retract()["destination"] == NORTH and agent.retract() == {}
    assert agent.call("hooks") == [
        "creation",
        f"dispatching {SOUTH}",
        f"arrival {NORTH}",
        f"reverting {NORTH}",
        f"arrival {SOUTH}",
    ]
    assert [by for _, by, _ in agent.call("moves")] == ["owner", "retraction"]
    agent.dispose()


def test_vetoes_and_critical_sections_keep_an_agent_here_and_nobody_elses_end(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Liver, "mule")
    agent.call("wayward", "veto")
    with pytest.raises(Misuse, match="does not go to south: I like it here"):
        agent.dispatch(SOUTH)
    assert agent.call("moves") == [[SOUTH, "owner", "its owner's wish"]]
    agent.call("wayward", "deactivating")
    with pytest.raises(Misuse, match="could not be deactivated: ValueError: not deactivating"):
        agent.deactivate()
    agent.call("wayward", "cloning")
    with pytest.raises(Misuse, match="was not cloned: ValueError: not cloning"):
        agent.clone()
    agent.call("wayward", "")
    assert state(hosts, agent) == "runs" and agent.call("look")[1] == NORTH
    agent.call("hold", True)
    agent.deactivate()
    assert agent.call("look")[1] == NORTH  # it woke, and `run` began anew: it holds
    agent.send("hold", False)
    agent.dispatch(SOUTH)  # waits for the end of the section
    assert "let go" in agent.call("hooks")
    agent.dispose()


def test_a_ticket_asks_for_what_the_host_has_before_the_agent_is_stopped(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Liver, "tourist")
    until("adverts", lambda: _has_advert(hosts))
    with pytest.raises(Misuse, match="south does not have what the ticket needs: no_such_module; memory:"):
        agent.dispatch(Ticket(SOUTH, needs=("msgspec", "no_such_module", f"memory>={10**18}")))
    assert agent.call("hooks") == ["creation"]  # nobody asked it to leave
    agent.call("travel", [SOUTH, 30.0, 0, ["no_such_module"]])
    until("on_move_failed", lambda: "no_such_module" in agent.call("hooks")[-1])
    assert agent.call("look")[1] == NORTH
    agent.call("travel", [SOUTH, 30.0, 3, ["msgspec", "memory>=1000"]])
    until("it went", lambda: agent.call("look")[1] == SOUTH)
    assert agent.call("moves") == []  # its own wish
    agent.dispose()


def test_an_agent_says_what_it_needs_and_changes_that_while_it_lives(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Choosy, "choosy")
    until("adverts", lambda: _has_advert(hosts))
    with pytest.raises(Unavailable, match="south has not what they need: no no_such_module"):
        agent.dispatch(SOUTH)
    assert agent.call("hooks") == ["creation"]  # nobody asked it to leave
    agent.call("go", SOUTH)
    until("on_move_failed", lambda: "no_such_module" in agent.call("hooks")[-1])
    agent.call("require", ["msgspec"])
    agent.dispatch(SOUTH)
    assert agent.call("look")[1] == SOUTH
    agent.call("require", ["no_such_module"])  # it travels with the agent, whatever its class says
    with pytest.raises(Unavailable, match="north has not what they need"):
        agent.dispatch(NORTH)
    agent.call("require", [])
    clone = agent.clone()
    with pytest.raises(Unavailable, match="north has not what they need"):  # as its class says
        clone.dispatch(NORTH)
    agent.dispose()
    clone.dispose()


def _has_advert(hosts: Local) -> bool:
    rows = hosts.host(NORTH).call("hosts")
    return all(row["cpu_free"] is not None for row in rows)


@pytest.mark.slow
def test_a_ticket_tries_again_until_the_destination_is_there(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Liver, "patient")
    processes.stop(hosts.root, [SOUTH])
    with pytest.raises(Unavailable):
        agent.dispatch(SOUTH)
    before = len(agent.call("hooks"))  # none of this try, if the link was known to be down
    agent.call("travel", [SOUTH, 1.0, 100, []])
    until("the deadline", lambda: any(hook.startswith("failed") for hook in agent.call("hooks")[before:]))
    agent.call("travel", [SOUTH, None, 100, []])
    hosts.start(SOUTH)
    until("it went", lambda: agent.call("look")[1] == SOUTH)
    hooks = agent.call("hooks")
    assert hooks[-1] == f"arrival {NORTH}" and sum(hook.startswith("failed") for hook in hooks[before:]) == 1
    agent.dispose()


# Workers that end alone


def test_an_agent_whose_worker_ended_goes_on_from_its_last_checkpoint(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Liver, "phoenix")
    agent.call("add", 5)
    kill_worker(hosts, agent)
    assert patiently(lambda: agent.call("add", 1)) == 6
    assert "arrival None" in agent.call("hooks")
    assert "it goes on from its last checkpoint" in notes(hosts, agent)
    agent.dispatch(SOUTH)
    agent.dispose()


def test_without_checkpoints_it_begins_again_or_has_ended_as_its_class_says(hosts: Local) -> None:
    loose, mayfly = (hosts.host(NORTH).create(kind) for kind in (Loose, Mayfly))
    loose.call("add", 5)
    loose.snapshot()
    loose.call("add", 1)  # after the snapshot: lost
    for agent in (loose, mayfly):
        kill_worker(hosts, agent)
    assert patiently(lambda: loose.call("look"))[3] == 5
    until("its end", lambda: state(hosts, mayfly) is None)
    with pytest.raises(Misuse, match="ended on"):
        mayfly.call("look")
    loose.dispose()


@pytest.mark.slow
def test_a_message_that_ends_its_worker_does_so_a_few_times_only(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Liver, "poisoned")
    agent.call("add", 9)
    agent.send("die")  # it is not handled, so it is handed over again
    until("the bound", lambda: "it waits on the disk" in notes(hosts, agent))
    assert state(hosts, agent) == "stranded"
    assert notes(hosts, agent).count("it goes on from its last checkpoint") == 3
    with pytest.raises(Misuse, match="is stranded on north"):
        agent.clone()
    agent.activate()  # its owner has the last word; the message may be gone by now, or end it once more
    agent.dispose()
    assert state(hosts, agent) is None


def kill_worker(hosts: Local, agent: AgentProxy) -> None:
    os.kill(agent.call("pid"), signal.SIGKILL)
    until("its worker's end", lambda: "its worker on north ended" in notes(hosts, agent))

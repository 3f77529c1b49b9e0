"""Four real daemons, one of which is drained: while messages and new agents come, across kills, and back again."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agentplatform.console import processes
from agentplatform.frontdoor.client import AgentProxy, Host
from ledger.errors import PlatformError, Unavailable
from tests.helpers.livers import Feather, Laden, Liver
from tests.helpers.local import Local, consortium, patiently, until


def cli(local: Local, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentplatform.console.cli", "--root", str(local.root), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def drain_west(local: Local, *argv: str) -> dict[str, Any]:
    done = cli(local, "drain", "west", "--json", *argv)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def state(local: Local) -> str:
    return str(local.host("west").call("drained")["state"])


def running_on(local: Local, name: str) -> list[str]:
    return [row["agent"] for row in local.host(name).call("agents") if row["state"] in ("runs", "on its way")]


class Talk:
    """Adds 1 to each of some agents, again and again, from north."""

    def __init__(self, host: Host, agents: list[AgentProxy]) -> None:
        self._agents = [host.agent(agent.id) for agent in agents]
        self.sent, self.acked = (
            dict.fromkeys((each.id for each in agents), 0),
            dict.fromkeys((each.id for each in agents), 0),
        )
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._talk, args=(agent,)) for agent in self._agents]

    def _talk(self, agent: AgentProxy) -> None:
        while not self._stop.wait(0.01):
            self.sent[agent.id] += 1
            with suppress(PlatformError):
                agent.call("add", 1, patience=30)
                self.acked[agent.id] += 1

    def __enter__(self) -> "Talk":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """What was acknowledged was done, and nothing was done twice."""
        for agent in self._agents:
            value = patiently(lambda agent=agent: agent.call("look"))[3]
            assert self.acked[agent.id] <= value <= self.sent[agent.id], agent.id
            assert self.acked[agent.id] > 0, agent.id


class Crowd:
    """New agents that go to west, until one is refused; that one tries it again and again, as others do to be born."""

    def __init__(self, local: Local) -> None:
        self._local, self.refusals = local, list[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._come)

    def _come(self) -> None:
        east, west, number = self._local.host("east"), self._local.host("west"), 0
        comer = east.create(Feather, "comer")
        while not self._stop.wait(0.1):
            number += 1
            try:
                comer.dispatch("west")
                comer = east.create(Feather, f"comer-{number}")
            except Unavailable as error:
                self.refusals.append(str(error))
                with suppress(Unavailable):
                    west.create(Feather, f"native-{number}")
                    self.refusals.append(f"west refused {comer.id}, and took another")

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def town(root: Path) -> Iterator[tuple[Local, dict[str, AgentProxy]]]:
    """12 agents on west: three that share a worker, two in held custody, three that go together, one with much
    state, one that is in a critical section, one that does not want to go, and one that sleeps."""
    with consortium(root, light=True) as local:
        west = local.host("west")
        made = {f"light-{n}": west.create(Feather, f"light-{n}") for n in range(3)}
        made |= {f"held-{n}": west.create(Liver, f"held-{n}", custody="held") for n in range(2)}
        made |= {name: west.create(Liver, name) for name in ("g-0", "g-1", "g-2", "busy", "stubborn", "sleeper")}
        made["laden"] = west.create(Laden, "laden")
        group = [made[name].id for name in ("g-0", "g-1", "g-2")]
        west.call("group", name="g", user="", agents=group, rules=[{"type": "atomic", "agents": group}])
        made["stubborn"].call("wayward", "veto")
        made["busy"].call("hold", True)
        made["sleeper"].deactivate()
        yield local, made


def all_back(made: dict[str, AgentProxy], moved: list[AgentProxy], outcome: dict[str, Any]) -> None:
    """But for the group, which an EDS may have sent on to where it was better off."""
    away = outcome["away"]
    assert {agent.id for agent in moved} == {*outcome["back"], *away} & {agent.id for agent in moved}
    assert away.keys() <= {made[name].id for name in ("g-0", "g-1", "g-2")}
    gone_on = r"it went on to |it is not on \w+ any more as it came"
    assert [why for why in away.values() if not re.match(gone_on, why)] == []
    assert {patiently(lambda agent=agent: agent.host) for agent in made.values() if agent.id not in away} == {"west"}


STAY = ("stubborn", "sleeper")


@pytest.mark.slow
def test_a_host_is_drained_while_messages_and_new_agents_come_and_gets_all_back(tmp_path: Path) -> None:
    with town(tmp_path / "root") as (local, made):
        go = [agent for name, agent in made.items() if name not in STAY]
        with Talk(local.host("north"), go) as talk, Crowd(local) as crowd:
            until("all have heard something", lambda: all(talk.acked.values()))
            local.host("west").call("drain", seconds=25.0)
            until("somebody went", lambda: local.host("west").call("drained")["moved"])
            made["busy"].call("hold", False)
            drained = drain_west(local, "--deadline", "20")
            assert drained["state"] == "drained" and local.host("west").call("status")["closed"] == "drained"
            assert running_on(local, "west") == []
            until("somebody was refused", lambda: crowd.refusals)
            acked = dict(talk.acked)
            until("all hear on", lambda: all(talk.acked[agent] > count + 1 for agent, count in acked.items()))
            assert running_on(local, "west") == []  # nothing new landed
        assert [each for each in crowd.refusals if not re.search("west is (being )?drained", each)] == []
        assert {agent.id for agent in go} <= drained["moved"].keys()
        assert made["stubborn"].id in drained["deactivated"] and drained["asleep"] == [made["sleeper"].id]
        where = {name: agent.host for name, agent in made.items()}
        assert where["g-0"] == where["g-1"] == where["g-2"]
        talk.check()
        with pytest.raises(Unavailable, match="west is drained"):
            local.host("west").create(Liver, "late")
        why = local.host("west").call("blocked", agent=made["stubborn"].id)
        assert [row["why"] for row in why if "nothing wakes it while west is drained" in row["why"]]
        asked = local.host("north").agent(made["sleeper"].id)
        asked.send("add", 5)  # it waits
        opened = drain_west(local, "--cancel")
        all_back(made, go, opened["outcome"])
        until("the letter was read", lambda: asked.call("look")[3] == 5)
        assert made["stubborn"].call("hooks").count("activation") == 1
        talk.check()


@pytest.mark.slow
def test_a_host_that_is_killed_in_the_middle_goes_on_when_it_is_started(tmp_path: Path) -> None:
    with town(tmp_path / "root") as (local, made):
        local.host("west").call("drain", seconds=30.0)
        until("somebody went", lambda: local.host("west").call("drained")["moved"])
        local.kill_all("west")
        local.start("west")
        assert state(local) in ("being drained", "drained")
        with pytest.raises(Unavailable, match=r"west is (being )?drained"):
            local.host("east").create(Liver, "comer").dispatch("west")
        patiently(lambda: made["busy"].call("hold", False))
        drained = drain_west(local, "--deadline", "5")
        assert drained["state"] == "drained" and running_on(local, "west") == []
        moved = [agent for name, agent in made.items() if name not in (*STAY, "busy")]
        assert {agent.id for agent in moved} <= drained["moved"].keys()
        for agent in moved:
            assert patiently(lambda agent=agent: local.host("north").agent(agent.id).call("look"))[1] != "west"
        local.kill_all("west")
        local.start("west")
        until("it is drained still", lambda: state(local) == "drained")
        opened = drain_west(local, "--cancel")
        all_back(made, moved, opened["outcome"])


@pytest.mark.slow
def test_a_destination_that_is_killed_in_the_middle_takes_nobody_with_it(tmp_path: Path) -> None:
    with town(tmp_path / "root") as (local, made):
        west = local.host("west")
        made["busy"].call("hold", False)
        west.call("drain", seconds=20.0)
        moved = until("somebody went", lambda: west.call("drained")["moved"])
        destination = next(iter(moved.values()))
        local.kill_all(destination)
        until("it is offline", lambda: any(row["state"] == "offline" for row in west.call("hosts")))
        local.start(destination)
        until("it is drained", lambda: state(local) == "drained")
        assert running_on(local, "west") == []
        for name, agent in made.items():
            if name not in STAY:
                assert patiently(lambda agent=agent: local.host("east").agent(agent.id).call("look"))[1] != "west"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_host_that_is_not_heard_is_offline_and_what_it_has_is_started_nowhere_else(tmp_path: Path, how: str) -> None:
    with consortium(tmp_path / "root", light=True) as local:
        west, north = local.host("west"), local.host("north")
        came = north.create(Liver, "came")
        came.dispatch("west")
        held, born = west.create(Liver, "held", custody="held"), west.create(Liver, "born")
        daemon = processes.running(local.home("west"))
        assert daemon is not None
        if how == "stopped":
            os.kill(daemon.pid, signal.SIGSTOP)
        else:
            local.kill_all("west")
        try:
            hosts = lambda: {row["host"]: row for row in north.call("hosts")}  # noqa: E731
            row = until("west is offline", lambda: (row := hosts()["west"])["state"] == "offline" and row)
            assert row["offline_since"] is not None and row["trusted"]
            assert all(row["state"] == "online" for host, row in hosts().items() if host != "west")
            refused = cli(local, "drain", "west")
            assert refused.returncode == 1 and "offline, which is not dead" in refused.stderr
            assert f"{came.id} (local)" in refused.stderr and f"{born.id} (custody unknown)" in refused.stderr
            why = cli(local, "why", came.id, "--host", "north").stdout
            assert "offline since" in why and "nothing starts it elsewhere" in why
            # The fence of held custody alone lets an agent go on elsewhere.
            assert patiently(lambda: north.agent(held.id).call("look", patience=20))[1] != "west"
            rows = {row["agent"]: row for row in north.call("agents")}
            assert {rows[agent.id]["host"] for agent in (came, born)} == {"west"}
            others = [row for name in ("north", "east", "south") for row in local.host(name).call("agents")]
            assert not [row for row in others if row["agent"] in (came.id, born.id) and row["resident"]]
        finally:
            if how == "stopped":
                os.kill(daemon.pid, signal.SIGCONT)
            else:
                local.start("west")
        until("west is online", lambda: hosts()["west"]["state"] == "online")
        for agent in (came, born):
            assert patiently(lambda agent=agent: north.agent(agent.id).call("look"))[1] == "west"
        until("one host has it", lambda: len(local.residents(held.id)) == 1)

"""A group whose agents must be together, and live on two of four real daemons: the EDS takes it to a third as one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentplatform.console import processes
from agentplatform.consortium import COMPASS
from agentplatform.frontdoor.client import AgentProxy
from agents.counter import Counter
from tests.helpers.local import Local, consortium, patiently, until

FAR = {"east": 5_000.0, "north": 5_000.0, "west": 5_000.0, "south": 1.0}
NEAREST = """
[decisions.settings]
weight_threshold = 0.0
minimum_stay = 0.0
weights = { network = 1.0, cpu = 0.0, memory = 0.0, experience = 0.0 }
"""


@contextmanager
def hosts(root: Path) -> Iterator[Local]:
    """They decide by what the user's access point measured, and by nothing that this machine does meanwhile."""
    with consortium(root, start=(), light=True) as local:
        for name in COMPASS:
            with local.home(name).settings_file.open("a") as settings:
                settings.write(NEAREST)
        local.start(*COMPASS)
        yield local


def scattered(local: Local, custody: str = "held") -> list[AgentProxy]:
    """One is on north, two are on east, and all that are bound to be together."""
    north = local.host("north")
    agents = [north.create(Counter, name=name, init=1, custody=custody) for name in ("x", "y", "z")]
    for agent in agents:
        assert agent.call("add", 1) == 2
    ids = [agent.id for agent in agents]
    north.call("group", name="trio", user="ada", agents=ids, rules=[{"type": "atomic", "agents": ids}])
    for agent in agents[1:]:
        agent.dispatch("east")
    until("north knows where they are", lambda: [north.agent(each).host for each in ids[1:]] == ["east", "east"])
    until("links are measured", lambda: all_open(north.call("dry_run", about="trio")))
    return agents


def all_open(explanation: dict[str, Any]) -> bool:
    """Each agent may go to each host."""
    return all(row[2] != "rejected" for row in explanation["rows"])


def ada_moves(local: Local) -> None:
    """To where south is near, and all others are far."""
    access = [{"host": host, "rtt_ms": rtt, "loss": 0.0, "source": "emulated"} for host, rtt in FAR.items()]
    local.host("north").call("event", event={"type": "user-moved", "user": "ada", "access": access})


def first(local: Local, agent: AgentProxy) -> dict[str, Any]:
    """What became of the first decision that was to move it."""

    def outcome() -> dict[str, Any] | None:
        found = [each for each in patiently(lambda: local.host("north").call("why", agent=agent.id)) if each["outcome"]]
        return found[-1] if found else None

    decision = until("it is known what became of the decision", outcome)
    assert set(decision["chosen"].values()) == {"south"}, decision["chosen"]
    return dict(decision["outcome"])


def places(local: Local, agents: list[AgentProxy]) -> list[str]:
    """When each is in one place: hosts are asked one after the other, and an agent on its way may be met twice."""

    def rows() -> list[str] | None:
        found = [local.residents(agent.id) for agent in agents]
        return [row["host"] for (row,) in found] if all(len(each) == 1 for each in found) else None

    return list(until("each runs once", rows))


@pytest.mark.slow
def test_three_on_two_hosts_arrive_together_by_one_entry(tmp_path: Path) -> None:
    with hosts(tmp_path / "root") as local:
        agents = scattered(local)
        ada_moves(local)
        assert first(local, agents[0])["failed"] == {}
        assert places(local, agents) == ["south"] * 3
        assert [agent.call("add", 1) for agent in agents] == [3, 3, 3]
        assert [local.residents(agent.id)[0]["epoch"] for agent in agents] == [1, 2, 2]


@pytest.mark.slow
def test_in_local_custody_nobody_moves_and_why_says_what_to_do(tmp_path: Path) -> None:
    with hosts(tmp_path / "root") as local:
        agents = scattered(local, "local")
        ada_moves(local)
        failed = first(local, agents[0])["failed"]
        assert set(failed) == {agent.id for agent in agents}
        assert f"{agents[1].id} on east" in failed[agents[0].id] and "custody AGENT held" in failed[agents[0].id]
        assert len(set(failed.values())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["south", "east"])
def test_a_host_that_is_killed_in_between_leaves_all_or_none(tmp_path: Path, victim: str) -> None:
    """Its destination, or one of its sources, when both sources have signed."""
    with hosts(tmp_path / "root") as local:
        agents = scattered(local)
        south = processes.running(local.home("south"))
        assert south is not None
        south.suspend()
        ada_moves(local)
        until("both have signed", lambda: local.phases("north") == local.phases("east") == ["asked"])
        local.kill(victim)
        if victim != "south":
            south.resume()
        local.start(victim)
        failed = first(local, agents[0])["failed"]
        until("nothing is in doubt", lambda: not local.in_doubt())
        there = places(local, agents)
        print(there, failed)
        assert set(failed) in (set(), {agent.id for agent in agents}) and len(set(failed.values())) <= 1
        assert all("belong together, and stayed" in why for why in failed.values())
        assert len(set(there)) == 1 or there == ["north", "east", "east"]  # or it was decided again meanwhile
        west = local.host("west")
        assert [patiently(lambda agent=agent: west.agent(agent.id).call("read")) for agent in agents] == [2, 2, 2]

"""Four real daemons: one is killed and its folder is deleted; its held agents go on elsewhere, with all they said."""

import json
import shutil
import time
from pathlib import Path

import pytest

from agents.counter import Counter
from tests.helpers.local import Local, consortium, patiently, until

AGENTS = 3


def wipe(local: Local, host: str) -> None:
    """Kill it and all that it had started, and delete its folder: nothing of it is left."""
    for child in local.kill(host):
        child.wait()
    line = {"t": time.monotonic(), "host": "driver", "incarnation": 1, "event": "fault", "fault": "kill", "on": host}
    (local.history / "driver.jsonl").write_text(json.dumps(line) + "\n")
    shutil.rmtree(local.home(host).folder)


@pytest.mark.slow
def test_an_agent_that_moves_to_its_holder_is_not_left_without_one(tmp_path: Path) -> None:
    with consortium(tmp_path / "root") as local:
        asked = local.host("south").agent(local.host("east").create(Counter, init=0, custody="held").id)
        hosts = ["east", "south", "west", "north"]
        for number, host in enumerate((*hosts[1:], *hosts[:1]), 1):  # one of them holds its checkpoint
            asked.dispatch(host)
            assert asked.call("add", 1) == number
        asked.dispatch("west")
        wipe(local, "west")
        assert patiently(lambda: asked.call("add", 1, patience=20)) == 5
        assert asked.host != "west"


@pytest.mark.slow
def test_held_agents_of_a_host_that_is_gone_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    with consortium(tmp_path / "root") as local:
        east, south = local.host("east"), local.host("south")
        held = [east.create(Counter, name=f"held-{number}", init=number, custody="held") for number in range(AGENTS)]
        asked = [south.agent(each.id) for each in held]
        acknowledged = [patiently(lambda each=each: each.call("add", 10)) for each in asked]
        assert acknowledged == [number + 10 for number in range(AGENTS)]
        wipe(local, "east")
        for number, agent in enumerate(asked):
            assert patiently(lambda agent=agent: agent.call("add", 100, patience=20)) == number + 110
            home = local.host(agent.host)
            assert home.name != "east"
            (row,) = (each for each in home.call("agents") if each["agent"] == agent.id)
            assert (row["resident"], row["epoch"]) == (True, 1)
            # It has another holder now: the next host may go, too.
            until("nothing is blocked", lambda home=home: not home.call("status")["blocked"])

"""Four real daemons: one is killed and its folder is deleted; its held agents go on elsewhere, with all they said."""

from pathlib import Path

import pytest

from agents.counter import Counter
from tests.helpers.local import consortium, patiently, until

AGENTS = 3


@pytest.mark.slow
def test_a_host_that_comes_back_discards_its_copy(tmp_path: Path) -> None:
    with consortium(tmp_path / "root") as local:
        made = local.host("east").create(Counter, init=0, custody="held")
        asked = local.host("south").agent(made.id)
        assert asked.call("add", 1) == 1
        local.kill_all("east")
        assert patiently(lambda: asked.call("add", 1, patience=20)) == 2
        local.start("east")
        # Until its chain says more it has a copy, which stands still.
        (row,) = until("one host has it", lambda: len(rows := local.residents(made.id)) == 1 and rows)
        assert row["host"] == asked.host != "east"
        east = local.host("east")
        assert "the ledger gave it to" in str(east.call("logs", agent=made.id))
        assert east.agent(made.id).call("add", 1) == 3


@pytest.mark.slow
def test_an_agent_that_moves_to_its_holder_is_not_left_without_one(tmp_path: Path) -> None:
    with consortium(tmp_path / "root") as local:
        asked = local.host("south").agent(local.host("east").create(Counter, init=0, custody="held").id)
        hosts = ["east", "south", "west", "north"]
        for number, host in enumerate((*hosts[1:], *hosts[:1]), 1):  # one of them holds its checkpoint
            asked.dispatch(host)
            assert asked.call("add", 1) == number
        asked.dispatch("west")
        local.wipe("west")
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
        local.wipe("east")
        for number, agent in enumerate(asked):
            assert patiently(lambda agent=agent: agent.call("add", 100, patience=20)) == number + 110
            home = local.host(agent.host)
            assert home.name != "east"
            (row,) = (each for each in home.call("agents") if each["agent"] == agent.id)
            assert (row["resident"], row["epoch"]) == (True, 1)
            # It has another holder now: the next host may go, too.
            until("nothing is blocked", lambda home=home: not home.call("status")["blocked"])

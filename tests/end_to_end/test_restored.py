"""A host is started from a backup that is older than what it did since: docs/custody.md, "After a bad restore"."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from agentplatform.console.cli import main
from agentplatform.frontdoor.client import Host
from ledger.errors import Misuse
from tests.helpers.gossips import Gossip
from tests.helpers.local import Local, consortium, patiently, until

pytestmark = pytest.mark.slow


def command(local: Local, *words: object) -> int:
    return main(["--root", str(local.root), *map(str, words)])


def blocked(host: Host, agent: str) -> list[dict[str, Any]]:
    return [row for row in host.call("status")["blocked"] if agent in row["agents"]]


def test_of_an_agent_that_had_moved_one_copy_runs(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", light=True) as local:
        agent = local.host("north").create(Gossip)
        assert agent.call("hear", 1) == 1
        backup = tmp_path / "north.backup"
        assert command(local, "backup", "north", backup) == 0
        assert backup.stat().st_mode & 0o777 == 0o600
        agent.dispatch("south")
        until("it is on south", lambda: len(local.residents(agent.id)) == 1 and agent.host == "south")
        assert command(local, "restore", "north", backup, "--replace") == 2  # it runs
        command(local, "stop", "north")
        assert command(local, "restore", "north", backup) == 2  # it has data
        local.kill("south")
        assert command(local, "restore", "north", backup, "--replace") == 0
        local.start("north")

        north = local.host("north")
        (wait,) = until("it waits for south", lambda: blocked(north, agent.id))
        until("it waits for south", lambda: blocked(north, agent.id)[0]["waits_for"] == "south")
        assert "restored from a backup" in wait["why"] and north.call("status")["quarantined"] == 1
        (row,) = (row for row in north.call("agents") if row["agent"] == agent.id)
        assert row["state"] == "quarantined"
        with pytest.raises(Misuse, match="in quarantine"):
            north.agent(agent.id).dispatch("west")
        local.start("south")
        until("its copy has ended", lambda: not blocked(north, agent.id) and north.call("status")["quarantined"] == 0)
        assert patiently(lambda: north.agent(agent.id).call("hear", 2, patience=5.0)) == 2
        assert len(local.residents(agent.id)) == 1 and north.agent(agent.id).host == "south"
        assert any("had gone on to south" in line for line in north.call("logs", agent=agent.id)["lines"])


def test_an_agent_that_had_not_moved_goes_on_and_is_heard(tmp_path: Path) -> None:
    """What it did since the backup is lost. What it says next is no repeat of that, and what it is told is no gap."""
    with consortium(tmp_path / "root", light=True) as local:
        agent, other = local.host("north").create(Gossip, "one"), local.host("east").create(Gossip, "other")
        north = local.host("north")
        for number in (1, 2):
            assert patiently(lambda number=number: north.agent(agent.id).call("tell", [other.id, number])) == number
        assert command(local, "backup", "north", tmp_path / "backup") == 0
        for number in (3, 4, 5):
            assert agent.call("tell", [other.id, number]) == number
            assert other.call("tell", [agent.id, number]) == number - 2
        command(local, "stop", "north")
        assert command(local, "restore", "north", tmp_path / "backup", "--replace") == 0
        shutil.rmtree(local.home("north").folder / "data.replaced")
        local.start("north")

        north = local.host("north")
        until("nothing is in quarantine", lambda: north.call("status")["quarantined"] == 0)
        assert patiently(lambda: north.agent(agent.id).call("read", patience=5.0)) == []
        assert north.agent(agent.id).call("tell", [other.id, 6]) == 6
        assert other.call("tell", [agent.id, 7]) == 1
        assert other.call("read") == [1, 2, 3, 4, 5, 6] and north.agent(agent.id).call("read") == [7]
        # The same once more, from the same backup: it is another life again.
        command(local, "stop", "north")
        assert command(local, "restore", "north", tmp_path / "backup", "--replace") == 0
        local.start("north")
        assert patiently(lambda: local.host("north").agent(agent.id).call("tell", [other.id, 8], patience=5.0)) == 7
        assert other.call("tell", [agent.id, 9]) == 1
        local.host("north").agent(agent.id).dispatch("west")
        assert patiently(lambda: local.host("west").agent(agent.id).call("tell", [other.id, 10], patience=5.0)) == 8
        command(local, "stop", "north")
        local.start("north")
        assert patiently(lambda: other.call("read", patience=5.0)) == [1, 2, 3, 4, 5, 6, 8, 10]


def test_an_old_copy_that_nobody_marked_is_found_out_by_a_pass(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", light=True) as local:
        agent = local.host("north").create(Gossip)
        command(local, "stop", "north")
        home = local.home("north")
        shutil.copytree(home.data, tmp_path / "copied by hand")
        local.start("north")
        patiently(lambda: local.host("north").agent(agent.id).dispatch("south"))
        command(local, "stop", "north")
        shutil.rmtree(home.data)
        shutil.copytree(tmp_path / "copied by hand", home.data)
        command(local, "start", "north")
        until("it ends, and says why", lambda: "is an old copy" in local.log("north"))
        until("it has ended", lambda: command(local, "stop", "north") == 0)
        local.start("north")
        until("its copy has ended", lambda: local.host("north").call("status")["quarantined"] == 0)
        assert patiently(lambda: local.host("north").agent(agent.id).call("hear", 1, patience=5.0)) == 1
        assert local.host("north").agent(agent.id).host == "south" and len(local.residents(agent.id)) == 1


def test_an_agent_in_held_custody_goes_on_from_the_newest_copy(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", light=True) as local:
        agent = local.host("north").create(Gossip, custody="held")
        assert patiently(lambda: agent.call("hear", 1, patience=5.0)) == 1
        assert command(local, "backup", "north", tmp_path / "backup") == 0
        assert agent.call("hear", 2) == 2
        local.kill_all("north")
        assert command(local, "restore", "north", tmp_path / "backup", "--replace") == 0
        local.start("north")
        until("it is on a holder", lambda: local.host("north").agent(agent.id).host not in ("", "north"))
        assert patiently(lambda: local.host("north").agent(agent.id).call("read", patience=5.0)) == [1, 2]
        assert len(local.residents(agent.id)) == 1
        assert local.host("north").call("status")["quarantined"] == 0

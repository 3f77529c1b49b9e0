"""Held custody on four real daemons: the ledger says where an agent is; without a quorum it stands still."""

from pathlib import Path
from typing import Any

import pytest

from agents.counter import Counter
from ledger.errors import PlatformError
from tests.helpers.local import Local, consortium, patiently, until

HOSTS = ("north", "east", "south", "west")


def blocked(local: Local, host: str) -> list[dict[str, Any]]:
    return list(local.host(host).call("status")["blocked"])


def runs_once(local: Local, agent: str) -> list[dict[str, Any]]:
    rows = local.residents(agent)
    assert len(rows) <= 1
    return rows


@pytest.mark.slow
def test_it_moves_by_the_ledgers_word_and_stands_still_without_a_quorum(tmp_path: Path) -> None:
    with consortium(tmp_path / "root") as local:
        east = local.host("east")
        held, free = east.create(Counter, init=1, custody="held"), east.create(Counter, name="free", init=1)
        assert held.call("add", 1) == 2
        held.dispatch("south")
        assert held.host == "south" and held.call("add", 1) == 3
        (row,) = local.residents(held.id)
        assert (row["host"], row["epoch"]) == ("south", 1)

        for name in ("north", "west"):
            local.kill(name)
        waits = until("it stands still, and its host says why", lambda: blocked(local, "south"))
        assert [(each["agents"], each["waits_for"]) for each in waits] == [([held.id], "the ledger")]
        (why,) = local.host("south").call("blocked", agent=held.id)
        assert "no lease" in why["why"]
        assert free.call("add", 1) == 2  # local custody asks nobody
        with pytest.raises(PlatformError):
            held.call("add", 1, patience=2.0)
        local.start("north")
        until("it goes on", lambda: not blocked(local, "south"))
        assert patiently(lambda: held.call("read")) in (3, 4)  # what was asked meanwhile may have been handled, once


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["east", "south"])
def test_a_host_that_is_killed_amid_a_move_leaves_exactly_one(tmp_path: Path, victim: str) -> None:
    with consortium(tmp_path / "root") as local:
        held = local.host("east").create(Counter, init=1, custody="held")
        assert held.call("add", 1) == 2
        watcher = local.host("north")
        for epoch in range(3):
            source = until("it is somewhere", lambda: runs_once(local, held.id))[0]["host"]
            target = "south" if source == "east" else "east"
            try:
                local.host(source).call("dispatch", agent=held.id, host=target, command=b"", waiting=0.001 * epoch)
            except PlatformError:
                pass
            local.kill(victim)
            local.start(victim)
            until("nothing is in doubt", lambda: not local.in_doubt())
            until("exactly one runs", lambda: runs_once(local, held.id))
        assert patiently(lambda: watcher.agent(held.id).call("read")) == 2

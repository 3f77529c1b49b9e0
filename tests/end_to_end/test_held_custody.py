"""Held custody on four real daemons: the ledger says where an agent is; without a quorum it stands still."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentplatform.console import processes
from agents.counter import Counter
from ledger.errors import PlatformError
from tests.helpers.local import Local, consortium, patiently, until


def blocked(local: Local, host: str) -> list[dict[str, Any]]:
    return list(local.host(host).call("status")["blocked"])


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
def test_a_host_that_is_killed_while_the_ledger_is_asked_leaves_exactly_one(tmp_path: Path, victim: str) -> None:
    """Without a quorum the move stands at that step; later the ledger decides, one way or the other."""
    with consortium(tmp_path / "root") as local, ThreadPoolExecutor() as threads:
        held = local.host("east").create(Counter, init=1, custody="held")
        assert held.call("add", 1) == 2
        local.host("south").create(Counter, name="other", custody="held")  # so that it has a lease
        for name in ("north", "west"):
            local.kill(name)
        moving = threads.submit(held.dispatch, "south")
        until("both have signed", lambda: local.phases("east") == ["asked"] and local.phases("south") == ["received"])
        (wait,) = (each for each in blocked(local, "east") if "give them" in each["why"])
        assert (wait["agents"], wait["waits_for"]) == ([held.id], "the ledger")
        local.kill(victim)
        local.start(victim, "north", "west")
        until("nothing is in doubt", lambda: not local.in_doubt())
        (row,) = until("exactly one runs", lambda: local.residents(held.id))
        assert row["host"] in ("east", "south") and row["epoch"] == 1
        watcher = local.host("west")
        assert patiently(lambda: watcher.agent(held.id).call("read")) == 2
        moving.exception()  # what the caller hears is another matter


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["east", "south"])
def test_a_host_that_is_killed_while_the_agent_is_on_offer_leaves_exactly_one(tmp_path: Path, victim: str) -> None:
    with consortium(tmp_path / "root") as local, ThreadPoolExecutor() as threads:
        held = local.host("east").create(Counter, init=1, custody="held")
        assert held.call("add", 1) == 2
        south = processes.running(local.home("south"))
        assert south is not None
        south.suspend()
        moving = threads.submit(held.dispatch, "south")
        until("it is on offer", lambda: local.phases("east") == ["offered"])
        local.kill(victim)
        if victim != "south":
            south.resume()
        local.start(victim)
        until("nothing is in doubt", lambda: not local.in_doubt())
        until("exactly one runs", lambda: local.residents(held.id))
        assert patiently(lambda: local.host("west").agent(held.id).call("read")) == 2
        moving.exception()

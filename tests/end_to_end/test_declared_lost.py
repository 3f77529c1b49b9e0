"""A host is gone for good while an agent was on its way from there: its copy goes on when all others have signed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentplatform.console import processes
from agents.counter import Counter
from ledger.errors import Misuse, Unavailable
from tests.helpers.local import consortium, patiently, until


@pytest.mark.slow
def test_an_inert_copy_goes_on_after_its_source_was_revoked(tmp_path: Path) -> None:
    with consortium(tmp_path / "root") as local, ThreadPoolExecutor() as threads:
        agent = local.host("east").create(Counter, init=1)
        assert agent.call("add", 1) == 2
        until(
            "all know of it", lambda: all(local.host(each).agent(agent.id).host == "east" for each in ("south", "west"))
        )
        south = processes.running(local.home("south"))
        assert south is not None
        south.suspend()
        moving = threads.submit(agent.dispatch, "south")
        until("it is on offer", lambda: local.host("east").call("status")["in_doubt"])
        local.kill("east")
        south.resume()

        host = local.host("south")
        (wait,) = until("south has the copy", lambda: host.call("status")["blocked"])
        assert (wait["agents"], wait["waits_for"]) == ([agent.id], "east")
        with pytest.raises(Unavailable, match="not signed by east:"):
            host.call("declare_lost", agent=agent.id, waiting=5.0)
        for name in ("north", "south", "west"):
            local.host(name).call("vote_revoke", organisation="east-org", reason="it burnt down")
        local.kill("west")
        with pytest.raises(Unavailable, match="not signed by west:"):
            host.call("declare_lost", agent=agent.id, waiting=2.0)
        local.start("west")

        declared = patiently(lambda: host.call("declare_lost", agent=agent.id, waiting=30.0, patience=90.0))
        assert declared == {"agent": agent.id, "host": "south", "lost": "east", "epoch": 2}
        assert host.call("status")["blocked"] == []
        for name in ("west", "south"):
            proxy = local.host(name).agent(agent.id)
            assert patiently(lambda proxy=proxy: proxy.call("read", patience=2.0)) == 2
        with pytest.raises(Misuse, match="no inert copy"):
            host.call("declare_lost", agent=agent.id, waiting=2.0)
        host.agent(agent.id).dispatch("west")
        local.kill("south")
        local.start("south")
        assert patiently(lambda: local.host("south").agent(agent.id).call("add", 1, patience=2.0)) == 3
        moving.exception()  # what the caller hears is another matter

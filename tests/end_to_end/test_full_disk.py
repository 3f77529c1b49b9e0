"""A real daemon whose data lies on a disk that runs full: it lives on, lets nothing out that is not written, and goes
on by itself when there is room."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentplatform.console import processes
from agentplatform.frontdoor.client import AgentProxy
from ledger.errors import PlatformError, Unavailable
from tests.helpers.local import Local, consortium, patiently, until
from tests.helpers.shuttle import Shuttle
from tests.helpers.small_disk import fill, on_small_disk, seen, why_not

NORTH, SOUTH = "north", "south"
SIZE = 48 << 20


@pytest.fixture
def hosts(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    """South has a small disk, and a reserve of so many bytes."""
    (tmp_path / "try").mkdir()
    if (reason := why_not(tmp_path / "try")) is not None:
        pytest.skip(reason)
    with consortium(tmp_path / "root", NORTH, SOUTH, start=(), light=True) as local:
        home = local.home(SOUTH)
        home.data.mkdir(mode=0o700, exist_ok=True)
        home.settings_file.write_text(home.settings_file.read_text() + f"[disk]\nreserve = {request.param}\n")

        class Popen(subprocess.Popen[bytes]):
            def __init__(self, command: list[str], **options: Any) -> None:
                if str(home.folder) in command:
                    command = on_small_disk(home.data, SIZE, command)
                super().__init__(command, **options)

        monkeypatch.setattr(processes.subprocess, "Popen", Popen)
        local.start(NORTH, SOUTH)
        yield local


def status(hosts: Local, host: str) -> dict[str, Any]:
    return dict(hosts.host(host).call("status"))


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [4 << 20], indirect=True)
def test_a_host_outlives_a_full_disk_and_lets_nothing_out_meanwhile(hosts: Local) -> None:
    stays = hosts.host(SOUTH).create(Shuttle, "stays", [NORTH, SOUTH])
    leaves = hosts.host(SOUTH).create(Shuttle, "leaves", [NORTH, SOUTH])
    comes = hosts.host(NORTH).create(Shuttle, "comes", [NORTH, SOUTH])
    assert stays.call("note", 1) == 1
    process = processes.running(hosts.home(SOUTH))
    assert process is not None
    filler = fill(seen(process.pid, hosts.home(SOUTH).data))
    with ThreadPoolExecutor(8) as callers:
        answers = [callers.submit(stays.call, "note", number, patience=60.0) for number in range(2, 6)]
        full = until("it notices", lambda: status(hosts, SOUTH)["disk_full"])
        assert f"free 8 MiB under {hosts.home(SOUTH).data}" in full
        (wait,) = hosts.host(SOUTH).call("blocked", agent=stays.id)
        assert wait["waits_for"] == "room on the disk" and "free 8 MiB" in wait["why"]
        late = callers.submit(stays.call, "note", 6, patience=60.0)  # it does not even reach the agent
        with pytest.raises(Unavailable, match=r"south takes no new agents: the disk is full: free 8 MiB"):
            hosts.host(SOUTH).create(Shuttle, "new", [NORTH, SOUTH])
        with pytest.raises(Unavailable, match=r"south refused: south has no room: the disk is full: free 8 MiB"):
            comes.dispatch(SOUTH)
        height = status(hosts, NORTH)["ledger"]["height"]
        leaves.dispatch(NORTH)  # what an operator would do; the reserve is for that
        assert hosts.host(NORTH).agent(leaves.id).call("look")["host"] == NORTH
        assert status(hosts, SOUTH)["disk_full"] and not late.done()
        assert status(hosts, NORTH)["ledger"]["height"] == height  # south's vote is needed, and it rests
        filler.unlink()
        assert sorted(answer.result() for answer in (*answers, late)) == [2, 3, 4, 5, 6]
    until("there is room", lambda: status(hosts, SOUTH)["disk_full"] is None)
    assert hosts.host(SOUTH).call("blocked", agent=stays.id) == []
    assert sorted(stays.call("look")["notes"]) == [1, 2, 3, 4, 5, 6]  # each handled once
    patiently(lambda: comes.dispatch(SOUTH))
    assert hosts.host(SOUTH).create(Shuttle, "new", [NORTH, SOUTH]).call("note", 1) == 1
    until("the ledger goes on", lambda: status(hosts, SOUTH)["ledger"]["height"] > height)
    assert processes.running(hosts.home(SOUTH)) == process


def talk_until_full(hosts: Local, agent: AgentProxy, callers: ThreadPoolExecutor) -> None:
    """The log has some room of its own, so that it takes a while. What is answered meanwhile is written."""

    def answered_or_full() -> bool:
        return bool(status(hosts, SOUTH)["disk_full"]) or answer.done()

    while not status(hosts, SOUTH)["disk_full"]:
        answer = callers.submit(agent.call, "note", "before", patience=60.0)
        until("an answer, or none", answered_or_full)


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [0], indirect=True)
def test_without_a_reserve_all_waits_and_a_host_stops_all_the_same(hosts: Local) -> None:
    stays = hosts.host(SOUTH).create(Shuttle, "stays", [NORTH, SOUTH])
    process = processes.running(hosts.home(SOUTH))
    assert process is not None
    folder = seen(process.pid, hosts.home(SOUTH).data)
    with ThreadPoolExecutor(4) as callers:
        filler = fill(folder)
        talk_until_full(hosts, stays, callers)
        late = callers.submit(stays.call, "note", "late", patience=60.0)
        assert status(hosts, SOUTH)["disk_full"] and not late.done()
        filler.unlink()
        late.result()
        until("there is room", lambda: status(hosts, SOUTH)["disk_full"] is None)
        assert stays.call("look")["notes"][-1] == "late"
        fill(folder)
        talk_until_full(hosts, stays, callers)
        never = callers.submit(stays.call, "note", "never", patience=60.0)
        assert status(hosts, SOUTH)["disk_full"] and not never.done()
        (stopped,) = processes.stop(hosts.root, [SOUTH])
        assert stopped["by"] == "word"
        with pytest.raises(PlatformError):
            never.result()

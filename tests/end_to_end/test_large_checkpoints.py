"""Agents that are too large for the journal, on a real daemon: their checkpoints are files of its spool, it has none of
that in memory, and after kill -9 they go on from what they answered last.
"""

import threading
from collections.abc import Iterator
from typing import Any

import numpy
import psutil
import pytest

from agentplatform import Agent, Message
from agentplatform.console import processes
from tests.helpers.local import Local, consortium, gone, patiently, until

NORTH = "north"
MIB = 1 << 20


class Archive(Agent):
    """With the default checkpoints: each message is one transaction."""

    def on_creation(self, init: Any) -> None:
        self.pages = numpy.zeros(init // 8, dtype=numpy.uint64)
        self.marks: list[int] = []

    def on_activation(self) -> None:
        self.marks.append(-1)

    def handle_message(self, message: Message) -> Any:
        if message.kind == "mark":
            self.marks.append(message.body)
            self.pages[message.body :: 1 << 16] += 1
        elif message.kind == "shrink":
            self.pages = self.pages[: message.body // 8].copy()
        return [self.marks, int(self.pages.sum()), len(self.pages) * 8]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("large-checkpoints") / "root", NORTH, light=True) as local:
        yield local


def spooled(hosts: Local) -> set[str]:
    return {path.name for path in (hosts.home(NORTH).data / "spool").iterdir()}


def restart(hosts: Local) -> None:
    started = hosts.kill(NORTH)
    until("its workers are gone", lambda: gone(started))
    hosts.start(NORTH)


def live(hosts: Local, size: int) -> int:
    """Returns by how many bytes the daemon grew meanwhile, at most."""
    daemon = processes.running(hosts.home(NORTH))
    assert daemon is not None
    before = grown = daemon.memory_info().rss
    over = threading.Event()

    def watch() -> None:
        nonlocal grown
        while not over.wait(0.005):
            grown = max(grown, daemon.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        agent = hosts.host(NORTH).create(Archive, init=size)
        seen = [agent.call("mark", page, patience=60.0) for page in (1, 2)][-1]
        until("one file has its state", lambda: len(spooled(hosts)) == 1)
        kept = spooled(hosts)
        assert agent.call("look", patience=60.0) == seen and spooled(hosts) == kept  # nothing was written
        clone = agent.clone()
        assert clone.call("mark", 3, patience=60.0)[0] == [1, 2, 3]
        clone.dispose()
        agent.deactivate()
        before_it_woke = spooled(hosts)
        agent.activate()
        until("on_activation is kept", lambda: len(spooled(hosts)) == 1 and spooled(hosts) != before_it_woke)
    finally:
        over.set()
        watcher.join()
    (hosts.home(NORTH).data / "spool" / "orphan").write_bytes(b"of nobody")
    restart(hosts)
    again = patiently(lambda: hosts.host(NORTH).agent(agent.id))
    assert patiently(lambda: again.call("look", patience=60.0)) == [[1, 2, -1], seen[1], seen[2]]
    until("one file has its state", lambda: len(spooled(hosts)) == 1)
    assert again.call("shrink", MIB, patience=60.0)[2] == MIB
    until("the journal has it now", lambda: not spooled(hosts))
    restart(hosts)
    assert patiently(lambda: again.call("look", patience=60.0))[2] == MIB
    again.dispose()
    return int(grown - before)


@pytest.mark.slow
def test_a_large_agent_survives_kill_9(hosts: Local) -> None:
    assert live(hosts, 260 * MIB) < 64 * MIB


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_daemon_of_an_agent_of_one_gib_grows_by_less_than_64_mib(hosts: Local) -> None:
    if psutil.virtual_memory().available < 6 << 30 or psutil.disk_usage(str(hosts.root)).free < 8 << 30:
        pytest.skip("it needs 6 GiB of free memory, and 8 GiB of disk")
    grown = live(hosts, 1024 * MIB)
    print(f"the daemon grew by {grown / MIB:.1f} MiB")
    assert grown < 64 * MIB

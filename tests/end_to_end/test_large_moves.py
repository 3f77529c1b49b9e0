"""Large states between real daemons: what both have in memory and on the disk, and what a kill leaves."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy
import psutil
import pytest

from agentplatform import Agent, Message
from agentplatform.console import processes
from agentplatform.frontdoor.client import AgentProxy
from ledger.errors import PlatformError
from tests.helpers.local import Local, consortium, gone, until

NORTH, SOUTH = "north", "south"
MIB = 1 << 20


class Library(Agent):
    checkpoint = "hop"

    def on_creation(self, init: Any) -> None:
        self.shelves = numpy.arange(init // 8, dtype=numpy.uint64)
        self.failed: list[str] = []

    def handle_message(self, message: Message) -> Any:
        if message.kind == "add":
            self.shelves += message.body
        return [int(self.shelves.sum()), len(self.failed)]

    def on_move_failed(self, reason: str) -> None:
        self.failed.append(reason)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("large-moves") / "root", NORTH, SOUTH, light=True) as local:
        yield local


def spool(hosts: Local, host: str) -> list[int]:
    """Bytes of each file that lies there."""
    return [path.stat().st_size for path in (hosts.home(host).data / "spool").iterdir()]


def memory(hosts: Local, host: str) -> int:
    daemon = processes.running(hosts.home(host))
    assert daemon is not None
    return int(daemon.memory_info().rss)


def move(hosts: Local, size: int, most: int) -> None:
    """There and back; neither daemon may ever have grown by more than `most` bytes."""
    agent = hosts.host(NORTH).create(Library, init=size)
    seen = agent.call("add", 3)
    before = {host: memory(hosts, host) for host in (NORTH, SOUTH)}
    grown = dict.fromkeys(before, 0)
    moving = threading.Event()

    def watch() -> None:
        while not moving.wait(0.005):
            for host in before:
                grown[host] = max(grown[host], memory(hosts, host) - before[host])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for host, other in ((SOUTH, NORTH), (NORTH, SOUTH)):
            hop = agent.dispatch(host, patience=600.0)
            assert hop["bytes"] > size and agent.call("look", patience=60.0) == seen
            until("only the agent's host has its state", lambda host=host, other=other: (  # type: ignore[misc]
                len(spool(hosts, host)) == 1 and not spool(hosts, other)
            ))  # fmt: skip
    finally:
        moving.set()
        watcher.join()
    assert max(grown.values()) < most, grown
    agent.dispose()
    until("nothing is left on the disk", lambda: not spool(hosts, NORTH))


def test_neither_daemon_has_a_large_state_in_memory(hosts: Local) -> None:
    move(hosts, 96 * MIB, 64 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_gib_move_through_daemons_that_grow_by_less_than_64_mib(hosts: Local) -> None:
    if psutil.virtual_memory().available < 8 << 30 or psutil.disk_usage(str(hosts.root)).free < 12 << 30:
        pytest.skip("it needs 8 GiB of free memory, and 12 GiB of disk")
    move(hosts, 2048 * MIB, 64 * MIB)


def test_a_host_that_was_restarted_opens_a_large_state_from_its_disk(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Library, init=8 * MIB)
    seen = agent.call("add", 1)
    agent.dispatch(SOUTH)
    (hosts.home(SOUTH).data / "spool" / "orphan").write_bytes(b"of nobody")
    started = hosts.kill(SOUTH)
    until("its workers are gone", lambda: gone(started))
    hosts.start(SOUTH)
    assert hosts.host(SOUTH).agent(agent.id).call("look") == seen
    assert len(spool(hosts, SOUTH)) == 1  # the orphan is gone
    hosts.host(SOUTH).agent(agent.id).dispose()


def try_to_move(agent: AgentProxy) -> None:
    with suppress(PlatformError):
        agent.dispatch(SOUTH, patience=60.0)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [NORTH, SOUTH])
def test_sigkill_in_mid_stream(hosts: Local, victim: str) -> None:
    agent = hosts.host(NORTH).create(Library, init=384 * MIB)
    seen, _ = agent.call("add", 7)
    agent.dispatch(SOUTH, patience=60.0)
    agent = hosts.host(SOUTH).agent(agent.id)
    agent.dispatch(NORTH, patience=60.0)  # so that it has a state that outlives its host
    agent = hosts.host(NORTH).agent(agent.id)
    until("the other's spool is empty", lambda: not spool(hosts, SOUTH))
    mover = threading.Thread(target=try_to_move, args=(agent,))
    mover.start()
    until("pieces arrive", lambda: spool(hosts, SOUTH))
    started = hosts.kill(victim)
    until("its workers are gone", lambda: gone(started))
    hosts.start(victim)
    mover.join()
    until("nothing is in doubt", lambda: not hosts.in_doubt())
    (row,) = until("it is somewhere", lambda: hosts.residents(agent.id))
    home, other = (NORTH, SOUTH) if row["host"] == NORTH else (SOUTH, NORTH)
    agent = hosts.host(home).agent(agent.id)
    assert until("it answers", lambda: agent.call("look", patience=60.0))[0] == seen
    until("only its host has files", lambda: not spool(hosts, other))
    assert agent.dispatch(other, patience=120.0)["destination"] == other
    assert hosts.host(other).agent(agent.id).call("look", patience=60.0)[0] == seen
    hosts.host(other).agent(agent.id).dispose()
    until("nothing is left on the disk", lambda: not spool(hosts, other))

"""Histories: lines that outlive their writer, files of their own, and nothing of it when none was asked for."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.events import Depart, Durable, GiveUp, Message
from agentplatform.custody.held import Held
from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Accept, Cargo
from agentplatform.custody.records import Aborted, Active, Born, Commit, Prepare, Received
from agentplatform.history import ENVIRONMENT, History, HostHistory, of_worker
from agentplatform.mail import Change, Letter, Luggage, Memory, Reply, Seen
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Arrival, Move
from agentplatform.runners.witness import WitnessedResident
from agentplatform.witnesses import watched
from ledger import codec
from ledger.errors import Misuse
from ledger.memory_disk import MemoryDisk
from tests.helpers.mail_desk import Desk
from tests.helpers.sealing import seals
from tests.helpers.travellers import Counter

AGENT, TRANSFER = "clerk-0011223344556677", b"t" * 16


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]


def events(folder: Path) -> list[str]:
    return [line["event"] for line in lines(folder)]


def test_a_line_says_when_where_and_in_which_life(tmp_path: Path) -> None:
    before = time.monotonic()
    HostHistory(tmp_path, "north").write("running", agent=AGENT, epoch=3)
    HostHistory(tmp_path, "north").write("frozen", agent=AGENT, epoch=3)
    first, second = lines(tmp_path)
    assert before <= first.pop("t") <= second.pop("t") <= time.monotonic()
    assert first == {"host": "north", "incarnation": 1, "event": "running", "agent": AGENT, "epoch": 3}
    assert second == {"host": "north", "incarnation": 2, "event": "frozen", "agent": AGENT, "epoch": 3}


def test_a_worker_has_a_file_of_its_own_and_its_agents_do_not_see_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = HostHistory(tmp_path, "north")
    monkeypatch.setenv(ENVIRONMENT, str(daemon.prefix))
    worker = of_worker()
    assert worker is not None and ENVIRONMENT not in os.environ
    worker.write("running", agent=AGENT, epoch=0)
    assert (worker.host, worker.incarnation) == ("north", 1)
    assert (tmp_path / f"north.1.worker-{os.getpid()}.jsonl").stat().st_size > 0
    assert (tmp_path / "north.1.jsonl").stat().st_size == 0
    assert of_worker() is None


def test_a_line_outlives_the_kill_of_its_writer(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from agentplatform.history import HostHistory;"
        "HostHistory(Path(sys.argv[1]), 'north').write('fault', what='kill'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL and events(tmp_path) == ["fault"]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misuse, match="name another folder"):
        HostHistory(tmp_path / "file", "north")


def test_nothing_stands_between_when_no_history_is_asked_for() -> None:
    assert watched(Held, None) is Held and watched(Journal, None) is Journal


def test_custodys_records_are_told_when_they_are_durable_and_its_messages_before_they_leave(tmp_path: Path) -> None:
    source = watched(Held, HostHistory(tmp_path / "s", "north"))("north")
    source.step(Durable(source._write(Born(AGENT, 0)).record))
    cargo = (Cargo(AGENT, 1),)
    source.step(Depart(TRANSFER, "south", cargo))
    assert events(tmp_path / "s") == ["active", "offer"]
    source.step(Durable(Prepare(TRANSFER, "south", cargo)))
    source.step(Message("south", Accept(TRANSFER)))
    assert events(tmp_path / "s") == ["active", "offer", "prepare"]  # COMMIT is not durable yet
    source.step(Durable(Commit(TRANSFER, cargo)))
    assert events(tmp_path / "s") == ["active", "offer", "prepare", "commit", "notice"]
    (born, offer, *_) = lines(tmp_path / "s")
    assert (born["epoch"], born["transfer"]) == (0, "")
    assert (offer["agent"], offer["epoch"], offer["transfer"]) == (AGENT, 1, TRANSFER.hex())

    there = watched(Held, HostHistory(tmp_path / "d", "south"))("south")
    received = Received(TRANSFER, "north", cargo)
    there.apply(received)
    there.step(Durable(received))
    there.apply(Active(TRANSFER, ()))
    there.step(Durable(Active(TRANSFER, ())))
    assert events(tmp_path / "d") == ["received", "active"]


def test_a_commit_whose_line_was_lost_with_its_writer_is_told_after_the_restart(tmp_path: Path) -> None:
    cargo = (Cargo(AGENT, 1),)
    records = [Born(AGENT, 0), Prepare(TRANSFER, "south", cargo), Commit(TRANSFER, cargo)]
    watched(Held, HostHistory(tmp_path, "north")).recover("north", records)
    assert events(tmp_path) == ["commit", "notice"]


def test_an_abort_is_no_commit(tmp_path: Path) -> None:
    source = watched(Held, HostHistory(tmp_path, "north"))("north")
    source.apply(Born(AGENT, 0))
    cargo = (Cargo(AGENT, 1),)
    source.step(Depart(TRANSFER, "south", cargo))
    source.step(GiveUp(TRANSFER, "late"))
    source.step(Durable(Aborted(TRANSFER, cargo)))
    assert events(tmp_path) == ["offer"]


async def test_messages_are_told_when_they_are_durable_and_not_when_the_power_goes(tmp_path: Path) -> None:
    disk = MemoryDisk(hold=True)
    journal = await watched(Journal, HostHistory(tmp_path, "north")).open(disk, seals())
    letter = Letter(AGENT, 0, 1, 0, "friend-0011223344556677", "north", "tell", b"")
    change = Change(None, [Seen("client-1", 4, 0, None)], letters=[letter])
    durable = journal.checkpoint(AGENT, change)
    order: list[str] = []
    durable.add_done_callback(lambda _: order.extend(events(tmp_path)))  # as who sends the answer does
    await asyncio.sleep(0)
    assert events(tmp_path) == []
    disk.sync()
    await durable
    await asyncio.sleep(0)
    assert order == ["handled", "sent"]
    handled, sent = lines(tmp_path)
    assert (handled["sender"], handled["sequence"], handled["receiver"]) == ("client-1", 4, AGENT)
    assert (sent["sender"], sent["sequence"], sent["receiver"]) == (AGENT, 1, "friend-0011223344556677")
    journal.checkpoint(AGENT, change)
    disk.crash()
    await asyncio.sleep(0)
    assert len(events(tmp_path)) == 2


def handled(folder: Path) -> list[tuple[str, int]]:
    return [(line["sender"], line["sequence"]) for line in lines(folder) if line["event"] == "handled"]


async def test_what_holders_have_not_counts_when_it_goes_with_the_agent_and_not_when_it_stays_behind(
    tmp_path: Path,
) -> None:
    history = HostHistory(tmp_path, "north")

    class Slow(Replication):
        """Its holders take their time."""

        def __init__(self) -> None:
            self.waits: list[asyncio.Future[None]] = []

        def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
            self.waits.append(asyncio.get_running_loop().create_future())
            return self.waits[-1]

    there = watched(Slow, history)()
    machine = watched(Held, history)("north")
    machine.step(Durable(machine._write(Born(AGENT, 0)).record))
    for number in (1, 2, 3):
        friend = Seen("friend-0011223344556677", number, 0, None)  # who will send again, should the copy be lost
        there.checkpoint(AGENT, Change(None, [Seen("client-1", number, 0, None), *([friend] if number > 1 else ())]))
    there.waits[0].set_result(None)
    await asyncio.sleep(0)
    assert handled(tmp_path) == [("client-1", 1)]
    cargo = (Cargo(AGENT, 1),)
    machine.step(Depart(TRANSFER, "south", cargo))
    machine.step(Durable(Prepare(TRANSFER, "south", cargo)))
    there.waits[1].set_result(None)
    there.waits[2].cancel()  # the agent has left
    await asyncio.sleep(0)
    assert handled(tmp_path) == [("client-1", 1), ("client-1", 2), ("client-1", 3)]
    frozen: list[Callable[[], None]] = []
    history.release = lambda agent, act: frozen.append(act)  # its host was stopped past its lease
    there.checkpoint("third", Change(None, [Seen("client-1", 5, 0, None)]))
    there.waits.pop().set_result(None)
    await asyncio.sleep(0)
    assert len(handled(tmp_path)) == 3 and len(frozen) == 1  # to be dropped, if the agent was given away
    there.checkpoint("other", Change(None, [Seen("client-1", 4, 0, None)]))
    there.waits[3].cancel()  # the ledger gave the agent to another host
    await asyncio.sleep(0)
    assert len(handled(tmp_path)) == 3


async def test_a_handling_whose_line_was_lost_with_its_writer_is_told_after_the_restart_and_once(
    tmp_path: Path,
) -> None:
    for written in (False, True):
        history = HostHistory(tmp_path, "north")
        desk = Desk(room=watched(Mailroom, history))
        memory = Memory(
            0, 3, [Reply(AGENT, "client-1", 2, "north", False, b""), Reply(AGENT, "client-1", 3, "", True, b"")]
        )
        friend = "friend-0011223344556677"  # nobody tells it that a letter was handled
        also = Memory(0, 3, [Reply(AGENT, friend, 3, "north", True, b"")])
        watched(Held, history).recover("north", [Born(AGENT, 0)])
        desk.room.admit(AGENT, 0, Luggage({"client-1": memory, friend: also}))
        desk.room.remove(AGENT)
        desk.room.admit(AGENT, 0, Luggage({"client-2": memory}))  # it comes back from elsewhere, where it was told
        assert handled(tmp_path) == [("client-1", 3)], f"written: {written}"


SEEN: list[tuple[str, list[str]]] = []  # hooks, and what was told before them


class Watching(Counter):
    def on_creation(self, init: Any) -> None:
        self.folder = Path(init)
        SEEN.append(("creation", events(self.folder)))
        super().on_creation(0)

    def on_dispatching(self, destination: str) -> None:
        SEEN.append(("dispatching", events(self.folder)))


class Nobody:
    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


async def test_a_worker_tells_of_a_stay_from_before_its_first_hook_to_after_its_last(tmp_path: Path) -> None:
    resident = WitnessedResident(
        History(tmp_path / "north.jsonl", "north", 1), AGENT, "clerk", cast(Any, Nobody()), lambda agent: None, 5.0
    )
    await resident.create(Watching, codec.encode(str(tmp_path)), Arrival("north", 7, None))
    await resident.capture(Move("south", "owner", "a test"))
    resident.thaw("refused")
    await resident.dispose()
    assert SEEN == [("creation", ["running"]), ("dispatching", ["running"])]
    assert events(tmp_path) == ["running", "frozen", "running", "frozen"]
    assert [(line["epoch"], line.get("ended")) for line in lines(tmp_path)] == [(7, None)] * 3 + [(7, True)]


async def test_a_worker_that_stops_with_its_lease_tells_so_once_and_only_of_agents_that_ran(tmp_path: Path) -> None:
    there = History(tmp_path / "north.jsonl", "north", 1)
    resident = WitnessedResident(there, AGENT, "clerk", cast(Any, Nobody()), lambda agent: None, 5.0)
    resident.pausing(True)  # before it runs: it was opened, and waits for its activation
    resident.pausing(False)
    assert events(tmp_path) == []
    await resident.create(Counter, codec.encode(0), Arrival("north", 0, None))
    for stops in (True, True, False, False):  # one stop within another
        resident.pausing(stops)
    await resident.capture(Move("south", "owner", "a test"))
    resident.pausing(True)
    resident.pausing(False)
    assert events(tmp_path) == ["running", "frozen", "running", "frozen"]

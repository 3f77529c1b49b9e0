"""What `benchmarks.migration` stands on: its sums, a disk and a link that are slow, and what it makes of notes."""

import asyncio
import json
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ledger.disk
from agentplatform import ground, rooms
from agentplatform.consortium import found
from agentplatform.custody.messages import Life, Offer, Recall
from benchmarks import migration, migration_mae, parts
from benchmarks.hosts import set_workers
from benchmarks.migration_hosts import _slow_down
from benchmarks.shuttles import Shuttle
from benchmarks.slow_disk import SlowDisk
from benchmarks.slow_link import SlowLink
from ledger import codec
from ledger.disk import FileDisk
from ledger.identity import Identity
from ledger.links.base import Channel
from ledger.sqlite import Schema

NUMBERS = Schema("numbers", 1, ("CREATE TABLE numbers (number INTEGER)",))
SECONDS = 0.02


def test_ratios_are_of_medians_and_of_the_95th_percentiles() -> None:
    ours, bare = [2.0] * 90 + [8.0] * 10, [1.0] * 90 + [2.0] * 10
    assert migration.ratios("ratio", ours, bare) == {"ratio": 2.0, "ratio_p95": 4.0}
    assert migration.spread("hop", ours) == {"hop_ms_p50": 2.0, "hop_ms_p95": 8.0}


def test_who_is_not_installed_has_null_and_no_ratio() -> None:
    assert migration.peer("ray_recreate.py", None, 3) is None
    assert migration.versus("ray_recreate", None, 2.0) == {"ray_recreate_ms_p50": None, "ratio_vs_ray_recreate": None}
    assert migration.versus("paglets", 150.0, 2.0) == {"paglets_ms_p50": 150.0, "ratio_vs_paglets": 75.0}


def test_a_peer_is_asked_by_its_own_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "it warms up"\necho \'{"ms": [3.0, 1.0, 2.0]}\'\n')
    python.chmod(0o700)
    assert migration.peer("paglets_hop.py", python, 3) == 2.0
    python.write_text("#!/bin/sh\necho 'no module named paglets' >&2\nexit 1\n")
    with pytest.raises(SystemExit, match="no module named paglets"):
        migration.peer("paglets_hop.py", python, 3)


def test_the_floor_carries_what_the_agent_carries() -> None:
    """An attribute of the agent that the floor does not have would make the floor too cheap."""
    shuttle = Shuttle()
    shuttle.on_creation({"hosts": migration.PAIR, "bytes": 100, "rest": None})
    moving = object.__new__(migration.Moving)
    moving._init, moving._size = {"hosts": migration.PAIR, "bytes": 100, "rest": None}, 100
    state = moving.state([1.0])
    assert set(vars(shuttle)) <= set(state)
    assert len(state["ballast"]) == len(shuttle.ballast) == 100


# A slow disk, and a slow link


async def test_a_commit_on_the_slow_disk_takes_its_time_and_a_read_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(ledger.disk, "connect", SlowDisk(1000.0).connect)
    disk = FileDisk(tmp_path / "data")
    database = await disk.open("numbers", NUMBERS)
    for number in range(2):
        await database.write(("INSERT INTO numbers VALUES (?)", (number,)))
    assert await database.read("SELECT number FROM numbers") == [(0,), (1,)]
    await disk.close()
    assert len(slept) == 2 and all(900.0 < each <= 1000.0 for each in slept)


async def test_the_slow_disk_makes_the_same_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger.disk, "connect", SlowDisk(0.0).connect)
    disk = FileDisk(tmp_path / "data")
    database = await disk.open("numbers", NUMBERS)
    await database.write(("INSERT INTO numbers VALUES (7)", ()))
    await disk.close()
    monkeypatch.undo()
    disk = FileDisk(tmp_path / "data")
    assert await (await disk.open("numbers", NUMBERS)).read("SELECT number FROM numbers") == [(7,)]
    await disk.close()


def echo(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        while piece := connection.recv(1 << 16):
            connection.sendall(piece)


def test_what_passes_a_slow_link_comes_whole_in_order_and_late() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=echo, args=(listening,), daemon=True).start()
        link = SlowLink(0, listening.getsockname()[1], SECONDS)
        try:
            with socket.create_connection(("127.0.0.1", link.port)) as near:
                begin = time.monotonic()
                near.sendall(b"x")
                assert near.recv(1) == b"x"
                assert time.monotonic() - begin >= 2 * SECONDS
                sent = bytes(range(256)) * 4096
                threading.Thread(target=near.sendall, args=(sent,), daemon=True).start()
                got = b""
                while len(got) < len(sent):
                    piece = near.recv(1 << 16)
                    assert piece
                    got += piece
                assert got == sent
                near.shutdown(socket.SHUT_WR)
                assert near.recv(1) == b""  # the end passes too
        finally:
            link.close()


def test_a_host_behind_a_slow_link_listens_elsewhere(tmp_path: Path) -> None:
    (home,) = found(tmp_path / "root", ("north",))
    before = home.settings().listen
    link = _slow_down(home, SECONDS)
    try:
        assert f"127.0.0.1:{link.port}" == before != home.settings().listen
    finally:
        link.close()


def test_what_is_not_named_of_a_hosts_workers_stays(tmp_path: Path) -> None:
    (home,) = found(tmp_path / "root", ("north",))
    before = home.settings()
    set_workers(home, readable=['/srv/the "best" models'], gpu=True)
    after = home.settings()
    assert after.workers.readable == ('/srv/the "best" models',) and after.workers.gpu
    assert after.workers.preload == before.workers.preload and after.listen == before.listen


# Where the time goes


async def test_what_is_noted_of_messages_and_openings_is_what_production_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(runner: Any, *parcel: Any) -> Any:
        return asyncio.sleep(0)

    monkeypatch.setattr(rooms.ProcessRunner, "open", opened)
    monkeypatch.setattr(ground, "TlsLinks", ground.TlsLinks)  # put back in the end
    monkeypatch.setattr(rooms, "ProcessRunner", rooms.ProcessRunner)
    migration_mae.note(tmp_path)
    links = ground.TlsLinks("north", Identity(bytes(32)), b"chain", "127.0.0.1:0")
    got: list[bytes] = []
    links.on_message(lambda host, channel, message: got.append(message))
    offer, mail = codec.encode(Offer(b"t", (), ())), codec.encode("a letter")
    assert not links.send("east", Channel.HANDOFF, offer)  # there is no link
    for channel, message in ((Channel.HANDOFF, offer), (Channel.MAIL, mail)):
        links._receivers[0]("east", channel, message)
    await object.__new__(rooms.ProcessRunner).open()
    lines = [json.loads(line) for line in (tmp_path / "north-notes.1.jsonl").read_text().splitlines()]
    assert [(line["event"], line.get("message"), line.get("transfer")) for line in lines] == [
        ("leaves", "Offer", b"t".hex()),
        ("comes", "Offer", b"t".hex()),
        ("opened", None, None),
    ]
    assert lines[2]["begin"] <= lines[2]["t"] and got == [offer, mail]


def hop(epoch: int, source: str, target: str, at: float) -> list[dict[str, Any]]:
    """A hop whose steps take 1, 2, 3, .. ms each."""
    agent: dict[str, Any] = {"agent": "a", "epoch": epoch}
    transfer = {"transfer": f"t{epoch}"}
    steps: list[tuple[float, str, str, dict[str, Any]]] = [
        (0, source, "frozen", {"agent": "a", "epoch": epoch - 1}),
        (1, source, "leaves", transfer | {"message": "Offer"}),
        (3, target, "comes", transfer | {"message": "Offer"}),
        (10, target, "opened", {"begin": at + 0.006}),
        (15, target, "received", transfer | agent),
        (15, target, "leaves", transfer | {"message": "Accept"}),
        (21, source, "comes", transfer | {"message": "Accept"}),
        (28, source, "commit", transfer | agent),
        (28, source, "leaves", transfer | {"message": "Notice"}),
        (36, target, "comes", transfer | {"message": "Notice"}),
        (45, target, "running", agent),
        (55, target, "leaves", transfer | {"message": "Acknowledge"}),
    ]
    return [{"t": at + ms / 1000, "host": host, "event": event, **fields} for ms, host, event, fields in steps]


def test_messages_that_are_about_a_host_are_not_noted() -> None:
    noted: list[dict[str, str]] = []
    notes: Any = SimpleNamespace(write=lambda event, **said: noted.append({"event": event, **said}))
    for message in (Offer(b"\1" * 16, (), ()), Recall(Life(), ())):
        migration_mae._note(notes, "leaves", codec.encode(message))
    assert noted == [{"event": "leaves", "message": "Offer", "transfer": "01" * 16}]


def test_the_parts_of_a_hop_are_its_whole_time() -> None:
    # The acknowledgement of a hop comes in the midst of the next: the agent turns round at once.
    lines = hop(1, "north", "east", 0.0) + hop(2, "east", "north", 0.05) + hop(3, "north", "east", 0.1)
    hops = parts.of_hops(reversed(lines), "a", [50.0, 49.0])
    expected = {"capture": 1, "wire": 2 + 6 + 8, "verify": 3, "open": 4, "journal": 5 + 7, "start": 9}
    assert [each.pop("freeze") for each in hops] == pytest.approx([5.0, 4.0])
    assert hops == [pytest.approx(expected), pytest.approx(expected)]


def test_a_hop_that_is_not_whole_is_not_made_up() -> None:
    lines = [line for line in hop(1, "north", "east", 0.0) if line.get("message") != "Accept"]
    with pytest.raises(StopIteration):
        parts.of_hops(lines, "a", [50.0])


def test_medians_name_each_part() -> None:
    hops = [dict.fromkeys(parts.PARTS, value) for value in (1.0, 2.0, 9.0)]
    assert parts.medians(hops) == dict.fromkeys(parts.PARTS, 2.0)

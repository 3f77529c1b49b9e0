"""What the chaos driver stands on: a disk that loses what was not synced, a receiver that applies an effect once."""

import asyncio
import json
from pathlib import Path
from random import Random

import pytest

import ledger.disk
from agentplatform.history import HostHistory
from ledger.disk import FileDisk
from ledger.errors import Unavailable
from ledger.sqlite import Schema
from tests.helpers.custody_mutants import MUTANTS
from tests.helpers.effects import Effects
from tests.helpers.losing_disk import FAILING, FULL, LosingDisk, lose_power

NOTES = Schema("notes", 1, ("CREATE TABLE notes (number INTEGER PRIMARY KEY, text TEXT)",))
RANDOM = Random(1)  # noqa: S311


class Cut(Random):
    """Of what was not synced, nothing stays."""

    def choice(self, seq):  # type: ignore[no-untyped-def]
        return seq[0]


async def write(folder: Path, *numbers: int, text: str = "") -> None:
    """In a process of its own, as far as the disk can tell: it ends without a word."""
    disk = FileDisk(folder / "data")
    database = await disk.open("notes", NOTES)
    for number in numbers:
        await database.write(("INSERT INTO notes VALUES (?, ?)", (number, text)))
    await kill(folder, disk)


async def kill(folder: Path, disk: FileDisk) -> None:
    """The files as they are now, put back when all is closed: a close would sync them."""
    data = folder / "data"
    before = {file.name: file.read_bytes() for file in data.iterdir() if file.is_file()}
    await disk.close()
    for file in data.iterdir():
        file.unlink()
    for name, content in before.items():
        (data / name).write_bytes(content)
        (data / name).chmod(0o600)


async def read(folder: Path) -> list[int]:
    disk = FileDisk(folder / "data")
    database = await disk.open("notes", NOTES)
    rows = await database.read("SELECT number FROM notes ORDER BY number")
    await disk.close()
    return [number for (number,) in rows]


def put_in(monkeypatch: pytest.MonkeyPatch, folder: Path, **lacks: bool) -> None:
    monkeypatch.setattr(ledger.disk, "connect", LosingDisk(folder, RANDOM, **lacks).connect)


async def test_what_was_confirmed_outlives_the_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, tmp_path)
    await write(tmp_path, 1, 2, 3)
    assert lose_power(tmp_path / "data", Cut()) == 0
    assert await read(tmp_path) == [1, 2, 3]


async def test_without_syncs_it_does_not_though_a_kill_alone_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, tmp_path, syncs=False)
    await write(tmp_path, 1, 2, 3)
    assert await read(tmp_path) == [1, 2, 3]  # which synced it
    await write(tmp_path, 4)
    assert lose_power(tmp_path / "data", Cut()) > 0
    assert await read(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("syncs_first", [True, False])
async def test_what_a_start_found_unsynced_is_durable_only_if_it_synced_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs_first: bool
) -> None:
    put_in(monkeypatch, tmp_path, syncs=False)
    await write(tmp_path, 1)
    put_in(monkeypatch, tmp_path, syncs_first=syncs_first)
    await write(tmp_path)  # it starts, and ends
    lose_power(tmp_path / "data", Cut())
    assert await read(tmp_path) == ([1] if syncs_first else [])


async def test_on_a_full_disk_writes_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, tmp_path)
    disk = FileDisk(tmp_path / "data")
    database = await disk.open("notes", NOTES)
    (tmp_path / FULL).touch()
    told = asyncio.Event()
    disk.room.on_change(lambda full: told.set())
    waits = database.write(("INSERT INTO notes VALUES (1, ?)", ("x" * 100_000,)))
    await told.wait()
    assert not waits.done()
    (tmp_path / FULL).unlink()
    await waits
    await disk.close()


async def test_a_failed_sync_ends_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, tmp_path)
    disk = FileDisk(tmp_path / "data")
    database = await disk.open("notes", NOTES)
    await database.write(("INSERT INTO notes VALUES (1, '')", ()))
    (tmp_path / FAILING).touch()
    with pytest.raises(Unavailable, match="I/O error"):
        await database.write(("INSERT INTO notes VALUES (2, ?)", ("x" * 100_000,)))
    (tmp_path / FAILING).unlink()
    with pytest.raises(Unavailable, match="I/O error"):  # it does not come back by itself
        await database.write(("INSERT INTO notes VALUES (3, '')", ()))
    await kill(tmp_path, disk)
    lose_power(tmp_path / "data", Cut())
    assert await read(tmp_path) == [1]


async def test_an_effect_is_applied_once_and_an_old_copy_is_not_heard(tmp_path: Path) -> None:
    async with Effects(HostHistory(tmp_path, "driver")) as effects:
        answers = []
        for effect, epoch in (("x", 1), ("x", 1), ("y", 3), ("z", 2), ("x", 3)):
            reader, writer = await asyncio.open_connection("127.0.0.1", effects.port)
            writer.write(json.dumps({"effect": effect, "agent": "a", "epoch": epoch}).encode() + b"\n")
            answers.append((await reader.readline()).decode().strip())
            writer.close()
    assert answers == ["done", "done", "done", "old", "done"]
    assert effects.applied == {"x", "y"} and effects.refused == 1
    lines = [json.loads(line) for line in (tmp_path / "driver.1.jsonl").read_text().splitlines()]
    assert [line["effect"] for line in lines if line["event"] == "effect"] == ["x", "y"]
    assert [(line["agent"], line["epoch"]) for line in lines if line["event"] == "fault"] == [("a", 2)]


def test_every_mutant_finds_what_it_takes_the_place_of() -> None:
    for name, mutant in MUTANTS.items():
        for module, parts in mutant.patches.items():
            for part, kind in parts.items():
                assert issubclass(kind, getattr(module, part)), name
        assert mutant.patches or mutant.disk, name

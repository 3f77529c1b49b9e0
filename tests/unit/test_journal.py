"""The custody journal: what a restart finds, wherever the log was cut."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agentplatform.custody import journal as journal_module
from agentplatform.custody.events import Effect, Reopen, Restart, Restore
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Cargo
from agentplatform.custody.records import (
    BIRTH,
    Aborted,
    Active,
    Born,
    Closed,
    Commit,
    Discarded,
    Ended,
    Past,
    Prepare,
    Received,
    Record,
)
from agentplatform.mail import Change, Letter, Luggage, Sent
from ledger.disk import FileDisk
from ledger.errors import Misuse, Unavailable
from ledger.memory_disk import MemoryDisk
from tests.helpers.sealing import seals


def transfer(number: int) -> bytes:
    return bytes([number]) * 16


X = [(Cargo("x", epoch),) for epoch in range(5)]
XY = (Cargo("x", 1), Cargo("y", 1))

# The life of a host: two agents are born, stay when they should go, go, one comes back (the first attempt fails),
# goes on at last, and the other one that came meanwhile ends here.
LIFE: list[Record] = [
    Born("x", 0),
    Born("y", 0),
    Prepare(transfer(1), "B", XY),
    Aborted(transfer(1), XY),
    Prepare(transfer(2), "B", XY),
    Commit(transfer(2), XY),
    Received(transfer(3), "B", X[2]),
    Discarded(transfer(3)),
    Received(transfer(4), "B", X[2]),
    Closed(transfer(2), XY),
    Active(transfer(4), (b"mail",)),
    Received(transfer(5), "C", (Cargo("z", 7),)),
    Active(transfer(5), ()),
    Prepare(transfer(6), "C", X[3]),
    Commit(transfer(6), X[3]),
    Ended("z"),
    Closed(transfer(6), X[3]),
]


def parcels_of(record: Record) -> list[bytes]:
    match record:
        case Prepare(key, _, cargo) | Received(key, _, cargo):
            return [key + load.agent.encode() for load in cargo]
        case Born(agent):
            return [BIRTH + agent.encode()]
    return []


def needed(effects: list[Effect]) -> set[tuple[bytes, str]]:
    """The parcels that a restart asks for."""
    found: set[tuple[bytes, str]] = set()
    for effect in effects:
        match effect:
            case Restore(key, _, cargo) | Reopen(key, _, cargo):
                found.update((key, load.agent) for load in cargo)
            case Restart(agent, _, kept):
                found.add((kept, agent))
    return found


async def stored(disk: MemoryDisk) -> set[tuple[bytes, str]]:
    database = await disk.open("custody", journal_module.SCHEMA)
    rows = await database.read("SELECT transfer, agent FROM parcels")
    await database.close()
    return {(key, agent) for key, agent in rows}


async def live(kind: type[Journal], cut: int, compacted: int | None) -> tuple[MemoryDisk, Handoff]:
    """A host that lost power when `cut` records of its life were durable, and all were written."""
    disk, machine = MemoryDisk(hold=True), Handoff("A")
    journal = await kind.open(disk, seals())
    for position, record in enumerate(LIFE):
        if position == cut:
            journal.flush()  # a Closed at the end waits for what is written next
            disk.sync()
        if position == compacted:
            journal.compact(machine)
        journal.write(record, parcels_of(record))
        machine.apply(record)
        machine.sink(record)
    if cut == len(LIFE):
        journal.flush()
        disk.sync()
    disk.crash()
    disk.hold = False
    expected, _ = Handoff.recover("A", LIFE[:cut])
    return disk, expected


async def check_every_cut(kind: type[Journal]) -> None:
    for cut in range(len(LIFE) + 1):
        for compacted in (None, *range(cut)):
            disk, expected = await live(kind, cut, compacted)
            journal = await kind.open(disk, seals())
            records = await journal.load()
            if compacted is None:
                assert records == LIFE[:cut]
            machine, effects = Handoff.recover("A", records)
            assert machine.key() == expected.key(), f"cut {cut}, compacted at {compacted}"
            wanted = needed(effects)
            for key, agent in wanted:
                assert await journal.parcel(key, agent) == key + agent.encode()
            await journal.close()
            # Nothing is kept in vain: what is spare is of agents whose departure was still open.
            spare = {agent for _, agent in await stored(disk) - wanted}
            still_open = {load.agent for held in machine.leaving.values() for load in held.cargo}
            still_open |= {load.agent for effect in effects if isinstance(effect, Restore) for load in effect.cargo}
            assert spare <= still_open, f"cut {cut}, compacted at {compacted}"


async def test_recovery_at_every_cut_of_the_log() -> None:
    await check_every_cut(Journal)


async def just_closed(disk: MemoryDisk) -> tuple[Journal, "asyncio.Future[None]"]:
    """An agent has left; that its destination has it is handed to the journal."""
    journal = await Journal.open(disk, seals())
    await journal.write(Born("x", 0), [b""])
    await journal.write(Prepare(transfer(1), "B", X[1]), [b"x"])
    await journal.write(Commit(transfer(1), X[1]))
    return journal, journal.write(Closed(transfer(1), X[1]))


async def test_closed_is_written_with_what_comes_next_and_before_it() -> None:
    disk = MemoryDisk()
    journal, closed = await just_closed(disk)
    await journal.settled()
    assert not closed.done()
    assert not any(isinstance(record, Closed) for record in await journal.load())
    following = journal.write(Received(transfer(2), "B", X[2]), [b"x"])
    await asyncio.gather(closed, following)
    assert [type(record) for record in await journal.load()][-2:] == [Closed, Received]
    await journal.close()


async def test_a_closed_that_nothing_follows_hears_of_a_failed_disk() -> None:
    disk = MemoryDisk()
    journal, closed = await just_closed(disk)
    disk.fail_next_sync()
    journal.flush()
    with pytest.raises(Unavailable, match="disk failed"):
        await closed


class CleansTooEarly(Journal):
    """Drops an arrival's parcels with its ACTIVE record."""

    def write(self, record: Record, *rest: object, **more: object) -> "asyncio.Future[None]":
        future = super().write(record, *rest, **more)  # type: ignore[arg-type]
        if isinstance(record, Active):
            return self._database.write(("DELETE FROM parcels WHERE transfer = ?", (record.transfer,)))
        return future


class ForgetsThePast(Journal):
    """Its short log drops the ids of finished transfers."""

    def compact(self, machine: Handoff) -> "asyncio.Future[None]":  # type: ignore[override]
        super().compact(machine)
        return self._database.write(("DELETE FROM past", ()))


async def test_the_harness_catches_a_journal_that_cleans_too_early() -> None:
    with pytest.raises(Misuse, match="no parcel of"):
        await check_every_cut(CleansTooEarly)


async def test_the_harness_catches_a_journal_that_forgets() -> None:
    with pytest.raises(AssertionError, match="compacted at"):
        await check_every_cut(ForgetsThePast)


async def test_compacting_shortens_the_log_and_keeps_every_id() -> None:
    disk, machine = MemoryDisk(), Handoff("A")
    journal = await Journal.open(disk, seals())
    journal.write(Born("x", 0), [b"x"])
    machine.apply(Born("x", 0))
    for number in range(50):
        there, back = transfer(2 * number), transfer(2 * number + 1)
        out, home = (Cargo("x", 2 * number + 1),), (Cargo("x", 2 * number + 2),)
        for record in (
            Prepare(there, "B", out),
            Commit(there, out),
            Closed(there, out),
            Received(back, "B", home),
            Active(back, ()),
        ):
            machine.apply(record)
            machine.sink(record)
            journal.write(record, parcels_of(record))
    await journal.compact(machine)
    records = await journal.load()
    assert len([record for record in records if isinstance(record, Past)]) == 100
    assert len(records) == 101
    again, effects = Handoff.recover("A", records)
    assert again.key() == machine.key()
    assert effects == [Restart("x", 100, transfer(99), ())]
    await journal.close()
    assert await stored(disk) == {(transfer(99), "x")}


async def test_compacting_falls_due_after_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_RECORDS", 3)
    journal = await Journal.open(MemoryDisk(), seals())
    machine = Handoff("A")
    for agent in ("x", "y", "z"):
        assert not journal.due
        journal.write(Born(agent, 0), [b""])
        machine.apply(Born(agent, 0))
    assert journal.due
    journal.compact(machine)
    assert not journal.due


async def test_each_agent_of_a_record_has_its_parcel() -> None:
    journal = await Journal.open(MemoryDisk(), seals())
    with pytest.raises(Misuse, match="2 agents and 1 parcels"):
        journal.write(Prepare(transfer(1), "B", XY), [b"only one"])
    with pytest.raises(Misuse, match="0 agents and 1 parcels"):
        journal.write(Ended("x"), [b"too many"])
    with pytest.raises(Misuse, match="no parcel of x for its birth"):
        await journal.parcel(BIRTH, "x")


async def test_code_is_kept_once_by_its_digest() -> None:
    journal = await Journal.open(MemoryDisk(), seals())
    assert await journal.get_code(b"digest") is None
    await journal.put_code(b"digest", b"bundle")
    await journal.put_code(b"digest", b"bundle")
    assert await journal.get_code(b"digest") == b"bundle"


async def test_letters_stay_until_they_are_replied_to_and_their_numbers_stay_known() -> None:
    journal = await Journal.open(MemoryDisk(), seals())
    sent = [Letter("x", 0, number, 0, "y", "here", "add", b"%d" % number) for number in (1, 2, 3)]
    for letter in sent:
        await journal.keep_letter(letter)
    await journal.checkpoint("z", Change(None, letters=[replace(sent[0], sender="z", receiver="x")]))
    journal.drop_letters("x", "y", 2)
    await journal.flush()
    luggage = Luggage()
    await journal.kept.recall("x", luggage)
    assert luggage.sent == {"y": Sent(3, [sent[2]])}
    await journal.write(Commit(transfer(1), X[1]))  # the rest went with its luggage
    assert (await journal.kept.rows("x")).sent == () and len((await journal.kept.rows("z")).sent) == 1


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    disk = FileDisk(tmp_path / "data")
    journal = await Journal.open(disk, seals())
    await asyncio.gather(*(journal.write(record, parcels_of(record)) for record in LIFE[:11]))
    await disk.close()
    yield tmp_path / "data"


async def test_it_is_there_after_a_restart_from_a_file(folder: Path) -> None:
    disk = FileDisk(folder)
    journal = await Journal.open(disk, seals())
    _, effects = Handoff.recover("A", await journal.load())
    assert effects == [Restart("x", 2, transfer(4), (b"mail",))]
    assert await journal.parcel(transfer(4), "x") == transfer(4) + b"x"
    await disk.close()

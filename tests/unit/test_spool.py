"""Files of states that are too large for memory, on a disk and in its twin."""

import os
from pathlib import Path

import pytest

from agentplatform.parcel.freight import DIGEST_BYTES, MAX_FREIGHT_BYTES, PIECE_BYTES, Freight, piece_digest
from agentplatform.parcel.spool import FileSpool, MemorySpool, Spool
from agentplatform.parcel.state import opened, write
from ledger.errors import Misuse, Unavailable
from services.dms.sealing import Keyring, crypt

SIZE = 2 * PIECE_BYTES + 5
BODY = os.urandom(1) * PIECE_BYTES + b"second" * PIECE_BYTES
KEYRING = Keyring([bytes(32)])
PIECES = [BODY[:PIECE_BYTES], BODY[PIECE_BYTES : 2 * PIECE_BYTES], BODY[2 * PIECE_BYTES : SIZE]]
FREIGHT = Freight(SIZE, b"".join(map(piece_digest, PIECES)))


@pytest.fixture(params=["files", "memory"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Spool:
    return FileSpool(tmp_path / "spool", KEYRING) if request.param == "files" else MemorySpool()


async def filled(spool: Spool) -> str:
    name = await spool.create(SIZE)
    for number in (2, 0, 1):
        assert await spool.put(name, FREIGHT, number, PIECES[number])
    return name


async def test_pieces_come_in_any_order_and_are_verified(spool: Spool) -> None:
    name = await filled(spool)
    await spool.sync(name)
    await spool.verify(name, FREIGHT)
    assert [await spool.get(name, FREIGHT, number) for number in range(3)] == PIECES
    for number, body in ((0, PIECES[1]), (1, PIECES[1] + b"x"), (2, b""), (3, PIECES[2]), (-1, PIECES[2])):
        assert not await spool.put(name, FREIGHT, number, body)
    await spool.verify(name, FREIGHT)  # nothing of that was written
    assert spool.size(name) == SIZE


async def test_a_changed_or_missing_piece_is_found(spool: Spool) -> None:
    name = await spool.create(SIZE)
    await spool.put(name, FREIGHT, 0, PIECES[0])
    await spool.put(name, FREIGHT, 2, PIECES[2])
    with pytest.raises(Misuse, match="piece 1 of its state was changed"):
        await spool.verify(name, FREIGHT)
    with pytest.raises(Unavailable, match="piece 1 of its state is not what its worker told of"):
        await spool.get(name, FREIGHT, 1)
    assert await spool.get(name, FREIGHT, 2) == PIECES[2]


async def test_a_file_that_was_cut_is_found(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool", KEYRING)
    name = await filled(spool)
    os.truncate(tmp_path / "spool" / name, SIZE - 1)
    with pytest.raises(Misuse, match=f"has {SIZE - 1} bytes, and {SIZE} were written"):
        await spool.verify(name, FREIGHT)
    with pytest.raises(Unavailable, match="ends within piece 2"):
        await spool.get(name, FREIGHT, 2)


async def test_what_has_no_room_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool", KEYRING)
    with pytest.raises(Unavailable, match="has no room on the disk"):
        await spool.create(1 << 60)
    narrow = FileSpool(tmp_path / "spool", KEYRING, min_free=1 << 60)
    with pytest.raises(Unavailable, match="has no room on the disk"):
        await narrow.create(SIZE)
    with pytest.raises(Unavailable, match="has no room on the disk"):
        await MemorySpool(room=SIZE - 1).create(SIZE)
    assert not list((tmp_path / "spool").iterdir())


async def test_the_room_is_taken_at_once(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool", KEYRING)
    name = await spool.create(SIZE)
    facts = (tmp_path / "spool" / name).stat()
    assert facts.st_blocks * 512 >= SIZE and facts.st_mode & 0o777 == 0o600
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


async def test_files_count_when_their_records_are_durable(spool: Spool) -> None:
    fresh, settled = [await filled(spool) for _ in range(2)]
    spool.settle(settled)
    assert spool.settled() == {settled}
    spool.remove(fresh)
    spool.remove(settled)
    spool.remove(settled)
    assert not spool.settled()
    for name in (fresh, settled):
        with pytest.raises(Unavailable):
            await spool.get(name, FREIGHT, 0)


async def test_what_was_there_at_the_start_is_known(tmp_path: Path) -> None:
    first = await filled(FileSpool(tmp_path / "spool", KEYRING))
    later = FileSpool(tmp_path / "spool", KEYRING)
    assert later.settled() == {first}
    assert await later.get(first, FREIGHT, 2) == PIECES[2]


async def test_after_a_loss_of_power_the_twin_has_what_was_synced() -> None:
    spool = MemorySpool()
    synced, lost = [await filled(spool) for _ in range(2)]
    await spool.sync(synced)
    spool.crash()
    await spool.verify(synced, FREIGHT)
    with pytest.raises(Misuse, match="was changed on the disk"):
        await spool.verify(lost, FREIGHT)


@pytest.mark.parametrize(
    ("size", "digests"),
    [
        (0, b""),
        (PIECE_BYTES, bytes(DIGEST_BYTES)),
        (SIZE, bytes(2 * DIGEST_BYTES)),
        (SIZE, bytes(3 * DIGEST_BYTES + 1)),
        (MAX_FREIGHT_BYTES + 1, bytes((MAX_FREIGHT_BYTES // PIECE_BYTES + 1) * DIGEST_BYTES)),
        (-1, b""),
    ],
)
def test_a_table_that_cannot_be_is_none(size: int, digests: bytes) -> None:
    with pytest.raises(ValueError, match=r"a (spooled )?state"):
        Freight(size, digests)


async def test_a_file_is_sealed_with_a_key_of_its_own_that_workers_have_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = FileSpool(tmp_path / "spool", KEYRING)
    one, other = [await filled(spool) for _ in range(2)]
    raw = [(tmp_path / "spool" / name).read_bytes() for name in (one, other)]
    assert raw[0] != raw[1] and not any(b"secondsecond" in each for each in raw)
    assert b"secondsecond" in crypt(spool.key(one), 0, raw[0])
    by_worker = await spool.create(SIZE)
    with open(tmp_path / "spool" / by_worker, "r+b", buffering=0) as file:  # noqa: ASYNC230
        assert write(PIECES, file.fileno(), spool.key(by_worker)) == FREIGHT
        assert opened(file.fileno(), SIZE, spool.key(by_worker)) == BODY[:SIZE]
    await spool.verify(by_worker, FREIGHT)
    elsewhere = FileSpool(tmp_path / "spool", Keyring([b"x" * 32]))
    with pytest.raises(Unavailable, match="another key"):
        await elsewhere.get(one, FREIGHT, 0)
    restored = FileSpool(tmp_path / "spool", Keyring([b"x" * 32, bytes(32)]))
    assert await restored.get(one, FREIGHT, 0) == PIECES[0]
    monkeypatch.setattr("agentplatform.parcel.spool.MAX_SEALED_BYTES", SIZE - 1)
    larger = await filled(spool)
    assert spool.key(larger) == b"" and b"secondsecond" in (tmp_path / "spool" / larger).read_bytes()

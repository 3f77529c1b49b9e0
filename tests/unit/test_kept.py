"""What a host keeps of its residents: states in pieces, read letters and sent ones, until a newer parcel is written."""

import pytest

from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Cargo
from agentplatform.custody.records import Aborted, Born, Commit, Ended, Prepare, Record
from agentplatform.mail import Change, Letter, Luggage, Memory, Reply, Seen, Sent, Standing
from agentplatform.messages import Captured
from agentplatform.parcel.freight import Freight, Spooled
from agentplatform.runners.place import MAX_STATE_BYTES
from ledger import codec
from ledger.errors import PeerFault
from ledger.memory_disk import MemoryDisk
from services.eds.rules import Group
from tests.helpers.sealing import seals

ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))
X1 = (Cargo("x", 1),)


def reply(sequence: int, sender: str = "y") -> Reply:
    return Reply("x", sender, sequence, "here", True, b"%d" % sequence)


def letter(sequence: int) -> Letter:
    return Letter("x", 0, sequence, 0, "y", "here", "add", b"")


async def rows(disk: MemoryDisk, table: str) -> int:
    return int(disk._connections["custody"].execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_a_state_is_put_together_from_the_pieces_that_changed_and_those_that_did_not() -> None:
    disk = MemoryDisk()
    journal = await Journal.open(disk, seals())
    await journal.checkpoint("x", Change(Captured(b"head", (ONE, TWO), ((ONE, b"one"), (TWO, b"two")))))
    await journal.checkpoint("x", Change(Captured(b"HEAD", (TWO, THREE, TWO), ((THREE, b"three"),))))
    assert await journal.kept.state("x") == b"HEADtwothreetwo"
    assert await rows(disk, "pieces") == 2  # the first is needed no more
    await journal.checkpoint("x", Change(None))
    await journal.close()
    journal = await Journal.open(disk, seals())
    assert await journal.kept.state("x") == b"HEADtwothreetwo"
    await journal.checkpoint("x", Change(Captured(b"", (THREE,), ((THREE, b"three"),))))
    assert await journal.kept.state("x") == b"three" and await rows(disk, "pieces") == 1
    assert await journal.kept.state("y") is None


async def test_after_a_restart_what_lies_there_already_is_not_written_again() -> None:
    disk = MemoryDisk()
    journal = await Journal.open(disk, seals())
    await journal.checkpoint("x", Change(Captured(b"head", (ONE, TWO), ((ONE, b"one"), (TWO, b"two")))))
    await journal.close()
    journal = await Journal.open(disk, seals())
    assert await journal.kept.state("x") == b"headonetwo"
    everything = Captured(b"head", (ONE, TWO, THREE), ((ONE, b"one"), (TWO, b"two"), (THREE, b"three")))
    written = [sql for sql, _ in journal.kept.checkpoint("x", Change(everything)) if "INTO pieces" in sql]
    assert len(written) == 1


async def test_a_large_state_is_a_file_that_the_checkpoint_names() -> None:
    disk = MemoryDisk()
    journal = await Journal.open(disk, seals())
    named: list[str | None] = []
    journal.named = named.append
    table = Freight(2 << 20, bytes(64))
    await journal.checkpoint("x", Change(Captured(b"head", (ONE,), ((ONE, b"one"),))))
    for file in ("first", "second"):
        await journal.checkpoint("x", Change(Captured(codec.encode(table), (), (), file)))
    await journal.checkpoint("x", Change(None))
    assert named == ["first", "second"] and await rows(disk, "pieces") == 0
    assert await journal.files() == {"second"}
    await journal.write(Born("clone", 0), [b"birth"], parent="x")
    assert await journal.kept.state("clone") == Spooled(table, "second")
    await journal.close()
    journal = await Journal.open(disk, seals())
    journal.named = named.append
    assert await journal.kept.state("x") == Spooled(table, "second")
    await journal.checkpoint("x", Change(Captured(b"small", (), ())))
    assert named[2:] == [None] and await journal.files() == {"second"}  # the clone's
    await journal.write(Ended("clone"))
    assert await journal.files() == set()


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (Captured(b"", (TWO,), ((ONE, b"one"),)), "pieces that it never sent"),
        (Captured(b"", (ONE,) * (MAX_STATE_BYTES // 2**20 + 1), ((ONE, bytes(2**20)),)), "of more than"),
    ],
)
async def test_a_worker_that_lies_about_its_pieces_is_found_out(state: Captured, says: str) -> None:
    disk = MemoryDisk()
    journal = await Journal.open(disk, seals())
    await journal.checkpoint("y", Change(Captured(b"", (TWO,), ((TWO, b"of another agent"),))))
    with pytest.raises(PeerFault, match=says):
        await journal.checkpoint("x", Change(state))
    assert await rows(disk, "states") == 1 and await rows(disk, "pieces") == 1


async def test_what_was_read_and_sent_comes_back_into_the_luggage() -> None:
    journal = await Journal.open(MemoryDisk(), seals())
    seen = [Seen("y", 1, 4, reply(1)), Seen("y", 2, 4, reply(2)), Seen("z", 7, 0, None)]
    await journal.checkpoint("x", Change(None, seen, letters=[letter(5), letter(6)]))
    await journal.checkpoint("x", Change(None, [Seen("y", 3, 5, reply(3))], [("y", 1)]))
    luggage = Luggage({"y": Memory(4, 1, [reply(1)]), "w": Memory(0, 9, [])}, {"y": Sent(5, [letter(4), letter(5)])})
    await journal.kept.recall("x", luggage)
    assert luggage.senders["y"] == Memory(5, 3, [reply(1), reply(2), reply(3)])
    assert luggage.senders["z"] == Memory(0, 7, []) and luggage.senders["w"] == Memory(0, 9, [])
    assert luggage.sent == {"y": Sent(6, [letter(4), letter(5), letter(6)])}
    journal.drop_letters("x", "y", 5)
    await journal.flush()  # type: ignore[misc]
    later = Luggage(sent={"y": Sent(5, [letter(4), letter(5)])})
    await journal.kept.recall("x", later)
    assert later.sent == {"y": Sent(6, [letter(6)])}  # also of what it had brought along


async def test_what_an_agent_belongs_to_is_kept_without_a_change_of_its_state_and_goes_with_it() -> None:
    journal = await Journal.open(MemoryDisk(), seals())
    standing = Standing(Group("faces", ("x", "y"), (), None), ("news",))
    journal.keep_standing("x", standing)
    journal.keep_end("y", 17)
    await journal.flush()  # type: ignore[misc]
    luggage = Luggage()
    await journal.kept.recall("x", luggage)
    assert luggage.standing == standing and await journal.kept.ends() == {"y": 17}
    await journal.write(Aborted(b"t" * 16, X1))
    await journal.kept.recall("x", luggage)
    assert luggage.standing == standing  # the parcel that the agent is restarted from now is no newer
    await journal.write(Commit(b"t" * 16, X1))
    gone = Luggage()
    await journal.kept.recall("x", gone)
    assert gone.standing == Luggage().standing


@pytest.mark.parametrize(
    ("record", "state", "letters"),
    [
        (Prepare(b"t" * 16, "b", X1), True, True),
        (Aborted(b"t" * 16, X1), False, True),  # the parcel is newer
        (Commit(b"t" * 16, X1), False, False),
        (Ended("x"), False, False),
    ],
)
async def test_a_newer_parcel_takes_the_place_of_a_checkpoint(record: Record, state: bool, letters: bool) -> None:
    disk = MemoryDisk()
    journal = await Journal.open(disk, seals())
    await journal.write(Born("x", 0), [b"birth"])
    change = Change(Captured(b"h", (ONE,), ((ONE, b"one"),)), [Seen("y", 1, 0, reply(1))], letters=[letter(1)])
    await journal.checkpoint("x", change)
    await journal.checkpoint("other", change)
    await journal.write(record, [b"parcel"] if isinstance(record, Prepare) else [])
    assert (await journal.kept.state("x") is not None) is state
    luggage = Luggage()
    await journal.kept.recall("x", luggage)
    assert (bool(luggage.senders), bool(luggage.sent)) == (state, letters)
    assert await journal.kept.state("other") == b"hone"
    if not state:
        with pytest.raises(PeerFault, match="never sent"):  # the pieces are gone: all must come again
            journal.checkpoint("x", Change(Captured(b"", (ONE,), ())))

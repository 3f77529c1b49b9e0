"""What an agent keeps: values, blobs and snapshots; how it travels, and how little of it is written again."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from agentplatform import Agent, Message
from agentplatform import data as datas
from agentplatform.data import BLOB, KEPT_SNAPSHOTS, MAX_DATA_BYTES, MAX_ENTRIES, MAX_VALUE_BYTES, Data
from agentplatform.parcel.state import capture, restore
from agentplatform.runners.checkpoints import Pieces
from agentplatform.runners.inline import Inline
from ledger import codec
from ledger.errors import Misuse, PeerFault
from services.dms.store import blob_digest


class Keeper(Agent):
    def on_creation(self, init: Any) -> None:
        self.data.put("born", init)
        self.gone: Data | None = None

    def handle_message(self, message: Message) -> Any:
        match message.kind, message.body:
            case "put", (key, value):
                self.data.put(key, value)
            case "snapshot", _:
                return self.data.snapshot("asked for")
            case "restore", number:
                self.data.restore(number)
            case "fail", _:
                self.data.write({"good": 1, "bad": object()})
        return {key: self.data.get(key) for key in self.data.list()}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.touched = 0

    def touch(self) -> None:
        self.touched += 1

    def data(self) -> Data:
        data = Data()
        data.live(self.touch, lambda: self.now)
        return data


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def data(clock: Clock) -> Data:
    return clock.data()


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline() as inline:
        yield inline


def noise(number: int, size: int) -> bytes:
    return Random(number).randbytes(size)  # noqa: S311  repeatable


def reopened(data: Data) -> Data:
    """After a journey."""
    agent = Keeper.__new__(Keeper)
    agent._mae_data = data
    opened = restore(capture(agent), Keeper)._mae_data
    opened.live(lambda: None, lambda: 2_000.0)
    return opened


def test_values_are_kept_replaced_listed_and_deleted(data: Data) -> None:
    data.put("b/2", {"deep": [1, 2.5, None, True, b"raw"]})
    data.put("b/10", "text")
    data.put("a", 1)
    data.put("a", 2)
    assert data.get("a") == 2 and data.get("b/2") == {"deep": [1, 2.5, None, True, b"raw"]}
    assert data.get("none") is None and data.get("none", 7) == 7
    assert data.list() == ["a", "b/10", "b/2"] and data.list("b/") == ["b/10", "b/2"] and len(data) == 3
    assert "a" in data and "none" not in data
    assert data.delete("a") is True and data.delete("a") is False and "a" not in data


def test_what_happens_to_a_value_afterwards_changes_nothing(data: Data) -> None:
    value = {"list": [1]}
    large = bytearray(b"x" * 10_000)
    data.write({"small": value, "large": large})
    value["list"].append(2)
    large[:1] = b"y"
    data.get("small")["list"].append(3)
    assert data.get("small") == {"list": [1]} and data.get("large") == b"x" * 10_000


def test_of_many_with_a_bad_one_nothing_is_written(data: Data, clock: Clock) -> None:
    data.put("old", 1)
    touched = clock.touched
    for bad in ({"new": object()}, {"": 1}, {"a\nb": 1}, {"new": bytes(MAX_VALUE_BYTES)}, {"x" * 257: 1}, {3: 1}):
        with pytest.raises(Misuse):
            data.write({"good": 1, **bad}, delete=["old"])  # type: ignore[dict-item]
    assert data.list() == ["old"] and clock.touched == touched
    data.write({"good": 1, "again": 2}, delete=["old", "never", "again"])
    assert data.list() == ["again", "good"] and clock.touched == touched + 1


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, 1 << 70, float])
def test_what_is_no_plain_data_is_refused_by_its_key(data: Data, value: Any) -> None:
    with pytest.raises(Misuse, match="'k'"):
        data.put("k", value)
    assert data.untouched


def test_a_blob_that_a_hostile_host_put_under_anothers_hash_is_not_taken_for_that(data: Data) -> None:
    digest = data.put_blob(b"true")
    data._change({BLOB + digest: codec.encode(b"false")}, [])
    with pytest.raises(Misuse, match="was changed on a host where the agent was"):
        data.get_blob(digest)
    assert data.put_blob(b"true") == digest and data.get_blob(digest) == b"true"


def test_a_blob_is_found_by_its_hash_and_kept_once(data: Data) -> None:
    blob = bytes(range(256)) * 64
    digest = data.put_blob(blob)
    assert digest == blob_digest(blob).hex() == data.put_blob(bytearray(blob)) and data.get_blob(digest) == blob
    assert data.list() == [] and data.get_blob("0" * 64) is None
    assert data.delete_blob(digest) is True and data.delete_blob(digest) is False and data.get_blob(digest) is None
    for wrong in (5, "text", None):
        with pytest.raises(Misuse, match="a blob is bytes"):
            data.put_blob(wrong)  # type: ignore[arg-type]


def test_any_kept_snapshot_is_restored(data: Data) -> None:
    data.put("a", 1)
    blob = data.put_blob(b"blob")
    assert data.snapshot("first") == 1
    data.write({"a": 2, "b": 1})
    data.delete_blob(blob)
    assert data.snapshot() == 2
    data.write({"c": 1}, delete=["a", "b"])
    data.restore(1)
    assert data.list() == ["a"] and data.get("a") == 1 and data.get_blob(blob) == b"blob"
    data.restore(2)
    assert data.list() == ["a", "b"] and data.get("a") == 2 and data.get_blob(blob) is None
    data.forget(1)
    assert [each.number for each in data.snapshots()] == [2] and data.snapshot() == 3
    with pytest.raises(Misuse, match="no snapshot 1; none is kept"):
        Data().restore(1)
    with pytest.raises(Misuse, match="no snapshot 1; there are: 2, 3"):
        data.restore(1)


def test_old_snapshots_go_and_their_numbers_are_not_used_again(data: Data, clock: Clock) -> None:
    for _ in range(KEPT_SNAPSHOTS + 5):
        data.snapshot()
    assert [each.number for each in data.snapshots()] == list(range(6, KEPT_SNAPSHOTS + 6))
    data.retention(keep=3)
    assert [each.number for each in data.snapshots()] == [13, 14, 15]
    data.retention(keep=3, seconds=60)
    clock.now += 61
    assert len(data.snapshots()) == 3
    assert data.snapshot("late") == 16
    assert [(each.number, each.at, each.note) for each in data.snapshots()] == [(16, clock.now, "late")]
    for keep, seconds in ((0, None), (1000, None), (True, None), (3, 0), (3, "1")):
        with pytest.raises(Misuse, match="snapshots are kept"):
            data.retention(keep, seconds)  # type: ignore[arg-type]


def test_an_agent_keeps_so_many_entries(data: Data) -> None:
    data.write({f"k{number}": number for number in range(MAX_ENTRIES)})
    with pytest.raises(Misuse, match="at most 10000 keys"):
        data.put("more", 1)
    data.put("k0", "replaced")
    data.write({"more": 1}, delete=["k1"])
    assert len(data) == MAX_ENTRIES


def test_an_agent_keeps_so_many_bytes_with_its_snapshots(data: Data) -> None:
    part = MAX_DATA_BYTES // 8
    for number in range(7):
        data.put(f"k{number}", bytes(part))
    for _ in range(20):
        data.put("k0", bytes(part))  # what is overwritten is not there any more
    data.snapshot()
    with pytest.raises(Misuse, match=r"with its 1 snapshots.*forget snapshots"):
        data.write({"k0": bytes(part), "k1": bytes(part)})
    assert data.get("k0") == bytes(part)
    data.delete("k0")  # is never refused
    data.forget(1)
    data.write({"k0": bytes(part), "k1": bytes(part)})


def test_deletions_between_snapshots_do_not_add_up_without_end(data: Data) -> None:
    values = {f"k{number}": bytes(4000) for number in range(9000)}
    data.write(values)
    data.retention(keep=100)
    with pytest.raises(Misuse, match="forget snapshots"):
        for number in range(100):
            data.snapshot()
            data.write({}, delete=[f"k{number * 80 + each}" for each in range(80)])
    assert reopened(data)._spent < 2 * MAX_DATA_BYTES


def test_it_travels_with_its_snapshots_which_share_what_did_not_change(data: Data) -> None:
    data.write({f"large{number}": noise(number, 100_000) for number in range(10)})
    for number in range(8):
        data.put("small", number)
        data.snapshot(str(number))
    agent = Keeper.__new__(Keeper)
    agent._mae_data = data
    assert len(capture(agent)) < 1_100_000
    there = reopened(data)
    assert there.snapshots() == data.snapshots() and there.list() == data.list()
    there.restore(3)
    assert there.get("small") == 2 and there.get("large7") == noise(7, 100_000)
    assert there.snapshot() == 9 and there.snapshots()[-1].at == 2_000.0


@pytest.mark.parametrize("pages", [1, 3, datas.PAGES])
def test_random_histories_agree_with_a_dictionary(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datas, "PAGES", pages)
    for seed in range(15):
        print(f"seed {seed}")
        random, clock = Random(seed), Clock()  # noqa: S311  repeatable
        data, model, kept = clock.data(), dict[str, Any](), dict[int, dict[str, Any]]()
        for _ in range(60):
            key = f"k{random.randrange(12)}"
            match random.randrange(7):
                case 0 | 1 | 2:
                    model[key] = random.randbytes(random.choice((3, 5_000)))
                    data.put(key, model[key])
                case 3:
                    assert data.delete(key) is (model.pop(key, None) is not None)
                case 4:
                    number = data.snapshot()
                    kept[number] = dict(model)
                    kept = {each.number: kept[each.number] for each in data.snapshots()}
                case 5 if kept:
                    number = random.choice(list(kept))
                    data.restore(number)
                    model = dict(kept[number])
                case _:
                    data = reopened(data)
            assert {key: data.get(key) for key in data.list()} == model


def put_costs(values: dict[str, Any], key: str, value: Any) -> int:
    """Bytes that a host gets and writes for one put, when it has all the rest."""
    agent, pieces = Keeper.__new__(Keeper), Pieces()
    agent._mae_data = Clock().data()
    agent._mae_data.write(values)
    assert pieces.capture(agent) is not None
    agent._mae_data.put(key, value)
    captured = pieces.capture(agent)
    assert captured is not None
    return len(captured.head) + 32 * len(captured.pieces) + sum(len(piece) for _, piece in captured.fresh)


LARGE = {f"large{number}": noise(number, 60_000) for number in range(100)}
SMALL = {f"small{number}": noise(number, 300) for number in range(5_000)}


def test_a_put_writes_its_own_value_and_not_the_others() -> None:
    assert put_costs(LARGE, "large50", bytes(60_000)) < 80_000
    assert put_costs(LARGE, "a", 1) < 20_000
    assert put_costs(SMALL, "small0", 1) < 60_000  # of 1.5 MB


def test_that_measure_sees_when_all_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datas, "PAGES", 1)
    assert put_costs(SMALL, "small0", 1) > 1_000_000
    monkeypatch.setattr(datas, "LARGE_BYTES", 1 << 30)
    assert put_costs(LARGE, "a", 1) > 1_000_000


def test_what_did_not_change_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentplatform.runners import checkpoints

    hashed: list[int] = []
    digest: Callable[[memoryview], bytes] = checkpoints._digest

    def counted(piece: memoryview) -> bytes:
        hashed.append(len(piece))
        return digest(piece)

    monkeypatch.setattr(checkpoints, "_digest", counted)
    agent, pieces = Keeper.__new__(Keeper), Pieces()
    agent._mae_data = Clock().data()
    agent._mae_data.write(LARGE)
    first = pieces.capture(agent)
    assert first is not None and sum(hashed) > 6_000_000
    hashed.clear()
    agent._mae_data.put("large50", bytes(60_000))
    second = pieces.capture(agent)
    assert second is not None and sum(hashed) < 70_000 and len(set(first.pieces) - set(second.pieces)) == 1


def test_it_goes_where_the_agent_goes(inline: Inline) -> None:
    agent = inline.create(Keeper, "here")
    agent.call("put", ["large", b"x" * 50_000])
    assert agent.call("snapshot") == 1
    agent.hop("there")
    assert agent.call("put", ["large", 1]) == {"born": "here", "large": 1}
    clone = agent.clone()
    clone.call("put", ["born", "a clone"])
    agent.deactivate()
    agent.hop("elsewhere")
    assert agent.call("restore", 1) == {"born": "here", "large": b"x" * 50_000}
    assert clone.call("look") == {"born": "a clone", "large": 1}


def test_a_handler_that_fails_in_a_batch_has_written_nothing_of_it(inline: Inline) -> None:
    agent = inline.create(Keeper, 1)
    with pytest.raises(PeerFault, match="bad"):
        agent.call("fail")
    assert agent.call("look") == {"born": 1}


def test_a_task_that_an_agent_left_behind_writes_nothing(inline: Inline) -> None:
    agent = inline.create(Keeper, 1)
    left = agent.agent.data
    agent.hop("there")
    with pytest.raises(Misuse, match=r"cannot change self\.data"):
        left.put("late", 1)
    assert agent.call("look") == {"born": 1}

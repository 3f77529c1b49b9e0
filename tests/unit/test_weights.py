"""Weights from files: what is read, and what a hostile or damaged file comes to."""

import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import weights
from agents.driver_profiling import trained
from ledger.errors import Misuse

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7], np.int64)}


def safetensors(path: Path, table: dict[str, Any], data: bytes, length: int | None = None) -> Path:
    head = json.dumps(table).encode()
    path.write_bytes((len(head) if length is None else length).to_bytes(8, "little") + head + data)
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def equal(found: weights.Weights) -> bool:
    return found.keys() == ARRAYS.keys() and all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)


def test_npz_is_written_whole_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    weights.save(file, ARRAYS)
    assert equal(weights.load(file)) and list(tmp_path.iterdir()) == [file]
    with pytest.raises(Misuse, match="name a file that ends so"):
        weights.save(tmp_path / "model.pth", ARRAYS)
    with pytest.raises(Misuse, match="cannot be written"):
        weights.save(tmp_path / "none" / "model.npz", ARRAYS)


def test_safetensors_are_read_as_their_table_says(tmp_path: Path) -> None:
    data = ARRAYS["a"].tobytes() + ARRAYS["b"].tobytes()
    table = {"__metadata__": {"by": "hand"}, "a": entry([2, 3], 0, 24), "b": entry([1], 24, 32, "I64")}
    assert equal(weights.load(safetensors(tmp_path / "model.safetensors", table, data)))


@pytest.mark.parametrize(
    ("table", "length", "words"),
    [
        ({"a": entry([2, 3], 0, 28)}, None, "does not lie in the file"),  # more than there is
        ({"a": entry([2, 3], 0, 20)}, None, "does not lie in the file"),  # less than its shape
        ({"a": entry([2, 3], -24, 0)}, None, "does not lie in the file"),
        ({"a": entry([-2, -3], 0, 24)}, None, "cannot be read"),
        ({"a": entry([6], 0, 24, "F8")}, None, "is of F8"),
        ({"a": {"dtype": "F32"}}, None, "cannot be read"),
        ({"a": [1]}, None, "cannot be read"),
        ({}, 1 << 40, "its table would have"),
        ({}, 1, "cannot be read"),
    ],
)
def test_a_table_that_lies_is_refused(tmp_path: Path, table: Any, length: int | None, words: str) -> None:
    file = safetensors(tmp_path / "model.safetensors", table, ARRAYS["a"].tobytes(), length)
    with pytest.raises(Misuse, match=words):
        weights.load(file)


def test_many_names_for_the_same_bytes_are_no_way_to_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", 4000)
    table = {str(name): entry([6], 0, 24) for name in range(200)}
    with pytest.raises(Misuse, match="of at most 4000"):
        weights.load(safetensors(tmp_path / "model.safetensors", table, ARRAYS["a"].tobytes()))
    monkeypatch.setattr(weights, "MAX_BYTES", 4 << 20)
    file = safetensors(
        tmp_path / "large.safetensors",
        {str(name): entry([1 << 20], 1, 1 + (1 << 20), "U8") for name in range(50)},
        bytes(2 << 20),
    )
    tracemalloc.start()
    try:
        with pytest.raises(Misuse, match="of at most"):
            weights.load(file)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20, "each copy makes room only when there may be so much"
    finally:
        tracemalloc.stop()


def test_a_pickle_in_an_npz_file_is_not_opened(tmp_path: Path) -> None:
    file, mark = tmp_path / "model.npz", tmp_path / "mark"
    np.savez(file, a=np.array([Bomb(mark)], dtype=object))
    with pytest.raises(Misuse, match="cannot be read"):
        weights.load(file)
    assert not mark.exists()
    np.load(file, allow_pickle=True)["a"]  # the same with a reader that trusts it
    assert mark.exists()


class Bomb:
    """Who unpickles it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_bomb_of_zeroes_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.npz"
    np.savez_compressed(file, a=np.zeros(1 << 20))
    monkeypatch.setattr(weights, "MAX_BYTES", 1 << 20)
    assert file.stat().st_size < 1 << 20
    with pytest.raises(Misuse, match=r"holds 8388.* bytes of arrays"):
        weights.load(file)


def test_a_head_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }\n"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    with pytest.raises(Misuse, match="cannot be read"):
        weights.load(file)


HEAD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n"


def npz(path: Path, name: str = "a.npy", head: bytes = HEAD, method: int = zipfile.ZIP_STORED) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(4))
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("damage", ["encrypted", "method", "lzma", "deep", "no array"])
def test_whatever_the_readers_of_archives_raise_is_one_error(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "model.npz"
    match damage:
        case "encrypted" | "method":
            raw = npz(file)
            local, central = raw.find(b"PK\x03\x04"), raw.find(b"PK\x01\x02")
            at, value = (6, 1) if damage == "encrypted" else (8, 99)
            raw[local + at], raw[central + at + 2] = value, value
            file.write_bytes(raw)
        case "lzma":
            raw = npz(file, method=zipfile.ZIP_LZMA)
            raw[50:90] = bytes(each ^ 0x5A for each in raw[50:90])
            file.write_bytes(raw)
        case "deep":
            npz(file, head=b"{'shape': " + b"(" * 9000 + b"}\n")
        case "no array":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("read me.txt", "weights")
    with pytest.raises(Misuse, match=r"model\.npz cannot be read"):
        weights.load(file)


@pytest.mark.parametrize("table", [b"[1]", b"[" * 100_000])
def test_a_table_that_is_none_is_refused(tmp_path: Path, table: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(table).to_bytes(8, "little") + table)
    with pytest.raises(Misuse, match="cannot be read"):
        weights.load(file)


def test_names_that_take_no_room_are_not_counted_for_ever(tmp_path: Path) -> None:
    npz(tmp_path / "model.npz", "drivers.npy", HEAD.replace(b"<f4", b"<U0").replace(b"(1,)", b"(1000000000000,)"))
    with pytest.raises(Misuse, match="does not say whom it knows"):
        trained.read(tmp_path / "model.npz")


@pytest.mark.parametrize("name", ["model.npz", "model.safetensors"])
@pytest.mark.parametrize("raw", [b"", b"PK", b"\x00" * 100, b"\xff" * 100])
def test_what_is_no_such_file_is_named(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(Misuse, match=rf"{name} cannot be read"):
        weights.load(tmp_path / name)


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.npz"
    weights.save(file, ARRAYS)
    monkeypatch.setattr(weights, "MAX_BYTES", 100)
    with pytest.raises(Misuse, match=r"has .* bytes, of at most 100"):
        weights.load(file)
    with pytest.raises(Misuse, match="no file of weights that is known"):
        weights.load(tmp_path / "model.pickle")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"b": None}, "'b' is missing; they begin with 'a'"),
        ({"c": np.zeros(1)}, "has no 'c'"),
        ({"a": np.zeros((3, 2), np.float32)}, r"'a' is \[3, 2\], and must be \[2, 3\]"),
        ({"a": np.full((2, 3), np.nan, np.float32)}, "'a' has values that are not finite"),
        ({"a": np.full((2, 3), 1e300)}, "'a' has values that are not finite"),  # as float32, which the model takes
        ({"a": np.full((2, 3), "x")}, "'a' holds <U1, and no numbers"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict[str, Any], words: str) -> None:
    shapes = {name: array.shape for name, array in ARRAYS.items()}
    assert equal(weights.fitted(ARRAYS, shapes, "Tiny"))
    given = {name: array for name, array in (ARRAYS | change).items() if array is not None}
    with pytest.raises(Misuse, match=f"these are no weights of Tiny: .*{words}"):
        weights.fitted(given, shapes, "Tiny")


def test_half_precision_is_widened() -> None:
    fit = weights.fitted({"a": ARRAYS["a"].astype(np.float16)}, {"a": (2, 3)}, "Tiny")
    assert fit["a"].dtype == np.float32


def test_tensors_are_read_and_a_pickle_bomb_is_not_run(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    file, mark = tmp_path / "model.pth", tmp_path / "mark"
    for whole in (tensors, {"epoch": 3, "state_dict": tensors}):
        torch.save(whole, file)
        assert equal(weights.load(file))
    torch.save({"a": torch.ones(2, dtype=torch.bfloat16)}, file)
    assert weights.load(file)["a"].tolist() == [1, 1]
    torch.save(Bomb(mark), file)
    with pytest.raises(Misuse, match="could run anything"):
        weights.load(file)
    assert not mark.exists()
    torch.load(file, weights_only=False)  # the same with a reader that trusts it
    assert mark.exists()
    torch.save({"a": torch.eye(2).to_sparse()}, file)
    with pytest.raises(Misuse, match="cannot be read"):
        weights.load(file)
    torch.save([1, 2], file)
    with pytest.raises(Misuse, match="no table of weights by name"):
        weights.load(file)
    file.write_bytes(b"no pickle")
    with pytest.raises(Misuse, match=r"model.pth"):
        weights.load(file)


def test_a_bomb_of_tensors_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    plain, file = tmp_path / "plain.pt", tmp_path / "model.pt"
    torch.save({"a": torch.zeros(1 << 18)}, plain)
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as smaller:
        for name in archive.namelist():
            smaller.writestr(name, archive.read(name))
    assert len(weights.load(file)["a"]) == 1 << 18  # PyTorch unpacks such files
    monkeypatch.setattr(weights, "MAX_BYTES", 1 << 19)
    monkeypatch.setattr(torch, "load", None)  # it is not asked
    with pytest.raises(Misuse, match=r"holds 10.* bytes of arrays"):
        weights.load(file)

"""Windows of a car's bus, OCSLab's files, and generated data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.driver_profiling import generate, ocslab
from agents.driver_profiling.can import SIGNALS, WINDOW, cut, windows_of
from ledger.errors import Misuse

GOOD = np.arange(WINDOW * len(SIGNALS), dtype=np.float32).reshape(WINDOW, len(SIGNALS))
HEAD = ["Time(s)", *(signal.column for signal in SIGNALS), "Vehicle_speed", "Class", "PathOrder"]


def row(second: int, driver: str, path: int = 1, **other: str) -> list[str]:
    values = {"Time(s)": str(second), "Class": driver, "PathOrder": str(path)} | other
    return [values.get(name, f"{place}.5") for place, name in enumerate(HEAD)]


def csv(path: Path, rows: list[list[str]], head: list[str] = HEAD) -> Path:
    path.write_text("\n".join(",".join(each) for each in (head, *rows)) + "\n")
    return path


def test_bytes_and_lists_are_the_same_windows() -> None:
    one = windows_of(GOOD.tobytes(), 8)
    assert one.shape == (1, 40, 15) and np.array_equal(one[0], GOOD)
    assert np.array_equal(windows_of(GOOD.tolist(), 8), one)
    assert windows_of(GOOD.tobytes() * 3, 8).shape == windows_of([GOOD.tolist()] * 3, 8).shape == (3, 40, 15)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_what_is_no_number_is_found(value: float, as_bytes: bool) -> None:
    bad = np.stack([GOOD, GOOD])
    bad[1, 7, 6] = bad[1, 8, 0] = value
    with pytest.raises(Misuse, match=r"window 1, sample 7: Engine_torque is .*2 such in all"):
        windows_of(bad.tobytes() if as_bytes else bad.tolist(), 8)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "0 bytes are no windows"),
        (GOOD.tobytes()[:-1], "2399 bytes are no windows"),
        (GOOD.T.tolist(), r"\[1, 15, 40\] numbers do not fit"),
        ([], "do not fit"),
        ([[[]]], "do not fit"),
        ([[1, 2], [3]], "40 lists of 15 numbers"),
        ([["a"] * 15] * 40, "40 lists of 15 numbers"),
        ({"a": 1}, "40 lists of 15 numbers"),
        (None, "do not fit"),
        ([[10**400] * 15] * 40, "40 lists of 15 numbers"),
        ([GOOD.tolist()] * 9, "9 windows are more than the 8"),
    ],
)
def test_other_shapes_are_refused(raw: Any, words: str) -> None:
    with pytest.raises(Misuse, match=words):
        windows_of(raw, 8)


def test_drives_are_cut_into_windows_that_overlap_by_half() -> None:
    drive = np.arange(100, dtype=np.float32).repeat(15).reshape(100, 15)
    assert cut(drive)[:, 0, 0].tolist() == [0, 20, 40, 60]
    assert cut(drive[:39]).shape == (0, 40, 15)


def test_ocslab_rows_become_drives(tmp_path: Path) -> None:
    rows = [row(1, "A"), row(2, "A"), row(1, "A", 2), row(2, "B", 2), row(1, "B", 2), row(2, "B", 2)]
    drives = ocslab.load(csv(tmp_path / "drives.csv", rows))
    assert [(drive.driver, drive.samples.shape) for drive in drives] == [
        ("A", (2, 15)),  # until the path's number changes,
        ("A", (1, 15)),
        ("B", (1, 15)),  # the driver does,
        ("B", (2, 15)),  # or the clock begins again
    ]
    assert drives[0].samples[0].tolist() == [HEAD.index(signal.column) + 0.5 for signal in SIGNALS]


def test_the_oils_temperature_is_found_under_the_name_that_raw_files_have(tmp_path: Path) -> None:
    head = ["Engine_coolant_temperature" if name == "Transmission_oil_temperature" else name for name in HEAD]
    assert head.count("Engine_coolant_temperature") == 2
    (drive,) = ocslab.load(csv(tmp_path / "raw.csv", [row(1, "A")], head))
    names = [signal.column for signal in SIGNALS]
    assert (
        drive.samples[0][names.index("Transmission_oil_temperature")]
        == HEAD.index("Transmission_oil_temperature") + 0.5
    )


@pytest.mark.parametrize(
    ("rows", "head", "words"),
    [
        ([row(1, "A")], [name for name in HEAD if name != "Engine_torque"], "no column 'Engine_torque'"),
        ([row(1, "A")], [name for name in HEAD if name != "Class"], "no column 'Class'"),
        ([row(1, "A"), row(2, "A", Engine_torque="fast")], HEAD, "line 3: Engine_torque is 'fast'"),
        ([row(1, "A", Engine_torque="nan")], HEAD, "line 2: Engine_torque is 'nan'"),
        ([row(1, "A", Engine_torque="1e40")], HEAD, "line 2: Engine_torque is '1e40'"),
        ([row(1, "A", Engine_torque="")], HEAD, "line 2: Engine_torque is ''"),
        ([row(1, " ")], HEAD, "line 2: no driver"),
        ([row(1, "A")[:-2]], HEAD, "line 2: 17 fields, and the head names 19"),
        ([], HEAD, "a head and no data"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_line(
    tmp_path: Path, rows: list[list[str]], head: list[str], words: str
) -> None:
    if len(head) != len(HEAD):
        rows = [each[: len(head)] for each in rows]
    with pytest.raises(Misuse, match=rf"bad.csv.*{words}"):
        ocslab.load(csv(tmp_path / "bad.csv", rows, head))


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe\x00", b"\x00" * 50, b'"' + b"x" * 200_000])
def test_what_is_no_csv_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "bad.csv").write_bytes(raw)
    with pytest.raises(Misuse, match=r"bad\.csv"):
        ocslab.load(tmp_path / "bad.csv")
    with pytest.raises(Misuse, match="cannot be read"):
        ocslab.load(tmp_path / "none.csv")


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = csv(tmp_path / "long.csv", [row(second, f"D{second}") for second in range(20)])
    assert len(ocslab.load(file)) == 20
    monkeypatch.setattr(ocslab, "MAX_DRIVERS", 5)
    with pytest.raises(Misuse, match="line 7: 'Class' names more than 5"):
        ocslab.load(file)
    monkeypatch.setattr(ocslab, "MAX_ROWS", 4)
    with pytest.raises(Misuse, match="more than 4 lines"):
        ocslab.load(file)


def test_generated_drives_are_the_sames_for_a_seed_and_lie_in_a_cars_ranges() -> None:
    drives, again = (generate.drives(7, "AB", each=2, seconds=100) for _ in range(2))
    assert [drive.driver for drive in drives] == ["A", "A", "B", "B"]
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(drives, again, strict=True))
    assert not np.array_equal(drives[0].samples, drives[1].samples)
    assert not np.array_equal(drives[0].samples, generate.drives(8, "A", 1, 100)[0].samples)
    assert np.array_equal(drives[2].samples, generate.drives(7, "B", 1, 100)[0].samples), "whoever else there is"
    low, high = np.array([(signal.low, signal.high) for signal in SIGNALS]).T
    for drive in drives:
        assert drive.samples.shape == (100, 15) and np.isfinite(drive.samples).all()
        assert (drive.samples >= low.astype("f4")).all() and (drive.samples <= high.astype("f4")).all()

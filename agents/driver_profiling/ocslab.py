"""Reads the OCSLab driving data: a CSV file with a column for each signal, and the driver's letter in `Class`.

Rows are seconds. `PathOrder` numbers the drives of a driver where it is there; else a drive ends where the driver
changes, or where `Time(s)` begins again.
"""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.driver_profiling.can import SIGNALS
from ledger.errors import Misuse

DRIVER, DRIVE, SECOND = "Class", "PathOrder", "Time(s)"
MAX_ROWS = 1_000_000  # the whole of OCSLab's has 94,380
MAX_DRIVERS = 1_000


class Drive:
    """One drive of one driver: samples x signals."""

    def __init__(self, driver: str, samples: NDArray[np.float32]) -> None:
        self.driver, self.samples = driver, samples


def load(path: Path) -> list[Drive]:
    """The drives in a file, in its order. Raises Misuse that names file, line and column of what is wrong."""
    drives: list[Drive] = []
    drivers: set[str] = set()
    rows: list[list[float]] = []
    before: tuple[str, str, float] | None = None
    try:
        for line, (driver, drive, second, values) in _rows(path):
            if line > MAX_ROWS:
                raise Misuse(f"{path.name} has more than {MAX_ROWS} lines: cut it into several files")
            new = before is not None and (before[:2] != (driver, drive) or second < before[2])
            if new and before is not None:
                drives.append(Drive(before[0], np.array(rows, np.float32)))
                rows = []
            drivers.add(driver)
            if len(drivers) > MAX_DRIVERS:
                raise Misuse(f"{path.name}, line {line}: {DRIVER!r} names more than {MAX_DRIVERS} drivers")
            before = driver, drive, second
            rows.append(values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Misuse(f"{path} cannot be read as CSV: {error}") from None
    if before is None:
        raise Misuse(f"{path.name} has a head and no data")
    return [*drives, Drive(before[0], np.array(rows, np.float32))]


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, str, float, list[float]]]]:
    """(line, (driver, drive, second, the signals)) of each."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        head = _unique(next(reader, []))
        places = [_place(head, path, signal.column, signal.also) for signal in SIGNALS]
        driver_at = _place(head, path, DRIVER)
        drive_at, second_at = (head.index(name) if name in head else None for name in (DRIVE, SECOND))
        for row in reader:
            line = reader.line_num
            if not row:
                continue
            if len(row) != len(head):
                raise Misuse(f"{path.name}, line {line}: {len(row)} fields, and the head names {len(head)}")
            driver = row[driver_at].strip()
            if not driver:
                raise Misuse(f"{path.name}, line {line}: no driver in {DRIVER!r}")
            values = [_number(path, line, head[place], row[place]) for place in places]
            second = 0.0 if second_at is None else _number(path, line, SECOND, row[second_at])
            yield line, (driver, "" if drive_at is None else row[drive_at].strip(), second, values)


def _unique(head: list[str]) -> list[str]:
    """A name that comes again gets ".1": the raw files name the oil's temperature as the coolant's."""
    names: list[str] = []
    for name in map(str.strip, head):
        names.append(f"{name}.{names.count(name)}" if name in names else name)
    return names


def _place(head: list[str], path: Path, column: str, also: str = "") -> int:
    for name in (column, also):
        if name and name in head:
            return head.index(name)
    named = f"{column!r}{f' (or {also!r})' if also else ''}"
    raise Misuse(f"{path.name} has no column {named}: it is no OCSLab driving data; its columns begin with {head[:3]}")


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e9:
        raise Misuse(f"{path.name}, line {line}: {column} is {text!r:.40}, and must be a number; mend or drop the line")
    return value

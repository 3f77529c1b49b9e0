"""The logs of agents: bounded, each and all together, and no reason for a host to end."""

import os
import time
from pathlib import Path

import pytest

from agentplatform.logbook import Logbook
from agentplatform.settings import Logs

SMALL = Logs(file=1000, all=5000, a_second=100)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_log_has_one_predecessor(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path / "logs", SMALL)
    for number in range(100):
        logbook.write("a", "note", f"line {number}")
    assert set(sizes(tmp_path / "logs")) == {"a.log", "a.old"}
    assert all(size < 1100 for size in sizes(tmp_path / "logs").values())
    assert logbook.read("a", 1)[0].endswith("note line 99")


def test_who_prints_too_fast_loses_lines_and_is_told_how_many(tmp_path: Path) -> None:
    clock = Clock()
    logbook = Logbook(tmp_path / "logs", SMALL, clock)
    for number in range(200):
        logbook.printed("loud", "out", f"line {number}")
    logbook.write("loud", "note", "the platform's own words are not lost")
    logbook.printed("quiet", "out", "neither are another agent's")
    written = [line for line in logbook.read("loud", 1000) if " out " in line]
    assert sum(map(len, written)) < 1000
    assert any(f"{200 - len(written)} lines were lost here" in line for line in logbook.read("loud", 1000))
    assert logbook.read("quiet", 1)[0].endswith("neither are another agent's")
    clock.now += 1.0
    logbook.printed("loud", "note", "again")
    assert logbook.read("loud", 1)[0].endswith("again")


def test_all_logs_together_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    for _ in range(2):  # a restart counts what is there
        logbook = Logbook(folder, SMALL)
        for number in range(30):
            logbook.write(f"agent-{number}", "note", "x" * 400)
            os.utime(folder / f"agent-{number}.log", (number, number))
            assert sum(sizes(folder).values()) <= 5000
    assert "agent-29.log" in sizes(folder) and "agent-0.log" not in sizes(folder)


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logbook = Logbook(tmp_path / "logs")
    logbook.write("a", "out", "before")
    opened = Path.open

    def full(self: Path, *arguments: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    logbook.write("a", "out", "lost\nand lost")
    logbook.write("a", "note", "too")
    monkeypatch.setattr(Path, "open", opened)
    logbook.write("a", "out", "after")
    lines = [line[len(time.strftime("%Y-%m-%d %H:%M:%S.000 ")) :] for line in logbook.read("a", 10)]
    assert lines == [
        "out  before",
        "note 3 lines were lost here: they came too fast, or the disk was full",
        "out  after",
    ]

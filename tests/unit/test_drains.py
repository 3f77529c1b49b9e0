"""`agentplatform drain` on the command line: what it shows on the way, when it returns, and how it says no."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplatform import consortium
from agentplatform.console import drains
from agentplatform.console.cli import main
from ledger.errors import Misuse
from tests.helpers.desk_twin import DeskTwin, answering

A, B, C = "a-0123456789abcdef", "b-0123456789abcdef", "c-0123456789abcdef"
ROW: dict[str, Any] = {
    "host": "north",
    "state": "being drained",
    "began": 1000.0,
    "deadline": 1060.0,
    "at": 1001.0,
    "moved": {},
    "deactivated": [],
    "asleep": [C],
    "left": [{"agent": A, "state": "runs", "why": ""}, {"agent": B, "state": "runs", "why": ""}],
    "handoffs": 0,
    "outcome": None,
    "blocked": [],
}
HALF = ROW | {"moved": {A: "south"}, "left": [{"agent": B, "state": "runs", "why": "I like it [here]"}]}
DONE = HALF | {"state": "drained", "deactivated": [B], "left": []}
OPENED = {"host": "north", "state": "open", "at": 1.0, "blocked": []}
OUTCOME = {"back": [A], "activated": [B], "away": {C: "it went on to east"}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drains, "LOOK_EVERY", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    consortium.found(tmp_path / "root", ["north", "south"])
    return tmp_path / "root"


def run(capsys: pytest.CaptureFixture[str], root: Path, *argv: str) -> tuple[int, str, str]:
    code = main(["--root", str(root), "drain", *argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def saying(*rows: Any) -> Any:
    """One after the other; then the last one."""
    left: Iterator[Any] = iter(rows)
    last = [rows[-1]]
    return lambda **_: next(left, last[0])


def test_it_tells_each_step_once_and_returns_when_the_host_is_drained(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = DeskTwin("north", {"drain": saying(ROW), "drained": saying(ROW, HALF, HALF, DONE)})
    with answering(root, desk):
        code, out, err = run(capsys, root, "north", "--deadline", "7")
    assert (code, err) == (0, "") and ("drain", {"seconds": 7.0}) in desk.asked
    assert out.splitlines() == [
        f"{A} went to south",
        f"{B} is here still: I like it [here]",
        f"{B} is deactivated, on the disk of north",
        "north is drained: 1 moved, 1 deactivated, 1 asleep before, 0 left; safe to stop",
        "1 went to south",
    ]


def test_json_is_one_object_and_nothing_else(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(root, DeskTwin("north", {"drain": saying(ROW), "drained": saying(HALF, DONE)})):
        code, out, _ = run(capsys, root, "north", "--json")
    assert code == 0 and json.loads(out) == DONE


def test_status_asks_and_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = DeskTwin("north", {"drained": saying(HALF)})
    with answering(root, desk):
        code, out, _ = run(capsys, root, "north", "--status")
    assert code == 0 and "1 moved, 0 deactivated, 1 asleep before, 1 left, 59 s to the deadline\n" in out
    assert "safe to stop" not in out and [verb for verb, _ in desk.asked] == ["hello", "drained"]


def test_what_was_called_off_says_who_did_not_come_back(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opening = DONE | {"state": "being opened again"}
    desk = DeskTwin("north", {"open": saying(opening), "drained": saying(opening, OPENED | {"outcome": OUTCOME})})
    with answering(root, desk):
        code, out, _ = run(capsys, root, "north", "--cancel")
        assert code == 0 and out.splitlines() == [
            "north is open again: 1 came back, 1 activated",
            f"{C} did not come back: it went on to east",
        ]
    with answering(root, DeskTwin("north", {"open": Misuse("north is not being drained")})):
        assert run(capsys, root, "north", "--cancel") == (2, "", "agentplatform: north is not being drained\n")


def test_a_host_that_is_not_drained_in_time_is_no_success(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`drain HOST && poweroff` must not go on."""
    monkeypatch.setattr(drains, "GRACE", -60.0)
    wait = {"host": "north", "agents": [A], "waits_for": "south", "why": "it has not said yet"}
    with answering(root, DeskTwin("north", {"drain": saying(HALF | {"blocked": [wait]})})):
        code, _, err = run(capsys, root, "north")
    assert code == 1 and f"{B} (runs) I like it [here]; {A} waits for south" in err and "--status" in err


def test_after_ctrl_c_it_goes_on_and_says_so(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(drains, "time", type("Clock", (), {"sleep": interrupt, "monotonic": time.monotonic}))
    desk = DeskTwin("north", {"drain": saying(ROW)})
    with answering(root, desk):
        code, out, _ = run(capsys, root, "north")
    assert code == 130 and "the drain of north goes on" in out and "drain north --cancel" in out
    assert [verb for verb, _ in desk.asked] == ["hello", "drain"]


def test_a_host_that_cannot_be_asked_is_offline_and_what_it_has_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = {"host": "north", "offline_since": 1000.0, "agents": {A: "held", B: "local", C: None}}
    with answering(root, DeskTwin("south", {"absent": lambda host: absent})):
        code, out, err = run(capsys, root, "north")
    assert (code, out) == (1, "") and err.count("\n") == 1 and "offline, which is not dead" in err
    assert f"{A} (held); {B} (local); {C} (custody unknown)" in err
    code, _, err = run(capsys, root, "north")
    assert code == 1 and "No other host of this machine runs" in err


def test_a_host_of_another_machine_is_drained_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(root, DeskTwin("south", {"hosts": [{"host": "south"}, {"host": "far"}]})):
        code, _, err = run(capsys, root, "far")
        assert code == 2 and "far is not a host of this machine: whoever operates it drains it there" in err
        code, _, err = run(capsys, root, "farther")
        assert code == 2 and "there is no host 'farther'; there are: far, south" in err

"""Hosts as processes: started, found again, stopped, and what is said when that goes wrong."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agentplatform import consortium
from agentplatform.console import processes
from agentplatform.console.cli import main
from agentplatform.frontdoor.client import homes
from tests.helpers.local import small


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (home,) = consortium.found(tmp_path / "root", ["solo"])
    small(home)
    yield tmp_path / "root"
    processes.stop(tmp_path / "root", ["solo"])


def run(capsys: pytest.CaptureFixture[str], root: Path, *argv: str) -> tuple[int, str, str]:
    code = main(["--root", str(root), *argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_host_starts_once_answers_and_stops_with_all_its_workers(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, root, "--json", "start")
    assert (code, err) == (0, "")
    (first,) = json.loads(out)
    assert first["started"]
    daemon = processes.running(homes(root)["solo"])
    assert daemon is not None and daemon.pid == first["pid"]
    family = [daemon, *daemon.children(recursive=True)]
    assert json.loads(run(capsys, root, "--json", "start")[1]) == [first | {"started": False}]
    (status,) = json.loads(run(capsys, root, "--json", "status")[1])
    assert status["running"] and status["ledger"]["members"] == ["solo"]
    assert json.loads(run(capsys, root, "--json", "stop")[1]) == [{"host": "solo", "ran": True, "by": "word"}]
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert json.loads(run(capsys, root, "--json", "stop")[1]) == [{"host": "solo", "ran": False, "by": None}]


def test_a_host_that_hangs_is_stopped_by_signals(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = processes.start(root, ["solo"])
    homes(root)["solo"].token.unlink()  # now no word reaches it
    ways = [(how, act, 0.1 if how == "SIGTERM" else seconds) for how, act, seconds in processes._WAYS_TO_STOP]
    monkeypatch.setattr(processes, "_WAYS_TO_STOP", ways)
    os.kill(first["pid"], signal.SIGSTOP)
    (stopped,) = processes.stop(root, ["solo"])
    assert stopped == {"host": "solo", "ran": True, "by": "SIGKILL"}
    assert processes.running(homes(root)["solo"]) is None


def test_a_host_that_cannot_start_says_why_in_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host, port = homes(root)["solo"].settings().listen.split(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        code, out, err = run(capsys, root, "start")
    assert code in (1, 2) and out == "" and err.count("\n") == 1
    assert "solo did not start" in err and port in err and "mae.log" in err


def test_another_host_s_process_is_not_taken_for_this_one(root: Path, tmp_path: Path) -> None:
    processes.start(root, ["solo"])
    consortium.found(tmp_path / "other", ["solo"])
    assert processes.running(homes(tmp_path / "other")["solo"]) is None
    assert processes.running(homes(root)["solo"]) is not None

"""The demo, for real: what it ends with, and that nothing is left, also when it is interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
KEYS = {
    "hosts",
    "hops",
    "refused",
    "recognised_before",
    "recognised_after",
    "hop_ms_p50",
    "ledger_height",
    "picture",
}


def begin(folder: Path, *options: str) -> "subprocess.Popen[str]":
    """The demo with a folder for temporary files of its own, so that what it leaves can be seen."""
    (folder / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "agentplatform.console.cli", "demo", *options],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left(folder: Path) -> list[str]:
    """Processes that were started with something in `folder`, and files."""
    found = [str(path) for path in (folder / "tmp").iterdir()]
    commands = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    return found + [command for command in commands if str(folder / "tmp") in command]


def test_the_journey_on_the_default_picture(tmp_path: Path) -> None:
    demo = begin(tmp_path)
    printed, _ = demo.communicate(timeout=200)
    assert demo.returncode == 0, printed
    summary = json.loads(printed.splitlines()[-1])
    assert set(summary) == KEYS
    assert (summary["hosts"], summary["hops"], summary["refused"]) == (4, 4, 1)
    assert summary["recognised_before"] == summary["recognised_after"] == "astronaut"
    assert summary["hop_ms_p50"] > 0 and summary["ledger_height"] > 0
    assert (tmp_path / summary["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "0 frames showed a stranger" in printed
    assert "not trusted: west-org is revoked" in printed
    assert left(tmp_path) == []


def test_json_alone_is_one_line(tmp_path: Path) -> None:
    demo = begin(tmp_path, "--json")
    printed, _ = demo.communicate(timeout=200)
    assert demo.returncode == 0, printed
    assert printed.count("\n") == 1 and set(json.loads(printed)) == KEYS


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", ["1  A consortium", "2  A service", "3  The user moves"])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, ending: signal.Signals, after: str) -> None:
    demo = begin(tmp_path)
    assert demo.stdout is not None
    printed = ""
    while after not in printed:
        line = demo.stdout.readline()
        assert line, printed
        printed += line
    demo.send_signal(ending)
    demo.send_signal(ending)  # an impatient person
    printed += demo.communicate(timeout=60)[0]
    assert demo.returncode == 130, printed
    assert "Nothing is left running" in printed and "Traceback" not in printed
    assert left(tmp_path) == []

"""A benchmark that is ended leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.local import until

ROOT = Path(__file__).parents[2]


def of(folder: Path) -> list[psutil.Process]:
    """Daemons that were started there."""
    marks = "agentplatform.mae", "benchmarks.chaos_host"
    commands = ((process, " ".join(process.info["cmdline"] or ())) for process in psutil.process_iter(["cmdline"]))
    return [process for process, command in commands if str(folder) in command and any(map(command.count, marks))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crowd", "messages", "chaos"])
def test_sigterm_ends_its_daemons(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    options = ["--history", str(tmp_path / "history")] if name == "chaos" else []
    command = [sys.executable, "-m", "benchmarks", name, *options]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as benchmark:
        until("its daemons run", lambda: of(tmp_path))
        benchmark.send_signal(signal.SIGTERM)
        assert benchmark.wait(60) == 128 + signal.SIGTERM
    until("nothing of it is left", lambda: not of(tmp_path))

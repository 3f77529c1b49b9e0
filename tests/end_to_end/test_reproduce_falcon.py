"""Falcon's figures that need hosts or replicas, at the tiniest scale; and that nothing is left of them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.local import until

pytest.importorskip("matplotlib")

from examples.papers.falcon import fig7, fig10, fig12, fig13, fig13_narrow
from examples.papers.result import Result, Scale
from examples.papers.write import write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]


def quiet(what: str) -> None:
    assert what


def written(result: Result, folder: Path) -> str:
    return write("x", result, folder)[1].read_text()


def test_figure_7_decodes_every_frame_of_every_file() -> None:
    result = fig7.measure(Scale.TINY, quiet)
    assert [(row[0], row[3]) for row in result.rows] == [
        (quality, frames) for quality in ("high", "medium", "low") for frames in (25, 50)
    ]
    sizes = [row[4] for row in result.rows]
    assert sizes[0] < sizes[1] and sizes[1] > sizes[3] > sizes[5], "longer and finer videos are larger files"
    assert all(row[5] > 0 for row in result.rows)


def test_figure_10_knows_the_face_at_the_destination_as_before(tmp_path: Path) -> None:
    result = fig10.measure(Scale.TINY, quiet)
    assert len(result.rows) == 2
    for _, label, distance, label_after, distance_after in result.rows:
        assert label == label_after == "astronaut" and distance == distance_after > 0
    assert "On south 2 of 2 pictures show a face that it knows, 2 of 2 with the same" in result.measured
    drawing = written(result, tmp_path)
    assert "data:image/png" in drawing and "on south" in drawing and "Emulated" in drawing


def test_figures_12_and_13_come_from_one_run_of_both_engines(tmp_path: Path) -> None:
    twelve, thirteen = fig12.measure(Scale.TINY, quiet), fig13.measure(Scale.TINY, quiet)
    assert [row[0] for row in twelve.rows] == [200, 400]
    improved = {row[1]: row[2] for row in thirteen.rows if row[0] == "transfers"}
    assert improved == {count: tps for count, _, tps in twelve.rows}, "it was measured twice"
    assert [row[:2] for row in thirteen.rows] == [(kind, n) for kind in ("transfers", "creations") for n in (200, 400)]
    assert "unimproved" in written(thirteen, tmp_path) and "1 of 1" not in twelve.measured


def test_figure_13_on_a_narrow_link_says_how_that_was_made(tmp_path: Path) -> None:
    result = fig13_narrow.measure(Scale.TINY, quiet)
    assert len(result.rows) == 4 and any("20 Mbit/s: tbf" in each or "a relay" in each for each in result.emulated)


def of(folder: Path) -> list[str]:
    """Processes that have `folder` as their place for temporary files, without the one that was started here."""
    found = []
    for process in psutil.process_iter(["pid"]):
        try:
            if process.environ().get("TMPDIR") == str(folder):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("figure", "processes"), [("fig7", 2), ("fig8", 4), ("fig9", 4), ("fig10", 5), ("fig12", 9)])
def test_who_interrupts_it_finds_nothing_left(
    tmp_path: Path, figure: str, processes: int, ending: signal.Signals
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    environment = os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "agentplatform.console.cli", "reproduce", "falcon", figure, "--out", "out"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as reproducing:
        until("hosts or replicas run", lambda: len(of(scratch)) >= processes)
        os.killpg(reproducing.pid, ending)  # as a terminal does: to all that are in the foreground
        printed = reproducing.communicate(timeout=60)[0].decode()
    assert reproducing.returncode == 130, printed
    assert "Traceback" not in printed, printed
    until("nothing of it runs", lambda: not of(scratch))
    assert list(scratch.iterdir()) == []


def test_one_command_writes_a_figure_and_says_so_in_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.papers.falcon", "fig10", "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["outcome"] == "measured"
    assert [(tmp_path / file).is_file() for file in report["files"]] == [True] * 4

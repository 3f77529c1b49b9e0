"""Falcon's figures of moves: what is said and drawn of numbers that are made up, and what takes these numbers."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytest.importorskip("matplotlib")

from benchmarks import container, criu, payload
from benchmarks.container import MB, Image
from benchmarks.sampler import Sample, Seen, sampled
from benchmarks.shaped import shaped
from examples.papers.falcon import fig8, fig9
from examples.papers.result import Scale
from examples.papers.write import write
from ledger.errors import Misuse, Unavailable
from tests.helpers.local import until

RELAYED = ("bandwidth: shaped in a relay",)


def agent_at(link: str, mbit: float, seconds: float, round_trip: float = 0.0) -> fig8.Point:
    return fig8.Point(link, mbit, round_trip, fig8.AGENT, 1_000_000, seconds, seconds / 2, "measured, median of 2")


def quiet(what: str) -> None:
    assert what


# Figure 8


def test_figure_8_says_what_its_rows_say(tmp_path: Path) -> None:
    points = [
        agent_at("8", 8.0, 1.5),
        fig8.Point("8", 8.0, 0.0, "container, image", 16_000_000, 16.0, "", fig8.COMPUTED),
        agent_at("unshaped", 8000.0, 0.1),
        fig8.Point("unshaped", 8000.0, 0.0, "container, image", 16_000_000, 0.05, "", fig8.MEASURED),
        agent_at("8", 8.0, 1.75, 20.0),
    ]
    result = fig8.result(points, 100, 0.5, RELAYED)
    for said in (
        "1.50 s after the order at 8 Mbit/s and 0.10 s unshaped",
        "0.10 to 0.50 s more than its bytes alone take",
        "round trip of 20 ms 1.75 s at 8 Mbit/s",
        "container, image: 0.50 to 11 times as long",  # also where the agent is slower
    ):
        assert said in result.measured
    assert "0.50 s here" in result.differs and "no CRIU was named" in result.differs
    table, *pictures = write("fig8", result, tmp_path)[:3]
    assert (
        table.read_text().splitlines()[2]
        == '8,8.0,0.0,"container, image",16000000,16.0,,computed from the measured rate'
    )
    assert all(picture.stat().st_size > 10_000 for picture in pictures)
    assert "relay" in pictures[0].read_text() and "hollow" in pictures[0].read_text().lower()


def test_what_would_take_too_long_is_computed_from_the_measured_rate() -> None:
    plan, image = fig8.PLANS[Scale.SMALL], Image("image", 999 * MB, "a test")
    agent = agent_at("8", 8.0, 1.5)
    with shaped(None, relay=True) as link:
        computed = fig8._payload(link, plan, agent, image, quiet)
        assert (computed.seconds, computed.how, computed.size) == (1000.0, fig8.COMPUTED, 1000 * MB)
        taken = fig8._payload(link, plan, agent._replace(mbit=8e6), Image("image", 1, "a test"), quiet)
    assert taken.how == fig8.MEASURED and taken.seconds > 0 and taken.size == 1_000_001


def test_layers_are_as_large_as_their_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.py").write_bytes(bytes(100))
    (tmp_path / "b.py").write_bytes(bytes(20))
    (tmp_path / "c.txt").write_bytes(bytes(3))
    (tmp_path / "again.py").symlink_to(tmp_path / "b.py")
    assert container.top_layer(tmp_path).size == 120
    assert container.bytes_of(tmp_path.rglob("*")) == 123


# CRIU


FAKE = """#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in --tree) tree=$2;; --images-dir) images=$2;; --pidfile) pid=$2;; dump|restore|check) verb=$1;; esac
  shift
done
if [ $verb = check ]; then
  exit 0
elif [ $verb = dump ]; then
  head -c 30000 /dev/zero > $images/pages.img && kill -9 $tree
else
  sleep 600 > /dev/null 2>&1 & echo $! > $pid
  echo $! > {told}
fi
"""


def ended(process: int) -> bool:
    """Perhaps nobody has asked for its exit status yet. It is no child of this process: to be killed takes a moment."""
    return not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE


def fake(folder: Path, text: str) -> Path:
    program = folder / "criu"
    program.write_text(text.replace("{told}", str(folder / "told")))
    program.chmod(0o700)
    return program


def test_a_process_is_dumped_sent_and_restored_by_the_named_program(tmp_path: Path) -> None:
    program = fake(tmp_path, FAKE)
    with shaped(None, relay=True) as link:
        point = fig8._by_criu(program, link, agent_at("8", 8.0, 1.5), quiet)
    assert point.size == 30_000 and point.seconds == point.downtime > 0
    assert point.moved == fig8.BY_CRIU and "dump" in point.how and "restore" in point.how
    until("the restored process ends", lambda: ended(int((tmp_path / "told").read_text())))
    result = fig8.result([agent_at("8", 8.0, 1.5), agent_at("unshaped", 80.0, 0.2), point, point], 1, 0.5, RELAYED)
    assert "CRIU took up" in result.differs


def test_a_program_that_fails_is_quoted_and_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake(tmp_path, "#!/bin/sh\necho first\necho 'no kernel support' >&2\nexit 1\n")
    begun: list[subprocess.Popen[bytes]] = []
    start = criu._start
    monkeypatch.setattr(criu, "_start", lambda *how: begun.append(start(*how)) or begun[0])
    with (
        shaped(None, relay=True) as link,
        pytest.raises(Unavailable, match="dump failed: no kernel support"),
    ):
        criu.move(program, link, 1000)
    assert begun[0].returncode is not None


def test_what_the_environment_names_must_be_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRIU", raising=False)
    assert criu.named() is None
    program = fake(tmp_path, FAKE)
    monkeypatch.setenv("CRIU", str(program))
    assert criu.named() == program
    for wrong in (tmp_path, tmp_path / "nothing"):
        monkeypatch.setenv("CRIU", str(wrong))
        with pytest.raises(Misuse, match="no program"):
            criu.named()
    fake(tmp_path, "#!/bin/sh\necho 'kernel too new' >&2\nexit 1\n")
    monkeypatch.setenv("CRIU", str(program))
    with pytest.raises(Unavailable, match="check failed: kernel too new"):
        criu.named()


# Figure 9


def watched(processor: float) -> fig9.Move:
    """One second before, one of the move, one after; `processor` of a core while it moves, 40 MB more at its end."""
    samples, used = [], 0.0
    for look in range(31):
        at = look / 10
        used += processor / 10 if 1.0 < at <= 2.05 else 0.0
        samples.append(Sample(100.0 + at, used, 50 * MB if at <= 1.95 else 90 * MB))
    seen = Seen(
        {"source": samples, "destination": samples}, {"source": (3 * MB, 2 * MB), "destination": (2 * MB, 3 * MB)}, 0.07
    )
    return fig9.Move(101.0, 102.0, seen, {"freeze": 0.1, "transfer": 0.8, "arrival": 1.0})


def test_figure_9_says_what_its_rows_say(tmp_path: Path) -> None:
    moves = {fig9.AGENT: watched(0.5), fig9.CONTAINER: watched(0.25)}
    result = fig9.result(moves, 7 * MB, 264 * MB, RELAYED)
    agent, stand_in = result.measured.split("; container's payload ")
    assert "agent (7.0 MB in 1.00 s): source 50 % (50 %) of a core, 0.50 s of it in all" in agent and "+40 MB)" in agent
    assert stand_in.startswith("(271.0 MB in 1.00 s): source 25 % (25 %) of a core, 0.25 s of it in all")
    assert "source 3 to 2 MB, destination 2 to 3 MB" in result.differs and "took 7 % of a core" in result.differs
    assert len(result.rows) == 4 * 30 and sum(row[5] for row in result.rows) == pytest.approx(4 * 10, abs=4)
    picture = write("fig9", result, tmp_path)[1].read_text()
    assert all(word in picture for word in ("freeze", "transfer", "arrival", "relay"))


def test_the_phases_of_a_hop_are_those_of_its_agent_after_the_order() -> None:
    lines = [
        {"t": 1.0, "event": "offer", "agent": "a"},
        {"t": 5.1, "event": "offer", "agent": "another"},
        {"t": 5.2, "event": "offer", "agent": "a"},
        {"t": 5.7, "event": "received", "agent": "a"},
        {"t": 5.8, "event": "handled"},
    ]
    assert fig9._phases(lines, "a", 5.0) == pytest.approx({"freeze": 0.2, "transfer": 0.7})


BUSY = """
import os, sys, time
def work(until):
    while time.process_time() < until: pass
sys.stdin.readline()
held = b"x" * 60_000_000
work(0.15)
if os.fork() == 0:
    work(0.15)
    os._exit(0) if sys.argv[1] == "ends" else (os.write(1, b"done"), time.sleep(600))
if sys.argv[1] == "ends":
    os.wait()
    os.write(1, b"done")
sys.stdin.readline()
os.killpg(0, 9)
"""


@pytest.mark.parametrize("child", ["ends", "stays"])
def test_the_sampler_counts_a_process_and_what_it_starts(child: str) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", BUSY, child], start_new_session=True, **pipes) as busy:
        assert busy.stdin is not None and busy.stdout is not None
        with sampled({"busy": busy.pid, "idle": os.getpid()}) as seen:
            busy.stdin.write(b"go\n")
            busy.stdin.flush()
            assert busy.stdout.read(4) == b"done"
        busy.stdin.write(b"end\n")
    first, last = seen.samples["busy"][0], seen.samples["busy"][-1]
    # Its own 0.15 s less what it took to start, and its child's; of one that ended what was seen of it by then.
    assert (0.15 if child == "ends" else 0.25) <= last.processor < 5.0
    assert last.memory - first.memory > 50 * MB and seen.pss["busy"][1] > 50 * MB and seen.own > 0.0
    ats = [sample.at for sample in seen.samples["busy"]]
    assert ats == sorted(ats)


def test_a_payload_is_unpacked_whole(tmp_path: Path) -> None:
    with shaped(None, relay=True) as link, payload.ready(link, tmp_path, 9_000_000) as pair:
        begin, end = pair.go()
    assert end > begin
    sent, found = (
        {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "sent", tmp_path / "unpacked")
    )
    assert found == sent and sum(map(len, found.values())) == 9_000_000


def test_a_payload_that_cannot_be_made_is_no_figure(tmp_path: Path) -> None:
    with (
        shaped(None, relay=True) as link,
        payload.ready(link, tmp_path, 5_000, before=("false",)) as pair,
        pytest.raises(OSError, match="before it was done"),
    ):
        pair.go()


def test_figure_9_has_criu_before_and_after_the_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig9, "AROUND", 0.02)
    program = fake(tmp_path, FAKE)
    with shaped(None, relay=True) as link:
        move = fig9._container(link, tmp_path, 1000, 5000, program, quiet)
    place = tmp_path / "container" / "unpacked"
    assert (place / "images" / "pages.img").stat().st_size == 30_000  # what was dumped, and nothing of the state
    assert container.bytes_of((place / "layers").iterdir()) == 5000
    until("the restored process ends", lambda: ended(int((tmp_path / "told").read_text())))
    assert move.end > move.begin and set(move.seen.samples) == set(fig9.COLOURS)


def test_a_program_that_restores_nothing_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="restored nothing"), criu.put_down(tmp_path / "pid"):
        pass

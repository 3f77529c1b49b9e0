"""Hosts at the two ends of a shaped link; and that nothing is left of one, whatever happens."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentplatform import connect
from agents.counter import Counter
from benchmarks import shaped
from benchmarks.namespaces import Namespaces, why_not
from tests.helpers.local import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def needs_namespaces() -> None:
    if reason := why_not():
        pytest.skip(reason)


def namespaces() -> set[str]:
    """Of all processes, this one's left out."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(place))
        except OSError:  # it has ended meanwhile
            continue
    return found - {os.readlink("/proc/self/ns/net")}


@pytest.mark.slow
@pytest.mark.parametrize("relay", [True, False], ids=["relay", "namespaces"])
def test_an_agent_crosses_a_shaped_link(relay: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not relay:
        request.getfixturevalue("needs_namespaces")
    with shaped.shaped(40.0, 1.0, relay=relay) as link, shaped.hosts(link, tmp_path / "root"):
        counter = connect("north", root=tmp_path / "root").create(Counter)
        assert counter.call("add", 3) == 3
        counter.dispatch("east")
        assert counter.host == "east"
        assert connect("east", root=tmp_path / "root").agent(counter.id).call("add", 4) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("needs_namespaces")
def test_a_link_in_namespaces_gets_another_rate_and_none() -> None:
    with shaped.shaped(100.0) as link:
        for mbit, seen in ((5.0, "rate 5Mbit"), (None, "noqueue"), (None, "noqueue"), (40.0, "rate 40Mbit")):
            link.shape(mbit)
            for end in (0, 1):
                words = (*link.command(end), "tc", "qdisc", "show", "dev", "cable0")
                assert seen in subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.usefixtures("needs_namespaces")
def test_the_ends_see_each_other_and_nothing_else() -> None:
    with shaped.shaped(100.0) as link:
        assert shaped.send(link, 10_000) > 0.0
        for end in (0, 1):
            seen = subprocess.run((*link.command(end), "ip", "-o", "link"), capture_output=True, text=True, check=True)
            assert [line.split(": ")[1].split("@")[0] for line in seen.stdout.splitlines()] == ["lo", "cable0"]


@pytest.mark.slow
@pytest.mark.usefixtures("needs_namespaces")
def test_of_a_link_that_cannot_be_made_nothing_is_left() -> None:
    before = namespaces()
    with pytest.raises(subprocess.CalledProcessError), Namespaces(0.0, 0.01):
        raise AssertionError("tbf has no such rate")
    until("its namespaces are gone", lambda: namespaces() <= before)


@pytest.mark.slow
@pytest.mark.usefixtures("needs_namespaces")
@pytest.mark.parametrize("delay_ms", [0.0, 1.0])
def test_of_a_link_whose_maker_is_killed_nothing_is_left(delay_ms: float) -> None:
    before = namespaces()
    script = f"""
from benchmarks.shaped import send, shaped
with shaped(100.0, {delay_ms}) as link:
    send(link, 1000)
    print("up", flush=True)
    input()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, cwd=ROOT, env=environment, **pipes) as maker:
        assert maker.stdout is not None and maker.stdout.readline() == b"up\n"
        assert len(namespaces() - before) >= 2
        maker.send_signal(signal.SIGKILL)
    until("its namespaces are gone", lambda: namespaces() <= before)

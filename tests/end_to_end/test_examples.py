"""The examples run as their first lines say, and print what they say they print."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.local import Local, consortium

FOLDER = Path(__file__).parents[2] / "examples"
LINES = {  # of what each prints, as patterns
    "01_first_agent.py": ["1 on north", "3 on south"],
    "02_sequence.py": ["east: stop 1", "atlantis: .* no host 'atlantis'.*", "south: stop 2", "the courier is on south"],
    "03_plan.py": [r"east: \d+ processors", r"south: \d+ GiB free", "south: OSError: the ladder is too short"],
    "04_alternatives.py": [
        "atlantis: .*", "east: .* needs: gold", "south: here I stay", "the settler is on south",
    ],
    "05_circular.py": [f"all is well in the {host}" for host in ("east", "south", "west", "east", "south")],
    "06_meeting.py": [
        "ada on west: bob greets you, eve greets you",
        "bob on west: ada greets you, eve greets you",
        "eve on west: ada greets you, bob greets you",
    ],
    "07_master_and_workers.py": [
        *(f"{first} to {first + 5000}: \\d+ primes, counted on (east|south|west)" for first in range(0, 30_000, 5_000)),
        "3245 in all",
    ],
    "08_table2.py": [
        "A1, A2, A3 must be together", "A4 needs all of A5, A6 where it runs", "A7, A8 must be apart",
        *(f"A{i} goes to a3, 9 ms from the user" for i in (1, 2, 3)),
        *(f"A{i} goes to b3, 5 ms from the user" for i in (4, 5, 6)),
        "A7 goes to c2, 15 ms from the user", "A8 goes to c1, 8 ms from the user",
        r"the best plan brings 23\.61 after \d+ steps", r"the first one that fits brings 23\.56 after \d+ steps",
        "with one rule more: its rules contradict each other: A1, A2, A3 must be together; A1, A2 must be apart",
    ],
    "09_data.py": [
        "0 apples left on south",
        ".*ValueError: there are no apples any more",
        "last sold: apples",
        "as in the morning: {'apples': 2, 'pears': 5}",
    ],
    "10_driver_profiling.py": [r"on north: driver [A-J], \d+% sure, by random weights", "on south: the same"]
    if find_spec("torch") else [r"this example needs PyTorch: .* pip install '\.\[torch\]'"],
}  # fmt: skip
QUICK = ("02_sequence.py", "08_table2.py")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("examples") / "root", light=True) as local:
        yield local


@pytest.mark.parametrize(
    "name", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in LINES]
)
def test_an_example_prints_what_it_promises(hosts: Local, name: str) -> None:
    environment = os.environ | {"AGENTPLATFORM_ROOT": str(hosts.root), "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(
        [sys.executable, str(FOLDER / name)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(LINES[name]), done.stdout
    for line, pattern in zip(lines, LINES[name], strict=True):
        assert re.fullmatch(pattern, line), f"{line!r} is not {pattern!r}"
    assert hosts.host("north").call("agents") == [], "it leaves an agent behind"


def test_every_example_is_tried_and_listed() -> None:
    there = {path.name for path in FOLDER.glob("[0-9]*.py")}
    assert there == LINES.keys()
    listed = (FOLDER / "README.md").read_text()
    assert [name for name in sorted(there) if f"`{name}`" not in listed] == []

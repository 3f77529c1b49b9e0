"""Handoffs at random, further than the search comes; `python -m benchmarks handoff-simulation` runs any number."""

from collections import Counter
from pathlib import Path

import pytest

from tests.helpers import history_checker
from tests.helpers.handoff_explorer import Explorer
from tests.helpers.handoff_mutants import MUTANTS
from tests.helpers.handoff_walks import walk
from tests.helpers.walk_histories import Scribe


@pytest.mark.parametrize("custody", ["local", "held"])
def test_every_schedule_ends_with_one_copy_and_nothing_in_doubt(custody: str) -> None:
    explorer, hops = Explorer(held=custody == "held"), 0
    for seed in range(150):
        done = walk(explorer, seed)
        assert done.violation is None, "\n".join([f"seed {seed}: {done.violation}", *done.trace])
        hops += done.completed_hops
    assert hops > 20 and explorer.complaints == 0


@pytest.mark.parametrize(("name", "custody"), [("L5", "local"), ("H3", "held"), ("H4", "held"), ("fsync-off", "held")])
def test_a_missing_rule_is_met(name: str, custody: str) -> None:
    mutant = MUTANTS[name]
    explorer = Explorer(mutant.machine, mutant.host, held=custody == "held")
    assert any(walk(explorer, seed).violation is not None for seed in range(150))


@pytest.mark.parametrize("custody", ["local", "held"])
def test_the_histories_of_schedules_are_judged_too(custody: str, tmp_path: Path) -> None:
    explorer = Explorer(held=custody == "held")
    for seed in range(20):
        scribe = Scribe(explorer, f"-{seed}")
        assert walk(explorer, seed, scribe).violation is None
        scribe.chronicle.judge(at_rest=True)
        scribe.chronicle.save(tmp_path)
    lines = history_checker.read(tmp_path)  # of all of them
    assert history_checker.check(lines) == []
    seen = Counter(line.event for line in lines)
    assert min(seen[event] for event in ("prepare", "received", "active", "handled", "acked", "fault")) > 5


@pytest.mark.parametrize(("name", "rule"), [("activates-on-its-own", "two copies run"), ("L4", "an old copy runs")])
def test_a_missing_rule_shows_in_a_history(name: str, rule: str) -> None:
    explorer = Explorer(MUTANTS[name].machine, MUTANTS[name].host)
    found: set[str] = set()
    for seed in range(100):
        scribe = Scribe(explorer)
        walk(explorer, seed, scribe)
        found.update(each.rule for each in history_checker.check(scribe.chronicle.lines, at_rest=False))
        if rule in found:
            return
    raise AssertionError(f"the histories show {found} alone")

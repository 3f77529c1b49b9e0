"""Handoffs at random, further than the search comes; `python -m benchmarks handoff-simulation` runs any number."""

import pytest

from tests.helpers.handoff_explorer import Explorer
from tests.helpers.handoff_mutants import MUTANTS
from tests.helpers.handoff_walks import walk


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

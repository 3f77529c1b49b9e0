"""All that two hosts, a ledger, re-homings and crashes can do to a group that moves as one: docs/custody.md."""

import pytest

from tests.helpers.group_explorer import GroupExplorer
from tests.helpers.group_mutants import MUTANTS

QUICK = ("H2", "H3", "H4", "enters-what-fits", "goes-alone", "hears-of-the-latest-first")


@pytest.mark.parametrize(
    ("crashes", "rehomings", "at_least"),
    [
        (0, 1, 10_000),
        pytest.param(2, 1, 80_000, marks=pytest.mark.slow),
        pytest.param(1, 2, 150_000, marks=pytest.mark.slow),
    ],
)
def test_all_of_them_arrive_or_none(crashes: int, rehomings: int, at_least: int) -> None:
    result = GroupExplorer().run(crashes, rehomings)
    print(f"{result.states} states, {result.moved} in which they have moved, {result.kept} in which they have not")
    assert result.violation is None, "\n".join([result.violation.rule, *result.violation.trace])
    assert result.states > at_least and result.moved > 0 and result.kept > 0


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow][name in QUICK :]) for name in MUTANTS])
def test_the_search_catches(name: str) -> None:
    mutant = MUTANTS[name]
    result = mutant.explorer.run(*mutant.scope)
    assert result.violation is not None, f"{result.states} states, and nothing was found"
    print("\n".join([f"{name}: {result.violation.rule}, after {result.states} states:", *result.violation.trace]))
    assert result.violation.rule == mutant.breaks

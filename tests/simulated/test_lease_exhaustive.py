"""Every history of a lease and its end, for production's two sides: docs/custody.md, "Held custody"."""

import pytest

from tests.helpers.lease_explorer import LEASE_MUTANTS, explore


def test_nothing_leaves_the_old_home_when_the_agent_has_a_new_one() -> None:
    result = explore()
    print(f"{result.states} states")
    assert result.violation is None, "\n".join([result.violation, *result.trace])
    assert result.states > 1_000


@pytest.mark.parametrize("name", LEASE_MUTANTS)
def test_a_missing_rule_is_found(name: str) -> None:
    result = explore(*LEASE_MUTANTS[name])
    assert result.violation is not None, f"{result.states} states, and nothing was found"
    print("\n".join([f"{name}: {result.violation}:", *result.trace]))

"""All that a lost source can leave behind: docs/custody.md, "A source that is lost"."""

import pytest

from agentplatform.custody.held import Held
from ledger.contracts import losses
from tests.helpers.loss_model import MUTANTS, Losses, SwearsWhileItHolds, without_fence


@pytest.mark.parametrize(("dispatches", "crashes", "at_least"), [(2, 0, 500), (1, 1, 300), (2, 1, 5_000)])
def test_at_most_one_copy_whatever_is_declared(dispatches: int, crashes: int, at_least: int) -> None:
    result = Losses().run(dispatches, crashes)
    print(f"{result.states} states, in {result.declared} of them a declared copy runs")
    assert result.violation is None, "\n".join([result.violation or "", *result.trace])
    assert result.states > at_least and result.declared > 0


@pytest.mark.slow
@pytest.mark.parametrize(("dispatches", "crashes", "at_least"), [(3, 1, 50_000), (2, 2, 10_000)])
def test_a_bigger_scope(dispatches: int, crashes: int, at_least: int) -> None:
    test_at_most_one_copy_whatever_is_declared(dispatches, crashes, at_least)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_search_catches(name: str) -> None:
    machine, contract, scope = MUTANTS[name]
    result = Losses(machine, contract).run(*scope)
    assert result.violation is not None, f"{result.states} states, and nothing was found"
    print("\n".join([f"{name}: {result.violation}, after {result.states} states:", *result.trace]))


@pytest.mark.parametrize(("contract", "passed"), [(losses.execute, 1), (without_fence, 2)])
def test_of_two_declarations_at_one_epoch_the_fence_lets_one_pass(contract: object, passed: int) -> None:
    """Two inert copies, and hosts that swear although they hold one: only the ledger stands between [L10]."""
    result = Losses(SwearsWhileItHolds, contract, commits=False).run(2, 0)
    assert (result.violation is None) == (passed == 1)
    assert sum("the ledger has" in line for line in result.trace) == (2 if passed == 2 else 0)
    assert Losses(Held, without_fence, commits=False).run(2, 0).violation is None  # as long as oaths are true

"""All that two hosts, a network and crashes can do to one agent on its way: docs/custody.md, "How it is judged"."""

import pytest

from tests.helpers.handoff_explorer import Explorer
from tests.helpers.handoff_mutants import MUTANTS

# What each mutant breaks, and the smallest scope that shows it: (dispatches, crashes).
CAUGHT = {
    "L1": ("the message was acknowledged, and is not handled", 2, 0),
    "L3": ("the agent is lost, or in doubt for ever", 1, 1),
    "L4": ("two copies run", 1, 1),
    "L5": ("the agent is lost, or in doubt for ever", 1, 0),
    "L7": ("the message was handled twice", 1, 0),
    "L9": ("the agent is lost, or in doubt for ever", 1, 0),
    "activates-on-its-own": ("two copies run", 1, 0),
    "resumes-after-commit": ("two copies run", 1, 0),
    "acknowledges-too-early": ("the agent is lost, or in doubt for ever", 1, 1),
    "forgets-the-past": ("the agent is lost, or in doubt for ever", 1, 1),
    "cleans-too-early": ("the agent is lost, or in doubt for ever", 1, 1),
}


def explore_all(transfers: int, crashes: int, at_least: int) -> None:
    result = Explorer().run(transfers, crashes)
    print(f"{result.states} states, {result.completed_hops} steps that complete a hop")
    assert result.violation is None, "\n".join([result.violation.rule, *result.violation.trace])
    assert result.complaints == 0  # honest hosts never send what must not be sent
    assert result.states > at_least and result.completed_hops > 0


def test_two_epochs_a_message_and_a_crash() -> None:
    explore_all(transfers=2, crashes=1, at_least=100_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("transfers", "crashes", "at_least"), [(2, 2, 200_000), (3, 0, 1_000_000)])
def test_a_bigger_scope(transfers: int, crashes: int, at_least: int) -> None:
    explore_all(transfers, crashes, at_least)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_search_catches(name: str) -> None:
    rule, transfers, crashes = CAUGHT[name]
    result = Explorer(*MUTANTS[name]).run(transfers, crashes)
    assert result.violation is not None, f"{result.states} states, and nothing was found"
    print("\n".join([f"{name}: {result.violation.rule}, after {result.states} states:", *result.violation.trace]))
    assert result.violation.rule == rule

"""All that two hosts, a network and crashes can do to one agent on its way: docs/custody.md, "How it is judged"."""

import pytest

from tests.helpers.handoff_explorer import Explorer
from tests.helpers.handoff_mutants import MUTANTS

LOST = "the agent is lost, or in doubt for ever"
TWICE = "two copies run"
UNHANDLED = "the message was acknowledged, and is not handled"

# What each mutant breaks, and the smallest scope that shows it: (custody, dispatches, crashes).
CAUGHT = {
    "L1": [(UNHANDLED, "local", 2, 0)],
    "L2": [(TWICE, "local", 1, 2), ("epoch 0 runs after epoch 1 did", "held", 1, 2)],
    "L3": [(LOST, "local", 1, 1)],
    "L4": [(TWICE, "local", 1, 1)],
    "L5": [(LOST, "local", 1, 0), (LOST, "held", 1, 0)],
    "L7": [("the message was handled twice", "local", 1, 0), ("the message was handled twice", "held", 1, 0)],
    "L9": [(LOST, "local", 1, 0)],
    "H2": [(TWICE, "held", 1, 1)],
    "H3": [(LOST, "held", 1, 0)],
    "H4": [(TWICE, "held", 1, 0)],
    "H6": [(UNHANDLED, "local", 1, 1), (UNHANDLED, "held", 1, 1)],
    "fsync-off": [(TWICE, "local", 1, 1), (TWICE, "held", 1, 1)],
    "activates-on-its-own": [(TWICE, "local", 1, 0), (TWICE, "held", 1, 0)],
    "resumes-after-commit": [(TWICE, "local", 1, 0)],
    "acknowledges-too-early": [(LOST, "local", 1, 1)],
    "forgets-the-past": [(LOST, "local", 1, 1), (LOST, "held", 1, 1)],
    "cleans-too-early": [(LOST, "local", 1, 1), (LOST, "held", 1, 1)],
    "asks-once-only": [(LOST, "held", 1, 1)],
}
CASES = [(name, *case) for name, cases in CAUGHT.items() for case in cases]


def explore_all(custody: str, transfers: int, crashes: int, at_least: int) -> None:
    result = Explorer(held=custody == "held").run(transfers, crashes)
    print(f"{result.states} states, {result.completed_hops} steps that complete a hop")
    assert result.violation is None, "\n".join([result.violation.rule, *result.violation.trace])
    assert result.complaints == 0  # honest hosts never send what must not be sent
    assert result.states > at_least and result.completed_hops > 0


@pytest.mark.parametrize(
    ("custody", "transfers", "crashes", "at_least"),
    [("local", 2, 1, 100_000), ("held", 1, 1, 2_000), ("held", 2, 0, 50_000)],
)
def test_two_epochs_a_message_and_a_crash(custody: str, transfers: int, crashes: int, at_least: int) -> None:
    explore_all(custody, transfers, crashes, at_least)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("custody", "transfers", "crashes", "at_least"),
    [("local", 2, 2, 200_000), ("local", 3, 0, 1_000_000), ("held", 2, 1, 250_000), ("held", 1, 3, 5_000)],
)
def test_a_bigger_scope(custody: str, transfers: int, crashes: int, at_least: int) -> None:
    explore_all(custody, transfers, crashes, at_least)


@pytest.mark.parametrize(("name", "rule", "custody", "transfers", "crashes"), CASES)
def test_the_search_catches(name: str, rule: str, custody: str, transfers: int, crashes: int) -> None:
    _, machine, host = MUTANTS[name]
    result = Explorer(machine, host, held=custody == "held").run(transfers, crashes)
    assert result.violation is not None, f"{result.states} states, and nothing was found"
    print("\n".join([f"{name}: {result.violation.rule}, after {result.states} states:", *result.violation.trace]))
    assert result.violation.rule == rule


def test_every_mutant_is_caught_in_each_kind_of_custody_that_it_is_for() -> None:
    kinds = {name: {custody for _, custody, _, _ in cases} for name, cases in CAUGHT.items()}
    assert kinds == {name: set(mutant.kinds.split()) for name, mutant in MUTANTS.items()}

"""All that two hosts, a network and crashes can do to one agent on its way: docs/custody.md, "How it is judged"."""

import pytest

from tests.helpers.handoff_explorer import Explorer
from tests.helpers.handoff_mutants import MUTANTS

LOST = "the agent is lost, or in doubt for ever"
TWICE = "two copies run"
AS_LOCAL = "epoch 0 runs in local custody, and the ledger has it in held"
UNHANDLED = "the message was acknowledged, and is not handled"

# What each mutant breaks, in which kind of custody.
CAUGHT = {
    "L1": [(UNHANDLED, "local")],
    "L2": [(TWICE, "local"), ("epoch 0 runs after epoch 1 did", "held")],
    "L3": [(LOST, "local")],
    "L4": [(TWICE, "local")],
    "L5": [(LOST, "local"), (LOST, "held")],
    "L7": [("the message was handled twice", "local"), ("the message was handled twice", "held")],
    "L9": [(LOST, "local")],
    "H2": [(TWICE, "held")],
    "H3": [(LOST, "held")],
    "H4": [(TWICE, "held")],
    "H6": [(UNHANDLED, "local"), (UNHANDLED, "held")],
    "fsync-off": [(TWICE, "local"), (TWICE, "held")],
    "activates-on-its-own": [(TWICE, "local"), (TWICE, "held")],
    "resumes-after-commit": [(TWICE, "local")],
    "acknowledges-too-early": [(LOST, "local")],
    "forgets-the-past": [(LOST, "local"), (LOST, "held")],
    "cleans-too-early": [(LOST, "local"), (LOST, "held")],
    "H2-change": [(AS_LOCAL, "local"), (LOST, "held")],
    "H4-change": [(AS_LOCAL, "local"), (LOST, "held")],
    "forgets-the-change": [(AS_LOCAL, "local"), ("epoch 0 runs after epoch 1 did", "held")],
    "does-not-wait-for-the-ledger": [
        ("epoch 1 runs in held custody, and the ledger does not have it there", "local"),
        ("epoch 1 runs in local custody, and the ledger has it in held", "held"),
    ],
    "keeps-its-epoch": [
        ("epoch 0 runs in held custody, and the ledger does not have it there", "local"),
        ("epoch 0 runs in local custody, and the ledger is at a later one", "held"),
    ],
    "accepts-unopened": [(LOST, "local"), (LOST, "held")],
    "asks-once-only": [(LOST, "held")],
}
CASES = [(name, *case) for name, cases in CAUGHT.items() for case in cases]


def explore_all(custody: str, transfers: int, crashes: int, at_least: int, changes: int = 0) -> None:
    result = Explorer(held=custody == "held").run(transfers, crashes, changes)
    print(f"{result.states} states, {result.completed_hops} steps that complete a hop")
    assert result.violation is None, "\n".join([result.violation.rule, *result.violation.trace])
    assert result.complaints == 0  # honest hosts never send what must not be sent
    assert result.states > at_least and (result.completed_hops > 0) is (transfers > 0)


@pytest.mark.parametrize(
    ("custody", "transfers", "crashes", "at_least"),
    [("local", 2, 1, 100_000), ("held", 1, 1, 2_000), ("held", 2, 0, 50_000)],
)
def test_two_epochs_a_message_and_a_crash(custody: str, transfers: int, crashes: int, at_least: int) -> None:
    explore_all(custody, transfers, crashes, at_least)


@pytest.mark.parametrize("custody", ["local", "held"])
@pytest.mark.parametrize(
    ("transfers", "crashes", "changes", "at_least"), [(1, 0, 1, 10_000), (0, 1, 2, 1_500), (0, 2, 2, 3_000)]
)
def test_a_change_of_custody(custody: str, transfers: int, crashes: int, changes: int, at_least: int) -> None:
    explore_all(custody, transfers, crashes, at_least, changes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("custody", "transfers", "crashes", "changes", "at_least"),
    [("local", 1, 1, 1, 30_000), ("held", 1, 1, 1, 50_000), ("local", 1, 0, 2, 30_000)],
)
def test_a_change_of_custody_in_a_bigger_scope(
    custody: str, transfers: int, crashes: int, changes: int, at_least: int
) -> None:
    explore_all(custody, transfers, crashes, at_least, changes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("custody", "transfers", "crashes", "at_least"),
    [("local", 2, 2, 200_000), ("local", 3, 0, 1_000_000), ("held", 2, 1, 250_000), ("held", 1, 3, 5_000)],
)
def test_a_bigger_scope(custody: str, transfers: int, crashes: int, at_least: int) -> None:
    explore_all(custody, transfers, crashes, at_least)


@pytest.mark.parametrize(("name", "rule", "custody"), CASES)
def test_the_search_catches(name: str, rule: str, custody: str) -> None:
    _, machine, host, scope = MUTANTS[name]
    result = Explorer(machine, host, held=custody == "held").run(*scope)
    assert result.violation is not None, f"{result.states} states, and nothing was found"
    print("\n".join([f"{name}: {result.violation.rule}, after {result.states} states:", *result.violation.trace]))
    assert result.violation.rule == rule


def test_every_mutant_is_caught_in_each_kind_of_custody_that_it_is_for() -> None:
    kinds = {name: {custody for _, custody in cases} for name, cases in CAUGHT.items()}
    assert kinds == {name: set(mutant.kinds.split()) for name, mutant in MUTANTS.items()}

"""Four real daemons under faults: nothing is lost and nothing comes twice; and with a rule left out something is."""

import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import chaos
from tests.helpers.chaos_faults import EVERY_FAULT
from tests.helpers.custody_mutants import MUTANTS

WRONG = ("lost", "duplicated", "messages_lost", "messages_doubled")


def wrong(result: dict[str, Any]) -> dict[str, int]:
    return {name: result[name] for name in WRONG if result[name]}


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_minute_of_every_fault(tmp_path: Path) -> None:
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    result = await chaos.play(60.0, seed, tmp_path / "history")
    assert not wrong(result), "\n".join([*result["problems"], *result["errors"]])
    assert result["faults"] >= 5 and result["moves"] >= 100 and result["messages"] >= 500 and result["effects"]
    assert set(result["kinds"]) <= set(EVERY_FAULT)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if mutant.seconds])
async def test_a_rule_that_is_left_out_is_missed(tmp_path: Path, name: str) -> None:
    """Within its budget, or thrice of it: what happens in four processes is not the same twice."""
    for seed in (1, 2, 3):
        if wrong(await chaos.play(MUTANTS[name].seconds, seed, tmp_path / f"history-{seed}", name)):
            return
    raise AssertionError(f"nothing went wrong without {name}")

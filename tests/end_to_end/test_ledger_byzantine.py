"""A replica process that equivocates, among honest ones: no fork, and evidence against it alone."""

from pathlib import Path
from random import Random

import pytest

from tests.helpers.ledger_chaos import Chaos
from tests.helpers.ledger_faults import Fault, blackout, crash, deaf, freeze, isolate, suffer, too_many, unheard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
FIRST = "north-1"  # leads view 0


async def convicted(members: Chaos) -> set[str]:
    """Whom anybody has evidence against."""
    return {host for each in members.honest for host in (await members.processes[each].ask("evidence"))["hosts"]}


@pytest.mark.parametrize("role", ["equivocator", "brazen"])
async def test_four_with_one_that_equivocates(tmp_path: Path, role: str) -> None:
    """All that may fail has failed: so others are down only when nothing needs to go on."""
    async with Chaos(tmp_path, 4, {FIRST: role}) as four:
        await four.load()
        await four.progress(100)
        for fault in (too_many, blackout, too_many):
            await fault(four, Random(role))  # noqa: S311
            await four.progress(20)
        await four.calm()
        found = await convicted(four)
        assert found == {FIRST} if role == "brazen" else found <= {FIRST}
        await four.judge()


@pytest.mark.parametrize("seed", [1, 2])
async def test_seven_with_one_that_equivocates_and_one_that_fails(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    random = Random(f"byzantine {seed}")  # noqa: S311  repeatable
    faults: list[Fault] = [crash, freeze, isolate, unheard, deaf, too_many]
    async with Chaos(tmp_path, 7, {FIRST: "brazen"}) as seven:
        await suffer(seven, random, random.sample(faults, len(faults)))

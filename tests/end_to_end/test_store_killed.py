"""The DMS's store under SIGKILL in the middle of writing, and under a loss of power behind that."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from services.dms.sqlite import SqliteStore
from tests.helpers.store_killed import judge, kill_once


def run(kind: str, folder: Path, seed: int, kills: int) -> str | None:
    """The first broken promise."""
    print(f"seed {seed}")
    random = Random(seed)  # noqa: S311  printed, to be tried again

    async def look(told: int) -> str | None:
        store = await SqliteStore.open(folder / "dms.db")
        try:
            return await judge(store, told)
        finally:
            await store.close()

    for _ in range(kills):
        if (broken := asyncio.run(look(kill_once(kind, folder, random)))) is not None:
            return broken
    return None


def test_batches_that_were_told_of_are_there_whole_after_a_kill(tmp_path: Path) -> None:
    assert run("sqlite", tmp_path, seed=1, kills=2) is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "losing"])
@pytest.mark.parametrize("seed", range(2, 4))
def test_and_after_many_kills_and_losses_of_power(kind: str, seed: int, tmp_path: Path) -> None:
    assert run(kind, tmp_path, seed, kills=12) is None


@pytest.mark.parametrize(
    ("kind", "words"), [("one-by-one", "whole batches"), ("early", "told of"), ("never-synced", "told of")]
)
def test_a_store_that_breaks_its_promise_is_found_out(kind: str, words: str, tmp_path: Path) -> None:
    broken = run(kind, tmp_path, seed=4, kills=12)
    assert broken is not None and words in broken

"""A host is started from a backup, made at any point before: docs/custody.md, "After a bad restore"."""

import pytest

from tests.helpers.restored_model import MUTANTS, Broken, World, walk

SEEDS = range(100)


def completed(worlds: list[World]) -> tuple[int, int]:
    return sum(world.completed for world in worlds), sum(len(floors) for w in worlds for floors in w.used.values())


@pytest.mark.parametrize("hosts", [2, 3])
def test_at_most_one_copy_runs_and_one_that_was_in_the_backup_goes_on_somewhere(hosts: int) -> None:
    asked, confirmed = completed([walk(seed, hosts=hosts) for seed in SEEDS])
    assert asked > len(SEEDS) // 2 and confirmed > len(SEEDS) // 8


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("hosts", [2, 3])
def test_many_lives(hosts: int) -> None:
    for seed in range(1000, 8000):
        walk(seed, steps=240, hosts=hosts)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_walks_catch(name: str) -> None:
    mutant = MUTANTS[name]
    for seed in mutant.seeds:
        walk(seed)
        try:
            walk(seed, mutant)
        except Broken as broken:
            print(f"{name}: {broken}")
            return
        except Exception as error:  # a machine without a rule may trip over itself
            print(f"{name}, seed {seed}: {error!r}")
    pytest.fail("nothing was found")

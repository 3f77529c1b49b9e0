"""Seeded lives of a cluster with faults and Byzantine members, around the engine of production or a mutant of it."""

import argparse
import json
import time

from ledger.consensus.ipbft import Ipbft
from ledger.consensus.pbft import Pbft
from ledger.simulation import Mutant, Result, run
from tests.helpers.ipbft_mutants import MUTANTS, mutant
from tests.helpers.ipbft_stories import STORIES

SIMULATED = {"ipbft": Ipbft, "pbft": Pbft}


def main(arguments: list[str]) -> int:
    """0 when what was expected came out: no fault, or with a mutant one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ledger-simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="lives for each number of members (default 200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--members", default="4,5,7", help="numbers of members (default 4,5,7)")
    parser.add_argument("--engine", choices=SIMULATED, default="ipbft", help="(default ipbft)")
    parser.add_argument("--mutant", choices=MUTANTS, help="leave one clause of ipbft out; its story is played too")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.members.split(",")]
    began = time.monotonic()
    results: list[Result] = []
    told: list[str] = []  # what was wrong in the story of the mutant
    story_forks = 0
    if options.mutant:
        with mutant(options.mutant) as broken:
            results = _lives(options.first, options.seeds, sizes, broken)
            if options.mutant in STORIES:
                checker = STORIES[options.mutant](broken).checker
                told, story_forks = checker.faults, checker.forks
    else:
        results = _lives(options.first, options.seeds, sizes, Mutant(engine=SIMULATED[options.engine]))
    wrong = [result for result in results if result.faults]
    if not options.json:
        for result in wrong[:20]:
            print(f"seed {result.seed}, {result.members} members: {'; '.join(result.faults[:3])}")
        if told:
            print(f"story of {options.mutant}: {'; '.join(told[:3])}")
        print(f"{len(results)} lives in {time.monotonic() - began:.1f} s, {len(wrong)} with a fault")
    summary = {
        "seeds": options.seeds,
        "decisions": sum(result.decisions for result in results),
        "view_changes": sum(result.view_changes for result in results),
        "forks": sum(result.forks for result in results) + story_forks,
        "stalls": sum(result.stalled for result in results),
        "faults": sum(len(result.faults) for result in results) + len(told),
    }
    print(json.dumps(summary))
    return 0 if bool(summary["faults"]) == (options.mutant is not None) else 1


def _lives(first: int, seeds: int, sizes: list[int], rule: Mutant) -> list[Result]:
    return [run(seed, members, rule) for members in sizes for seed in range(first, first + seeds)]

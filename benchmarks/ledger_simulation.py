"""Seeded lives of a cluster with faults and Byzantine members, around the engine of production or a mutant of it."""

import argparse
import json
import time
from collections.abc import Iterator

from ledger.consensus.ipbft import Ipbft
from ledger.consensus.pbft import Pbft
from ledger.simulation import Mutant, Result, run
from ledger.simulation.byzantine import ADVERSARIES, DOUBLED
from ledger.simulation.faults import WEATHERS
from tests.helpers.ipbft_killed import KILLED
from tests.helpers.ipbft_mutants import mutant
from tests.helpers.ipbft_script import Script

SIMULATED = {"ipbft": Ipbft, "pbft": Pbft}
MOST_MEMBERS = 64


def main(arguments: list[str]) -> int:
    """0 when what was expected came out: no fault, or with a mutant one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ledger-simulation", description=__doc__)
    parser.add_argument("--seeds", type=_count, default=200, help="lives for each number of members (default 200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--members", type=_sizes, help="numbers of members (default 4,5,7; a mutant has its own)")
    parser.add_argument("--engine", choices=SIMULATED, default="ipbft", help="(default ipbft)")
    parser.add_argument("--adversary", choices=[*ADVERSARIES, DOUBLED, "none"], help="(default: any of them)")
    parser.add_argument("--weather", choices=WEATHERS, help="(default any)")
    parser.add_argument("--mutant", choices=KILLED, help="leave one clause of ipbft out; its story is played too")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    if options.mutant and options.engine != "ipbft":
        parser.error("the mutants are of ipbft; leave --engine out")
    began = time.monotonic()
    story: Script | None = None
    if options.mutant:
        with mutant(options.mutant) as broken:
            story = KILLED[options.mutant].story(broken)
            results = list(_lives(options, broken))
    else:
        results = list(_lives(options, Mutant(engine=SIMULATED[options.engine])))
    wrong = [result for result in results if result.faults]
    if not options.json:
        if story:
            print("\n".join([f"story of {options.mutant}:", *story.transcript, *story.checker.faults]))
        for result in wrong[:20]:
            print(f"seed {result.seed}, {result.members} members: {'; '.join(result.faults[:3])}")
        print(f"{len(results)} lives in {time.monotonic() - began:.1f} s, {len(wrong)} with a fault")
    summary = {
        "seeds": options.seeds,
        "decisions": sum(result.decisions for result in results),
        "view_changes": sum(result.view_changes for result in results),
        "forks": sum(result.forks for result in results) + (story.checker.forks if story else 0),
        "stalls": sum(result.stalled for result in results),
        "faults": sum(len(result.faults) for result in results) + (len(story.checker.faults) if story else 0),
    }
    print(json.dumps(summary))
    return 0 if bool(summary["faults"]) == (options.mutant is not None) else 1


def _lives(options: argparse.Namespace, rule: Mutant) -> Iterator[Result]:
    """A mutant is searched for where it shows, unless the options say otherwise."""
    sizes, adversary, weather = (4, 5, 7), "any", "any"
    if options.mutant:
        search = KILLED[options.mutant].search
        sizes, adversary, weather = (search.members,), search.adversary or "none", search.weather
    adversary = options.adversary or adversary
    for members in options.members or sizes:
        for seed in range(options.first, options.first + options.seeds):
            yield run(seed, members, rule, None if adversary == "none" else adversary, options.weather or weather)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lives; give 1 or more")
    return int(text)


def _sizes(text: str) -> list[int]:
    sizes = text.split(",")
    if not all(size.isdecimal() and 4 <= int(size) <= MOST_MEMBERS for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers from 4 to {MOST_MEMBERS}, as in 4,5,7,10")
    return [int(size) for size in sizes]

"""Handoffs at random, by the production machine, with messages late, lost and doubled, and crashes that lose what was
not durable; every other schedule in held custody. Or of a mutant, which must be caught."""

import argparse
import json
import time
from pathlib import Path

from tests.helpers import history_checker
from tests.helpers.handoff_explorer import Explorer
from tests.helpers.handoff_mutants import MUTANTS
from tests.helpers.handoff_walks import walk
from tests.helpers.walk_histories import Scribe

FRESH = 500  # schedules, after which what was remembered of earlier ones is dropped


def main(arguments: list[str]) -> int:
    """0 when what was expected came out: no violation, or with a mutant at least one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks handoff-simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="schedules, from seed 0 on (default 1000)")
    parser.add_argument("--mutant", choices=MUTANTS, help="leave one rule out")
    parser.add_argument("--history", type=Path, help="a new folder for histories, which are judged too")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    began, hops, violations = time.monotonic(), 0, 0
    kinds = MUTANTS[options.mutant].kinds.split() if options.mutant else ["local", "held"]
    explorers: dict[str, Explorer] = {}
    for seed in range(options.seeds):
        if seed % FRESH == 0:
            explorers = {kind: _explorer(options.mutant, kind) for kind in kinds}
        explorer = explorers[kinds[seed % len(kinds)]]
        scribe = None if options.history is None else Scribe(explorer, f"-{seed}")
        done = walk(explorer, seed, scribe)
        if scribe is not None:
            scribe.chronicle.save(options.history)
            wrong = history_checker.check(scribe.chronicle.lines, at_rest=done.violation is None)
            done = done._replace(violation=done.violation or (str(wrong[0]) if wrong else None))
        hops += done.completed_hops
        violations += done.violation is not None
        if done.violation is not None and violations == 1 and not options.json:
            print("\n".join([f"seed {seed}: {done.violation}", *done.trace]))
    if not options.json:
        print(f"{options.seeds} schedules in {time.monotonic() - began:.1f} s")
    print(json.dumps({"schedules": options.seeds, "completed_hops": hops, "violations": violations}))
    return 0 if (violations > 0) == (options.mutant is not None) else 1


def _explorer(mutant: str | None, kind: str) -> Explorer:
    if mutant is None:
        return Explorer(held=kind == "held")
    return Explorer(MUTANTS[mutant].machine, MUTANTS[mutant].host, kind == "held")

"""Every state of a handoff in a small scope, with the production machine; or of a mutant, which must be caught."""

import argparse
import json
import time

from tests.helpers.handoff_explorer import Explorer
from tests.helpers.handoff_mutants import MUTANTS


def main(arguments: list[str]) -> int:
    """0 when what was expected came out: no violation, or with a mutant one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks handoff-exhaustive", description=__doc__)
    parser.add_argument("--mutant", choices=MUTANTS, help="leave one rule out")
    parser.add_argument("--dispatches", type=int, default=2, help="at most so many; 3 take minutes (default 2)")
    parser.add_argument("--crashes", type=int, default=1, help="at most so many, of either host (default 1)")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    explorer = Explorer(*MUTANTS[options.mutant]) if options.mutant else Explorer()
    result = explorer.run(options.dispatches, options.crashes)
    if not options.json:
        print(f"{result.states} states in {time.monotonic() - began:.1f} s")
        if result.violation is not None:
            print("\n".join([f"{result.violation.rule}; the shortest way there:", *result.violation.trace]))
    violations = int(result.violation is not None)
    print(json.dumps({"states": result.states, "completed_hops": result.completed_hops, "violations": violations}))
    return 0 if violations == (options.mutant is not None) else 1

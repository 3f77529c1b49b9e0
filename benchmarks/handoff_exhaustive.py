"""Every state of a handoff in a small scope, with the production machine; or of a mutant, which must be caught."""

import argparse
import json
import time

from tests.helpers.handoff_explorer import Explorer, Result
from tests.helpers.handoff_mutants import MUTANTS, Mutant

SCOPES = ((1, 0), (2, 0), (1, 1), (1, 2))  # dispatches and crashes, in which a mutant is looked for


def main(arguments: list[str]) -> int:
    """0 when what was expected came out: no violation, or with a mutant one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks handoff-exhaustive", description=__doc__)
    parser.add_argument(
        "--held", action="store_true", help="held custody alone (default: local alone, or the mutant's)"
    )
    parser.add_argument("--mutant", choices=MUTANTS, help="leave one rule out")
    parser.add_argument("--dispatches", type=int, default=2, help="at most so many; 3 take minutes (default 2)")
    parser.add_argument("--crashes", type=int, default=1, help="at most so many, of either host (default 1)")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    if options.mutant is None:
        result = Explorer(held=options.held).run(options.dispatches, options.crashes)
    else:
        mutant = MUTANTS[options.mutant]
        result = _catch(mutant, options.held or "local" not in mutant.kinds)
    if not options.json:
        print(f"{result.states} states in {time.monotonic() - began:.1f} s")
        if result.violation is not None:
            print("\n".join([f"{result.violation.rule}; the shortest way there:", *result.violation.trace]))
    violations = int(result.violation is not None)
    print(json.dumps({"states": result.states, "completed_hops": result.completed_hops, "violations": violations}))
    return 0 if violations == (options.mutant is not None) else 1


def _catch(mutant: Mutant, held: bool) -> Result:
    """In the smallest scope that shows it."""
    for transfers, crashes in SCOPES:
        result = Explorer(mutant.machine, mutant.host, held).run(transfers, crashes)
        if result.violation is not None:
            break
    return result

"""Every state of a handoff in a small scope, with the production machine, and with --held of a lease too. Or of a
mutant, which must be caught."""

import argparse
import json
import time

from tests.helpers import lease_explorer
from tests.helpers.handoff_explorer import Explorer
from tests.helpers.handoff_mutants import MUTANTS
from tests.helpers.lease_explorer import LEASE_MUTANTS

Found = tuple[int, int, str | None, list[str]]  # states, completed hops, violation, the shortest way there


def main(arguments: list[str]) -> int:
    """0 when what was expected came out: no violation, or with a mutant one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks handoff-exhaustive", description=__doc__)
    parser.add_argument("--held", action="store_true", help="held custody (default: local, or the mutant's)")
    parser.add_argument("--mutant", choices=[*MUTANTS, *LEASE_MUTANTS], help="leave one rule out")
    parser.add_argument("--dispatches", type=int, default=2, help="at most so many; 3 take minutes (default 2)")
    parser.add_argument("--crashes", type=int, default=1, help="at most so many, of either host (default 1)")
    parser.add_argument("--changes", type=int, default=0, help="of its custody, at most so many (default 0)")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    if options.mutant in LEASE_MUTANTS:
        states, hops, violation, trace = _lease(options.mutant)
    elif options.mutant is not None:
        mutant = MUTANTS[options.mutant]
        held = options.held or "local" not in mutant.kinds
        states, hops, violation, trace = _search(Explorer(mutant.machine, mutant.host, held), *mutant.scope)
    else:
        states, hops, violation, trace = _search(
            Explorer(held=options.held), options.dispatches, options.crashes, options.changes
        )
        if options.held and violation is None:
            more, _, violation, trace = _lease(None)
            states += more
    if not options.json:
        print(f"{states} states in {time.monotonic() - began:.1f} s")
        if violation is not None:
            print("\n".join([f"{violation}; the shortest way there:", *trace]))
    violations = int(violation is not None)
    print(json.dumps({"states": states, "completed_hops": hops, "violations": violations}))
    return 0 if violations == (options.mutant is not None) else 1


def _search(explorer: Explorer, dispatches: int, crashes: int, changes: int = 0) -> Found:
    result = explorer.run(dispatches, crashes, changes)
    rule, trace = (None, []) if result.violation is None else result.violation
    return result.states, result.completed_hops, rule, trace


def _lease(mutant: str | None) -> Found:
    result = lease_explorer.explore(*LEASE_MUTANTS[mutant]) if mutant else lease_explorer.explore()
    return result.states, 0, result.violation, result.trace

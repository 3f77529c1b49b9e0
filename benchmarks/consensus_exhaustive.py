"""Every state that four members, one of them Byzantine, can come to at one height in two views; or a mutant, caught."""

import argparse
import json
import time
from contextlib import nullcontext

from ledger.simulation import Mutant
from tests.helpers.consensus_explorer import Explorer, Result
from tests.helpers.ipbft_mutants import MUTANTS, mutant

WHERE = {"a": "the primary of view 0", "b": "the primary of view 1", "d": "never primary"}


def main(arguments: list[str]) -> int:
    """0 when what was expected came out: no violation, or with a mutant one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks consensus-exhaustive", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="at most, in all (default 60)")
    parser.add_argument("--byzantine", default="a,d,b", help="a leads view 0, b view 1, d none (default a,d,b)")
    parser.add_argument("--mutant", choices=MUTANTS, help="leave one clause out")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    results: list[Result] = []
    with mutant(options.mutant) if options.mutant else nullcontext(Mutant()) as rule:
        for host in options.byzantine.split(","):
            began = time.monotonic()
            results.append(Explorer(host, rule).run(end - began))
            if not options.json:
                _show(host, results[-1], time.monotonic() - began)
            if results[-1].violation is not None:
                break
    violations = sum(result.violation is not None for result in results)
    summary = {
        "states": sum(result.states for result in results),
        "depth": max(result.depth for result in results),
        "complete": all(result.complete for result in results),
        "violations": violations,
    }
    print(json.dumps(summary))
    return 0 if bool(violations) == (options.mutant is not None) else 1


def _show(host: str, result: Result, seconds: float) -> None:
    found = f"{result.states} states of {result.locals} of single replicas, up to {result.depth} steps deep"
    whole = "all there are" if result.complete else "more are left"
    print(f"{host}, {WHERE[host]}, is Byzantine: {found}, {whole}; {seconds:.0f} s")
    if result.violation is not None:
        print("\n".join([f"{result.violation.rule}; the shortest way there:", *result.violation.trace]))

"""Was it a good decision? What each policy costs over a trace, of what the best plan costs who knows the whole trace.

A policy of one's own is ranked with one file and one command: a class as services/eds/policies has them in FILE.py, and
`python -m benchmarks decide --only regret --policy FILE.py:Class`. See docs/decisions.md.
"""

import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.regret import cost, generate, hindsight, simulate
from benchmarks.regret.trace import Trace, read
from services.eds.offers import Policy
from services.eds.policies import POLICIES

TRAINING = range(10)  # seeds by which the defaults of Falcon were chosen
HELD_OUT = range(1000, 1020)  # seeds that nothing was chosen by
RECORDED = Path(__file__).parent / "traces"


def measure(policy: str | None = None) -> dict[str, Any]:
    """`policy`: FILE.py:Class, ranked beside those that are built in."""
    policies: dict[str, Policy] = {name: kind() for name, kind in POLICIES.items()}
    if policy is not None:
        policies[policy] = load(policy)
    print(cost.weights())
    print("regret = cost / cost of the best plan in hindsight; its mean and its largest, moves and downtime a trace\n")
    by_kind = {kind: [make(seed) for seed in HELD_OUT] for kind, make in generate.KINDS.items()}
    for path in sorted(RECORDED.glob("*.jsonl")):
        by_kind[path.stem] = [read(path)]
    regrets: dict[str, list[float]] = {name: [] for name in policies}
    for kind, traces in by_kind.items():
        best = [hindsight.best(trace) for trace in traces]
        seconds = sum(paid for paid, _ in best) / len(best)
        moves = statistics.fmean(n for _, n in best)
        print(f"{kind}: {len(traces)} traces; the best plan: {seconds:.0f} s, {moves:.1f} moves")
        for name, each in policies.items():
            regrets[name].append(_row(name, each, traces, [paid for paid, _ in best]))
    print("\nall kinds, ranked by the mean of their means")
    for name, found in sorted(regrets.items(), key=lambda item: statistics.fmean(item[1])):
        print(f"  {name:14} {statistics.fmean(found):7.3f}   worst kind {max(found):.3f}")
    means = {name: round(statistics.fmean(found), 3) for name, found in regrets.items()}
    return {"regret": means["falcon"], "regret_by_policy": means}


def load(policy: str) -> Policy:
    """From FILE.py:Class, which needs no arguments."""
    file, _, name = policy.rpartition(":")
    spec = importlib.util.spec_from_file_location("ranked_policy", file)
    if not file or spec is None or spec.loader is None or not Path(file).is_file():
        sys.exit(f"{policy!r} names no policy: say FILE.py:Class")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ranked_policy"] = module  # msgspec looks up a class's annotations there
    spec.loader.exec_module(module)
    if not hasattr(getattr(module, name, None), "offers"):
        sys.exit(f"{file} has no class {name!r} with a method `offers`")
    made: Policy = getattr(module, name)()
    return made


def _row(name: str, policy: Policy, traces: list[Trace], best: list[float]) -> float:
    runs = [simulate.run(trace, policy) for trace in traces]
    ratios = [run.cost / paid for run, paid in zip(runs, best, strict=True)]
    mean = statistics.fmean(ratios)
    moves, failed = statistics.fmean(run.moves for run in runs), statistics.fmean(run.failed for run in runs)
    downtime = statistics.fmean(run.downtime_ms for run in runs) / 1000
    print(f"  {name:14} {mean:7.3f} {max(ratios):7.3f}   {moves:5.1f} moves, {failed:4.1f} failed, {downtime:5.1f} s")
    return mean

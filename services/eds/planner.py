"""From offers to a plan under rules and capacities (Falcon, Algorithm 1, corrected). Pure.

Algorithm 1 draws a plan, checks it, and goes back to draw another, without counting how often; the first one that fits
is taken (greedy.py does that, for comparison). Here the plan is the one of the greatest benefit, within a limit of work
that is a number of steps and not a time: equal input, equal plan.
"""

from collections.abc import Callable

import msgspec

from services.eds import greedy
from services.eds.descent import Chosen, Descent
from services.eds.joined import joined
from services.eds.offers import Offers
from services.eds.part import Part
from services.eds.plan import Search, plan_of
from services.eds.problem import Problem
from services.eds.snapshot import Snapshot

WORK_LIMIT = 120_000  # steps: places tried, prices changed; some tenths of a second
ALONE = 2_000  # steps in which a group is looked at by itself


def search(snapshot: Snapshot, offers: Offers, work_limit: int = WORK_LIMIT) -> Search:
    """The plan with the greatest total benefit among those with the fewest groups stuck. Raises Misuse for an agent
    that is in two groups."""
    problem = Problem(snapshot, offers)
    hopeless = _hopeless(problem)
    if hopeless:
        left = tuple(group for group in snapshot.groups if group.name not in hopeless)
        problem = Problem(msgspec.structs.replace(snapshot, groups=left), offers)
    chosen: Chosen = {}
    steps, complete, bound = 0, True, 0.0
    parts = _parts(problem)
    for number, groups in enumerate(parts):
        part = Part(problem, groups, (work_limit - steps) // (len(parts) - number))
        part.search()
        chosen |= part.plan
        steps += part.steps
        complete = complete and part.complete
        bound += part.bound
    stuck = hopeless | _stuck(problem, chosen)
    plan = plan_of(snapshot, [place for unit, at in chosen.items() for place in problem.candidates(unit, at)])
    obstacles = tuple(problem.obstacles)
    return Search(plan, steps, complete, plan.benefit if complete else bound, obstacles, stuck)


PLANNERS: dict[str, Callable[[Snapshot, Offers], Search]] = {
    "exact": search,
    "greedy": greedy.search,
}


def _hopeless(problem: Problem) -> dict[str, tuple[str, ...]]:
    """Groups for which there is no plan even when all others stay, and what stands in the way."""
    found = {problem.groups[number].name: reasons for number, reasons in problem.stuck.items()}
    for number, units in problem.of_group.items():
        descent = Descent(problem)
        if not descent.first(number, problem.ranked(units), ALONE) and descent.certain:
            found[problem.groups[number].name] = tuple(descent.obstacles)
    return found


def _stuck(problem: Problem, chosen: Chosen) -> dict[str, tuple[str, ...]]:
    """Groups for which there is no place beside the others, and what stands in the way."""
    found = {}
    for number, units in problem.of_group.items():
        if units[0] not in chosen:
            descent = Descent(problem)
            descent.put(chosen)
            descent.first(number, problem.ranked(units), ALONE)
            found[problem.groups[number].name] = tuple(descent.obstacles)
    return found


def _parts(problem: Problem) -> list[list[int]]:
    """The groups by what they share, the smallest part first."""
    shared = problem.rows[problem.shared :]
    leaders = joined(problem.of_group, ([problem.units[unit].group for unit, _, _ in row.users] for row in shared))
    parts: dict[int, list[int]] = {}
    for group in problem.of_group:
        parts.setdefault(leaders[group], []).append(group)
    return sorted(parts.values(), key=len)

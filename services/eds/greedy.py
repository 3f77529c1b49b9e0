"""Falcon's own search for a plan (Algorithm 1, corrected), for comparison: the first plan that fits. Pure.

One group after the other, and in it one agent after the other, each at its best place. Where a rule or a capacity is
broken the plan is reset to the agent before, which takes its next place; sumStep and SumStep are one counter, of places
tried, and StepT is its limit. The rules and capacities are those of the exact planner, so only the search differs.
"""

from collections.abc import Sequence

from services.eds.offers import Candidate, Offers
from services.eds.plan import Search, plan_of
from services.eds.problem import MAX_OBSTACLES, Problem
from services.eds.rules import Group
from services.eds.snapshot import Snapshot
from services.rms.resources import Minima

STEP_T = 10_000  # places tried for one group


def search(snapshot: Snapshot, offers: Offers, step_t: int = STEP_T) -> Search:
    """The first plan found for each group, beside those of the groups before it. It is never known to be the best."""
    problem = Problem(snapshot, offers)
    draw = _Draw(snapshot, problem, step_t)
    chosen: list[Candidate] = []
    stuck: dict[str, tuple[str, ...]] = {}
    bound = 0.0
    for number, group in enumerate(snapshot.groups):
        if number in problem.stuck:
            stuck[group.name] = problem.stuck[number]
            continue
        found = draw.group(group)
        if found is None:
            stuck[group.name] = tuple(draw.obstacles)
        else:
            chosen += found
        # The best of each, whatever the rules say; or nothing, from a group that is stuck.
        places = [problem.places[agent].values() for agent in group.agents]
        bound += max(0.0, sum(max(place.score for place in each) for each in places))
    return Search(plan_of(snapshot, chosen), draw.steps, False, bound, tuple(problem.obstacles), stuck)


class _Draw:
    def __init__(self, snapshot: Snapshot, problem: Problem, step_t: int) -> None:
        self.steps = 0
        self.obstacles: dict[str, None] = {}
        self._resources = {host.host: host.resources for host in snapshot.hosts}
        self._problem = problem
        self._step_t = step_t
        self._arriving: dict[str, Minima] = {}  # host -> what those need who move there, of all groups so far

    def group(self, group: Group) -> list[Candidate] | None:
        self._last = self.steps + self._step_t
        self._hosts: dict[str, str] = {}
        self._chosen: list[Candidate] = []
        self.obstacles = {}
        return self._chosen if self._draw(group, group.agents) else None

    def _draw(self, group: Group, agents: Sequence[str]) -> bool:
        """Places these agents of the group, the first one at its best place that fits with those that are placed."""
        if not agents:
            return True
        agent = agents[0]
        home = self._problem.residents[agent].host
        places = self._problem.places[agent].values()
        for place in sorted(places, key=lambda place: (-place.score, place.host != home, place.host)):
            if self.steps == self._last:
                self.obstacles["StepT is reached"] = None
                return False
            self.steps += 1
            self._hosts[agent] = place.host
            before = self._arriving.get(place.host, Minima())
            if self._allowed(group, agent, place.host):
                self._chosen.append(place)
                if self._draw(group, agents[1:]):
                    return True
                self._chosen.pop()
                self._arriving[place.host] = before
            del self._hosts[agent]
        return False

    def _allowed(self, group: Group, agent: str, host: str) -> bool:
        broken = next((why for rule in group.rules if (why := rule.violation(self._hosts)) is not None), None)
        resident, resources = self._problem.residents[agent], self._resources[host]
        if broken is None and resources is not None and host != resident.host:
            arriving = self._arriving.get(host, Minima()) + resident.needs.least
            if short := resources.shortages(arriving):
                broken = f"{host} cannot take {agent} with those that would arrive before it: {'; '.join(short)}"
            else:
                self._arriving[host] = arriving
        if broken is not None and len(self.obstacles) < MAX_OBSTACLES:
            self.obstacles[broken] = None
        return broken is None

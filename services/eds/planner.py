"""From offers to a plan under rules and capacities (Falcon, Algorithm 1, corrected). Pure.

Algorithm 1 draws a plan, checks it, and goes back to draw another, without counting how often. Here the search is
exact: depth first over the agents, the best place first, cut where a rule is already broken, where a host is
full, or where even the best that can follow is no better than the best plan found. It counts its steps (sumStep and
SumStep are one counter) and stops at a limit, which is a number of steps and not a time: equal input, equal plan.
"""

from services.eds.offers import Candidate, Offers
from services.eds.plan import Move, Plan, Search
from services.eds.rules import Rule
from services.eds.snapshot import Snapshot
from services.rms.resources import Minima

WORK_LIMIT = 50_000  # places tried; about a tenth of a second
MAX_OBSTACLES = 8  # kept for the explanation when no plan is found


def search(snapshot: Snapshot, offers: Offers, work_limit: int = WORK_LIMIT) -> Search:
    """The plan with the greatest total benefit."""
    return _Search(snapshot, offers, work_limit).run()


class _Search:
    def __init__(self, snapshot: Snapshot, offers: Offers, work_limit: int) -> None:
        self._snapshot = snapshot
        self._residents = {resident.agent: resident for resident in snapshot.residents}
        self._views = {host.host: host for host in snapshot.hosts}
        self._members = [agent for group in snapshot.groups for agent in group.agents]
        self._agents = [agent for agent in self._members if agent in self._residents]
        rules = [rule for group in snapshot.groups for rule in group.rules]
        self._obstacles: dict[str, None] = {}  # in the order in which they were met
        self._places = {agent: self._sorted(agent, offers) for agent in self._agents}
        self._rules: dict[str, list[Rule]] = {
            agent: [rule for rule in rules if agent in rule.names] for agent in self._agents
        }
        # The most that the agents from each depth on can still bring.
        self._hope = [0.0] * (len(self._agents) + 1)
        for depth in range(len(self._agents) - 1, -1, -1):
            places = self._places[self._agents[depth]]
            self._hope[depth] = self._hope[depth + 1] + (places[0].score if places else 0.0)
        self._left = work_limit
        self._limit = work_limit
        self._hosts: dict[str, str] = {}
        self._arriving: dict[str, Minima] = {}  # host -> sum of what the agents that move there need
        self._chosen: list[Candidate] = []
        self._best: tuple[Candidate, ...] | None = None
        self._best_benefit = 0.0

    def run(self) -> Search:
        missing = [agent for agent in self._members if agent not in self._residents]
        stranded = [agent for agent in self._agents if not self._places[agent]]
        if missing or stranded:
            for agent in missing:
                self._note(f"nobody knows where {agent} is")
            for agent in stranded:
                self._note(f"there is no place for {agent}")
            return self._found(True, 0.0)
        complete = self._descend(0, 0.0)
        return self._found(complete, self._best_benefit if complete else self._hope[0])

    def _found(self, complete: bool, bound: float) -> Search:
        obstacles = tuple(self._obstacles)
        stuck = {} if self._best is not None else {group.name: obstacles for group in self._snapshot.groups}
        return Search(self._plan(), self._limit - self._left, complete, bound, obstacles, stuck)

    def _sorted(self, agent: str, offers: Offers) -> list[Candidate]:
        resident = self._residents[agent]
        open_places = []
        for place in offers.candidates.get(agent, ()):
            # Asked again, so that no policy can forget it.
            host = self._views.get(place.host)
            unfit = "it is not in the snapshot" if host is None else self._snapshot.unfit(resident, host)
            if unfit is None:
                open_places.append(place)
            else:
                self._note(f"the policy offered {place.host} to {agent}: {unfit}")
        # Of equal places the present one comes first: a move must bring something.
        return sorted(open_places, key=lambda place: (-place.score, place.host != resident.host, place.host))

    def _note(self, obstacle: str) -> None:
        if len(self._obstacles) < MAX_OBSTACLES:
            self._obstacles[obstacle] = None

    def _descend(self, depth: int, benefit: float) -> bool:
        """Tries all places of the agent at `depth`. False when the limit stopped it."""
        if depth == len(self._agents):
            self._best, self._best_benefit = tuple(self._chosen), benefit
            return True
        agent = self._agents[depth]
        for place in self._places[agent]:
            if self._best is not None and benefit + place.score + self._hope[depth + 1] <= self._best_benefit:
                return True  # the places that follow are no better
            if self._left == 0:
                return False
            self._left -= 1
            arriving = self._arriving.get(place.host, Minima())
            complete = True
            self._hosts[agent] = place.host
            self._chosen.append(place)
            obstacle = self._obstacle(agent, place.host)
            if obstacle is None:
                complete = self._descend(depth + 1, benefit + place.score)
            else:
                self._note(obstacle)
            self._chosen.pop()
            del self._hosts[agent]
            self._arriving[place.host] = arriving
            if not complete:
                return False
        return True

    def _obstacle(self, agent: str, host: str) -> str | None:
        """Why `agent`, just placed on `host`, cannot be there; else its needs are added to what arrives there."""
        for rule in self._rules[agent]:
            broken = rule.violation(self._hosts)
            if broken is not None:
                return broken
        resident = self._residents[agent]
        if host == resident.host:
            return None  # what it uses is already counted as used
        arriving = self._arriving.get(host, Minima()) + resident.needs.least
        resources = self._views[host].resources
        if resources is not None and (short := resources.shortages(arriving)):
            return f"{host} cannot take {agent} with those that would arrive before it: {'; '.join(short)}"
        self._arriving[host] = arriving
        return None

    def _plan(self) -> Plan:
        best = self._best or ()
        moves = tuple(
            Move(place.agent, place.path[0], place.host, place.path)
            for place in best
            if place.host != self._residents[place.agent].host
        )
        present = {agent: self._residents[agent].host for agent in self._agents}
        return Plan(present | {place.agent: place.host for place in best}, moves, self._best_benefit)

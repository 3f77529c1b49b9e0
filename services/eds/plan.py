"""What a planner answers: a plan, what it could not plan, and how far the plan may be from the best. Pure."""

from collections.abc import Iterable

import msgspec

from services.eds.offers import Candidate
from services.eds.snapshot import Snapshot

TINY = 1e-9  # below this a bound is no scale to measure a gap by


class Move(msgspec.Struct, frozen=True):
    agent: str
    source: str
    destination: str
    path: tuple[str, ...]  # hosts from source to destination, both included


class Plan(msgspec.Struct, frozen=True):
    """Where each agent of the groups shall run. Agents that stay are in `hosts` and not in `moves`."""

    hosts: dict[str, str]  # agent -> host; an agent of whom nobody knows where it is has none
    moves: tuple[Move, ...]
    benefit: float  # sum of the candidates' scores, of the groups that are not stuck


class Search(msgspec.Struct, frozen=True):
    """What a planner found. There is always a plan: of a group that is stuck, everybody stays where they are."""

    plan: Plan
    steps: int  # of work: places tried
    complete: bool  # False: the limit was hit, and a better plan may exist
    bound: float  # no plan with the same groups stuck brings more than this; the plan's benefit when complete
    obstacles: tuple[str, ...] = ()  # rules and capacities that cut plans off; the first few
    stuck: dict[str, tuple[str, ...]] = {}  # group for which no plan was found -> what stood in the way

    @property
    def gap(self) -> float:
        """How much more a plan could bring at most, as a part of the bound. 0 for the best plan."""
        return max(0.0, self.bound - self.plan.benefit) / max(abs(self.bound), TINY)


def plan_of(snapshot: Snapshot, chosen: Iterable[Candidate]) -> Plan:
    """The plan in which agents run at the places that are chosen for them, and all others stay."""
    members = {agent: at for at, agent in enumerate(agent for group in snapshot.groups for agent in group.agents)}
    chosen = sorted(chosen, key=lambda place: members[place.agent])
    hosts = {resident.agent: resident.host for resident in snapshot.residents if resident.agent in members}
    moves = tuple(
        Move(place.agent, hosts[place.agent], place.host, place.path)
        for place in chosen
        if place.host != hosts[place.agent]
    )
    benefit = sum(place.score for place in chosen)
    return Plan(hosts | {place.agent: place.host for place in chosen}, moves, benefit)

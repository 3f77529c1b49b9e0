"""Whether the rules of a group can be kept at all, on as many hosts as one likes, and who must be together. Pure."""

from collections.abc import Iterable, Sequence

from services.eds.joined import joined
from services.eds.rules import Atomic, Dependency, Exclusion, Group, Rule

WORK_LIMIT = 300_000  # names looked at, some tens of milliseconds; with more, a contradiction may stay unseen

Leaders = dict[str, str]  # agent -> the one that stands for all with whom it must be


def together(group: Group) -> list[tuple[str, ...]]:
    """The agents of the group, put together as atomic rules and dependencies on all tie them; in the group's order."""
    leaders = _tied(group.agents, group.rules)
    sets: dict[str, list[str]] = {}
    for agent in group.agents:
        sets.setdefault(leaders[agent], []).append(agent)
    return [tuple(each) for each in sets.values()]


def contradictions(group: Group) -> tuple[str, ...]:
    """Rules that no plan keeps together, in words; without any one of them the others can be kept. Empty: none.

    What it names is a contradiction for certain. It is exact within its limit of work; beyond that (thousands of ways
    to keep the dependencies on any) it may name a rule too many, or miss a contradiction.
    """
    judge = _Judge(group.agents)
    rules = list(group.rules)
    if judge.can_be_kept(rules):
        return ()
    for rule in group.rules:
        others = [each for each in rules if each is not rule]
        if not judge.can_be_kept(others):
            rules = others
    return tuple(rule.words for rule in rules)


class _Judge:
    def __init__(self, agents: Sequence[str]) -> None:
        self._agents = agents
        self._left = WORK_LIMIT

    def can_be_kept(self, rules: Sequence[Rule]) -> bool:
        """False only when it is certain that no plan keeps them."""
        apart = [rule.agents for rule in rules if isinstance(rule, Exclusion)]
        choices = [rule for rule in rules if isinstance(rule, Dependency) and rule.need == "any"]
        self._left -= len(self._agents) + sum(len(rule.names) for rule in rules)
        leaders = _tied(self._agents, rules)
        return _are_apart(leaders, apart) and self._choose(leaders, choices, apart)

    def _choose(self, leaders: Leaders, choices: list[Dependency], apart: list[tuple[str, ...]]) -> bool:
        """Puts each agent that needs any of several to one of them, in every way if need be."""
        fewest: list[Leaders] | None = None
        for rule in choices:
            on = dict.fromkeys(leaders[agent] for agent in rule.on)
            if leaders[rule.agent] in on:
                continue
            ways = []
            for each in on:
                self._left -= len(leaders) + sum(map(len, apart))
                if self._left < 0:
                    return True
                way = _join(leaders, leaders[rule.agent], each)
                if _are_apart(way, apart):
                    ways.append(way)
            if fewest is None or len(ways) < len(fewest):
                fewest = ways
        return fewest is None or any(self._choose(way, choices, apart) for way in fewest)


def _tied(agents: Iterable[str], rules: Iterable[Rule]) -> Leaders:
    bind = (rule for rule in rules if isinstance(rule, Atomic) or (isinstance(rule, Dependency) and rule.need == "all"))
    return joined(agents, (rule.names for rule in bind))


def _join(leaders: Leaders, kept: str, gone: str) -> Leaders:
    return {agent: kept if leader == gone else leader for agent, leader in leaders.items()}


def _are_apart(leaders: Leaders, apart: Iterable[Sequence[str]]) -> bool:
    return all(len({leaders[agent] for agent in agents}) == len(agents) for agents in apart)

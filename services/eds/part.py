"""The best plan for groups that want the same of something scarce, or a good one and how far it may be from it. Pure.

Prices (prices.py) give a bound, and plans that are good already. A search depth first (descent.py) finds the best one
where the bound leaves few to try. Else a few groups at a time are planned anew while the others stay as they are
(large neighbourhood search), each time the best way, as long as that brings something and there is work left.
"""

from collections.abc import Iterable, Mapping, Sequence

from services.eds.descent import Chosen, Descent
from services.eds.prices import Prices
from services.eds.problem import Problem, Ranked, rank

ROUNDS = 64  # of prices
DIVES = 3  # rounds from one plan by prices to the next
LOOKS = (0, 4, 16)  # rounds after which a short search may find the best plan already
SHORT = 400  # steps of a search that is only one of many
WINDOW = 3  # groups at most that are planned anew together
RIVALS = 6  # tried beside each group


class Part:
    """Some groups. After `search`: `plan`, what it brings (`value`, in which a group that is stuck costs the penalty),
    and whether it is the best for certain (`complete`)."""

    def __init__(self, problem: Problem, groups: Sequence[int], limit: int) -> None:
        self.plan: Chosen = {}
        self.complete = False
        self.steps = 0
        self._problem = problem
        self._groups = groups
        self._limit = limit
        self._prices = Prices(problem, groups)
        self.value = self._worth(groups, self.plan)

    @property
    def bound(self) -> float:
        """No plan brings more."""
        return self.value if self.complete else max(self.value, self._prices.most())

    def search(self) -> None:
        self._bid()
        if not self.complete:
            self._prices.settle()
            for size in range(1, WINDOW + 1):
                while self._improve(size):
                    pass
            self._descend(max(SHORT, self._limit - self.steps))

    def _bid(self) -> None:
        """Rounds of prices, with plans by these prices."""
        order = list(self._groups)
        for number in range(ROUNDS):
            chosen, over = self._prices.look()
            if number == 0:
                self._note(over)
            if not any(much > 0.0 for much in over.values()):
                self._keep(chosen)
            elif number % DIVES == 0:
                chosen = self._dive(order)
                order = sorted(self._groups, key=lambda group: (-self._loss(group, chosen), group))
                self._keep(chosen)
            self.complete = self._prices.lowest <= self.value + self._problem.slack
            if self.complete or (number in LOOKS and self._descend(SHORT)) or self.steps > self._limit // 3:
                return
            self.steps += self._prices.step(over, self.value)

    def _dive(self, order: Iterable[int]) -> Chosen:
        """A plan for one group after the other, each unit where it is best off after paying."""
        descent = Descent(self._problem)
        for group in order:
            descent.first(group, self._ranked(self._problem.of_group[group]), SHORT // 4)
        self.steps += descent.steps
        return descent.chosen

    def _descend(self, limit: int) -> bool:
        """Searches among all plans. True when the best one is found for certain."""
        descent = Descent(self._problem)
        ranked = self._ranked(self._prices.reduced, self._prices.now - self.value)
        found = descent.best(self._groups, ranked, self._prices.of, limit, self.value)
        self.steps += descent.steps
        self.complete = descent.certain
        if found is not None:
            self._keep(found)
        return self.complete

    def _improve(self, size: int) -> bool:
        """Plans windows of `size` groups anew. Whether that brought anything."""
        before = self.value
        ranked = self._ranked(self._prices.reduced, self._prices.now - self.value)
        for group in sorted(self._groups, key=lambda group: (-self._loss(group, self.plan), group)):
            rivals = self._rivals(group, ranked)
            for first in range(RIVALS if size > 1 else 1):
                window = [group, *rivals[first : first + size - 1]]
                if self.steps > self._limit * 5 // 6:
                    return False
                if len(window) == size:
                    self._replan(window, ranked)
        return self.value > before + self._problem.slack

    def _replan(self, window: Sequence[int], ranked: Mapping[int, Ranked]) -> None:
        units = {unit for group in window for unit in self._problem.of_group[group]}
        others = {unit: place for unit, place in self.plan.items() if unit not in units}
        descent = Descent(self._problem)
        descent.put(others)
        found = descent.best(window, ranked, self._prices.of, SHORT, self._worth(window, self.plan))
        self.steps += descent.steps + len(others) // 2
        if found is not None:
            self._keep(others | found)

    def _rivals(self, group: int, ranked: Mapping[int, Ranked]) -> list[int]:
        """The other groups, those first that are where this one would go."""
        units = self._problem.units
        wanted = {host for unit in self._problem.of_group[group] for _, host, _ in ranked[unit]}
        there = dict.fromkeys((other for other in self._groups if other != group), 0)
        for unit, place in self.plan.items():
            if units[unit].group != group and units[unit].hosts[place] in wanted:
                there[units[unit].group] += 1
        return sorted(there, key=lambda other: (-there[other], other))

    def _ranked(self, units: Iterable[int], spare: float = float("inf")) -> dict[int, Ranked]:
        """The places of units by what they bring after paying, without what is worse than the best by `spare`: no plan
        that is better than the present one has a unit there."""
        reduced = self._prices.reduced
        return {unit: rank(self._problem.units[unit].hosts, reduced[unit], spare) for unit in units}

    def _keep(self, chosen: Chosen) -> None:
        value = self._worth(self._groups, chosen)
        if value > self.value:
            self.plan, self.value = chosen, value

    def _worth(self, groups: Iterable[int], chosen: Chosen) -> float:
        worth = 0.0
        for group in groups:
            units = self._problem.of_group[group]
            if units[0] in chosen:
                worth += sum(self._problem.units[unit].values[chosen[unit]] for unit in units)
            else:
                worth -= self._problem.penalty
        return worth

    def _loss(self, group: int, chosen: Chosen) -> float:
        """How much less a group has in a plan than where it would go by itself, after paying."""
        units = self._problem.of_group[group]
        reduced = self._prices.reduced
        has = sum(reduced[unit][chosen[unit]] for unit in units) if units[0] in chosen else -self._problem.penalty
        return sum(max(reduced[unit]) for unit in units) - has

    def _note(self, over: Mapping[int, float]) -> None:
        for row, much in over.items():
            if much > 0.0:
                self._problem.note(self._problem.rows[row].what)

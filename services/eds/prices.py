"""A bound on what any plan can bring, from prices for what is scarce (Lagrange multipliers). Pure.

When each unit pays a price for what it takes of each row, it can go where it is best off after paying, and nobody need
look at the others. What they bring then, and the price of all that there is, is a bound: a plan that keeps the rows
pays no more than that price. Prices rise where more is wanted than there is and fall where something is left (the
subgradient method, with Polyak's step; Held, Wolfe and Crowder, 1974), which brings the bound down.
"""

from collections.abc import Sequence

from services.eds.problem import Problem

NEAR = 0.05  # a plan is taken to be at most so far from the bound, where none is known that is nearer
PATIENCE = 6  # rounds without a lower bound after which the steps are halved


class Prices:
    """Of the rows that the units of `groups` use; at first all are 0."""

    def __init__(self, problem: Problem, groups: Sequence[int]) -> None:
        self._problem = problem
        self._groups = [problem.of_group[group] for group in groups]
        self.of: dict[int, float] = {}  # row -> price of one; a row that is not in it is free
        self.reduced = {unit: list(problem.units[unit].values) for units in self._groups for unit in units}
        self._choice = {unit: self._best(unit) for unit in self.reduced}
        self._pace = 1.0
        self._tries = 0
        self.now = float("inf")  # the bound at these prices
        self.lowest = float("inf")  # the bound so far
        self.best_of: dict[int, float] = {}  # the prices that gave it

    def _best(self, unit: int) -> int:
        reduced = self.reduced[unit]
        return reduced.index(max(reduced))

    def look(self) -> tuple[dict[int, int], dict[int, float]]:
        """Where each unit would go now (without those of groups that would rather be stuck), and what is taken too
        much of each row (below zero: what is left of one that has a price). The bound is kept when it is lower."""
        bound = sum(price * self._problem.rows[row].capacity for row, price in self.of.items())
        chosen: dict[int, int] = {}
        for units in self._groups:
            worth = sum(self.reduced[unit][self._choice[unit]] for unit in units)
            if worth > -self._problem.penalty:
                chosen.update((unit, self._choice[unit]) for unit in units)
            bound += max(worth, -self._problem.penalty)
        self._tries += 1
        if bound < self.lowest:
            if bound < self.lowest - 1e-4 * abs(self.lowest) or not self.best_of:
                self._tries = 0
            self.lowest, self.best_of = bound, dict(self.of)
        elif self._tries >= PATIENCE:
            self._pace, self._tries = self._pace / 2.0, 0
        over = {row: -self._problem.rows[row].capacity for row in self.of}
        for unit, place in chosen.items():
            for row, amount in self._problem.units[unit].demands[place]:
                over[row] = over.get(row, -self._problem.rows[row].capacity) + amount
            for row, amount in self._problem.ties.get((unit, place), ()):
                over[row] = over.get(row, -self._problem.rows[row].capacity) + amount
        self.now = bound
        return chosen, over

    def step(self, over: dict[int, float], target: float) -> int:
        """Changes the prices after `look`; `target` is what the best plan so far brings. The work it took."""
        weight = {row: self._problem.rows[row].capacity or 1.0 for row in over}  # rows differ in their units
        size = sum((over[row] / weight[row]) ** 2 for row in over if over[row] > 0.0 or self.of.get(row))
        if size == 0.0:
            return 0
        target = max(target, self.lowest - NEAR * abs(self.lowest))
        pace = self._pace * (self.now - target) / size
        work = 0
        dirty: dict[int, None] = {}
        for row, much in over.items():
            old = self.of.get(row, 0.0)
            new = max(0.0, old + pace * much / weight[row] ** 2)
            if new != old:
                self.of[row] = new
                work += self._apply(row, new - old, dirty)
            if new == 0.0:
                self.of.pop(row, None)
        for unit in dirty:
            self._choice[unit] = self._best(unit)
            work += 1 + len(self.reduced[unit]) // 50
        return work

    def settle(self) -> None:
        """Goes back to the prices of the lowest bound."""
        for unit in self.reduced:
            self.reduced[unit] = list(self._problem.units[unit].values)
        self.of = dict(self.best_of)
        for row, price in self.of.items():
            self._apply(row, price, {})
        self.now = self.lowest

    def most(self) -> float:
        """No plan brings more than this, whatever groups are stuck in it."""
        left = sum(price * self._problem.rows[row].capacity for row, price in self.of.items())
        return left + sum(max(0.0, sum(max(self.reduced[unit]) for unit in units)) for units in self._groups)

    def _apply(self, row: int, change: float, dirty: dict[int, None]) -> int:
        users = self._problem.rows[row].users
        for unit, place, amount in users:
            self.reduced[unit][place] -= change * amount
            dirty[unit] = None
        return 1 + len(users) // 16

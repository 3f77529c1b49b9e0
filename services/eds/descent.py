"""Depth first over the units of some groups, the best place first, cut where no better plan can follow. Pure."""

from collections.abc import Mapping, Sequence

from services.eds.problem import MAX_OBSTACLES, NOTHING, Problem, Ranked, most

Chosen = dict[int, int]  # unit -> number of its place; the units of a group that is stuck are not in it

DEEPEST = 600  # units: one call deeper for each


class _Enough(Exception):
    """The limit of work, or the first plan where one is all that is asked for."""


class Descent:
    """Searches for plans for some groups, while those that are put in place stay as they are."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._slack = problem.slack
        self.chosen: Chosen = {}
        self.steps = 0  # places tried
        self.certain = True  # False: the limit of work ended the last search
        self.obstacles: dict[str, None] = {}  # what forbade places
        self._used = [0.0] * len(problem.rows)
        # Units as they were placed, with what was used of their rows before: a sum of floats cannot be taken apart.
        self._undo: list[tuple[int, list[float]]] = []

    def put(self, chosen: Chosen) -> None:
        """Has these in place from here on."""
        self.chosen |= chosen
        for unit, place in chosen.items():
            for row, amount in self._problem.units[unit].demands[place]:
                self._used[row] += amount

    def first(self, group: int, ranked: Mapping[int, Ranked], limit: int) -> bool:
        """Puts the first plan for `group` in place that is found. False when none is found within the limit."""
        self._begin([group], ranked, 0.0, limit, NOTHING, True)
        if self._found:
            self.put(self._found)
        return bool(self._found)

    def best(
        self, groups: Sequence[int], ranked: Mapping[int, Ranked], prices: Mapping[int, float], limit: int, floor: float
    ) -> Chosen | None:
        """The best plan for `groups` that brings more than `floor` (None: there is none, if that is `certain`). The
        places in `ranked` bring what they say after paying `prices`."""
        rows = self._problem.rows
        left = sum(price * (rows[row].capacity - self._used[row]) for row, price in prices.items())
        spare = left - floor
        for group in groups:
            units = self._problem.of_group[group]
            spare += max(sum(most(ranked[unit]) for unit in units), -self._problem.penalty)
        open_places: dict[int, Ranked] = {}
        for unit in (unit for group in groups for unit in self._problem.of_group[group]):
            # What is so much worse than the best that nothing better than the floor can follow is left out.
            least = most(ranked[unit]) - spare
            open_places[unit] = [each for each in ranked[unit] if -each[0] > least and self._fits(unit, each[2])]
            self.steps += 1 + len(ranked[unit]) // 8
        self._begin(groups, open_places, left, limit, floor, False)
        return self._found

    def _begin(
        self, groups: Sequence[int], ranked: Mapping[int, Ranked], left: float, limit: int, floor: float, first: bool
    ) -> None:
        self._order: list[int] = []
        self._ends: dict[int, int] = {}  # depth at which a group begins -> depth after its last unit
        for group in groups:
            begin = len(self._order)
            self._order += self._in_order(group, ranked)
            self._ends[begin] = len(self._order)
        self._found: Chosen | None = None
        if len(self._order) > DEEPEST:
            self.certain = False
            return
        self._ranked = [ranked[unit] for unit in self._order]
        self._hope = self._hopes()
        self._floor, self._only_one = floor, first
        self._limit = self.steps + limit
        self.certain = True
        try:
            self._descend(0, left, 0.0)
        except _Enough:
            self.certain = False
        while self._undo:
            self._take_back()

    def _in_order(self, group: int, ranked: Mapping[int, Ranked]) -> list[int]:
        """Those with few places first, and those last that must be where one of the others is."""
        needy = self._problem.needy
        return sorted(self._problem.of_group[group], key=lambda unit: (unit in needy, len(ranked[unit]), unit))

    def _hopes(self) -> list[float]:
        """The most that the units from each depth on can bring, after paying."""
        hope = [0.0] * (len(self._order) + 1)
        after = 0.0  # what those after the present group can bring
        ends = set(self._ends.values())
        for depth in range(len(self._order) - 1, -1, -1):
            if depth + 1 in ends:
                after = hope[depth + 1]
            hope[depth] = hope[depth + 1] + most(self._ranked[depth])
            if depth in self._ends:
                hope[depth] = max(hope[depth], after - self._problem.penalty)
        return hope

    def _descend(self, depth: int, hoped: float, value: float) -> None:
        """`hoped`: what the units before this depth bring after paying, with the price of all that there was."""
        if depth == len(self._order):
            if value > self._floor + self._slack:
                self._found, self._floor = {unit: self.chosen[unit] for unit, _ in self._undo}, value
                if self._only_one:
                    raise _Enough
            return
        unit = self._order[depth]
        values = self._problem.units[unit].values
        rest = self._hope[depth + 1]
        for worse, _, place in self._open(depth):
            if hoped - worse + rest <= self._floor + self._slack:
                break  # the places that follow are no better
            self.steps += 1
            if self.steps > self._limit:
                raise _Enough
            if self._take(unit, place):
                self._descend(depth + 1, hoped - worse, value + values[place])
                self._take_back()
        if depth in self._ends:
            end, penalty = self._ends[depth], self._problem.penalty
            if hoped - penalty + self._hope[end] > self._floor + self._slack:
                self._descend(end, hoped - penalty, value - penalty)

    def _open(self, depth: int) -> Ranked:
        """Places of the unit at `depth`; once all are placed of whom it needs one, only those where one of them is."""
        unit, ranked = self._order[depth], self._ranked[depth]
        if unit in self._problem.needy:
            units = self._problem.units
            for one, others in self._problem.choices_of[unit]:
                if one == unit and all(other in self.chosen for other in others):
                    hosts = {units[other].hosts[self.chosen[other]] for other in others}
                    ranked = [each for each in ranked if each[1] in hosts]
                    self.steps += 1
        return ranked

    def _fits(self, unit: int, place: int) -> bool:
        for row, amount in self._problem.units[unit].demands[place]:
            if self._used[row] + amount > self._problem.rows[row].capacity:
                self._note(self._problem.rows[row].what)
                return False
        return True

    def _take(self, unit: int, place: int) -> bool:
        if not self._fits(unit, place):
            return False
        self.chosen[unit] = place
        for one, others in self._problem.choices_of.get(unit, ()):
            if one in self.chosen and not self._has_any(one, others):
                del self.chosen[unit]
                return False
        demands = self._problem.units[unit].demands[place]
        self._undo.append((unit, [self._used[row] for row, _ in demands]))
        for row, amount in demands:
            self._used[row] += amount
        return True

    def _has_any(self, one: int, others: Sequence[int]) -> bool:
        """Whether one of the others is where `one` is, or may still come there."""
        units = self._problem.units
        host = units[one].hosts[self.chosen[one]]
        for other in others:
            there = units[other].number_of.get(host)
            if there is not None and self.chosen.get(other, there) == there:
                return True
        self._note(f"{units[one].agents[0]} needs {' or '.join(units[other].agents[0] for other in others)} on {host}")
        return False

    def _take_back(self) -> None:
        unit, before = self._undo.pop()
        place = self.chosen.pop(unit)
        for (row, _), used in zip(self._problem.units[unit].demands[place], before, strict=True):
            self._used[row] = used

    def _note(self, obstacle: str) -> None:
        if len(self.obstacles) < MAX_OBSTACLES:
            self.obstacles[obstacle] = None

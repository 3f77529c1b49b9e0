"""Breadth-first search through all that may happen to the honest members of four (tests.helpers.consensus_network).

A replica's part of the state is interned, and its steps are remembered, so that a state of the whole is three small
numbers. Two honest members that lead neither view differ by name only: states in which they have changed places are
one, and only what the first of them does is worked out. tests.simulated.test_consensus_exhaustive compares.
"""

from collections.abc import Iterator
from itertools import combinations
from time import monotonic
from typing import NamedTuple

from ledger.certificate import COMMIT, PREPARE
from ledger.simulation import Mutant
from tests.helpers.consensus_model import (
    HOSTS,
    NONE,
    Change,
    Enter,
    Local,
    Model,
    Running,
    Said,
    Say,
    Stimulus,
    outcomes,
)
from tests.helpers.consensus_network import spelled, stimuli

BITS = 20
ONES = (1 << BITS) - 1


class Violation(NamedTuple):
    rule: str
    trace: list[str]  # the shortest way there


class Result(NamedTuple):
    states: int
    depth: int  # steps from the beginning
    complete: bool  # nothing is left to explore
    locals: int  # of single replicas
    violation: Violation | None


class Explorer:
    def __init__(self, byzantine: str, mutant: Mutant | None = None, merge: bool = True) -> None:
        """`merge`: states that differ by the names of those who lead neither view."""
        self.model = Model(byzantine, mutant)
        self.honest = [host for host in HOSTS if host != byzantine]
        self._twins = merge and byzantine in HOSTS[:2]
        self._ids: dict[object, int] = {}
        self._hosts: list[str] = []
        self._locals: list[Local] = []
        self._said: list[int] = []  # of each local, as a number of its set
        self._sets: dict[frozenset[Said], int] = {}
        self._sayings: list[frozenset[Said]] = []
        self._wrong: dict[int, str] = {}
        self._steps: dict[tuple[int, Stimulus], tuple[int, ...]] = {}
        self._following: dict[tuple[int, int, int], tuple[int, ...]] = {}
        self._conflicts: dict[tuple[int, ...], bool] = {}
        self.complaints: list[str] = []  # of honest hosts about each other
        empty = Local((), None, frozenset())
        self.start = self._pack([self._intern(self._role(place), empty) for place in range(3)])
        self.came: dict[int, int] = {self.start: -1}

    def run(self, seconds: float = 1e9, states: int = 10**9) -> Result:
        end = monotonic() + seconds
        level, depth = [self.start], 0
        while level:
            found = []
            for state in level:
                broken = self._broken(state)
                if broken:
                    return self._result(depth, False, Violation(broken, self._trace(state)))
                for following in self._successors(state):
                    if following not in self.came:
                        self.came[following] = state
                        found.append(following)
                if monotonic() > end or len(self.came) > states:
                    return self._result(depth, False, None)
            level, depth = found, depth + 1
        return self._result(depth, True, None)

    def _result(self, depth: int, complete: bool, violation: Violation | None) -> Result:
        return Result(len(self.came), depth, complete, len(self._locals), violation)

    def keys_of(self, state: int) -> tuple[object, ...]:
        """What the three are, without this search's numbers for them."""
        return tuple(self.model.key(self._locals[part]) for part in self._unpack(state))

    def number_of(self, keys: tuple[object, ...]) -> int | None:
        """The state in which the three are these; None when that has not been reached."""
        numbers = [self._ids.get((self._role(place), key)) for place, key in enumerate(keys)]
        known = [number for number in numbers if number is not None]
        state = self._pack(known) if len(known) == len(keys) else None
        return state if state in self.came else None

    # States

    def _role(self, place: int) -> str:
        """The host whose steps are worked out: the second of the twins does what the first does."""
        return self.honest[1] if self._twins and place == 2 else self.honest[place]

    def _pack(self, parts: list[int]) -> int:
        first, second, third = parts
        if self._twins and second > third:
            second, third = third, second
        return first | second << BITS | third << 2 * BITS

    def _unpack(self, state: int) -> list[int]:
        return [state & ONES, state >> BITS & ONES, state >> 2 * BITS]

    def _intern(self, host: str, local: Local) -> int:
        key = (host, self.model.key(local))
        number = self._ids.setdefault(key, len(self._locals))
        if number == len(self._locals):
            assert number < ONES
            said = self._sets.setdefault(local.said, len(self._sets))
            if said == len(self._sayings):
                self._sayings.append(local.said)
            self._hosts.append(host)
            self._said.append(said)
            self._locals.append(local)
        return number

    # Steps

    def _successors(self, state: int) -> Iterator[int]:
        parts = self._unpack(state)
        for place, number in enumerate(parts):
            others = [each for each in range(3) if each != place]
            for following in self._of_one(place, number, *(self._said[parts[other]] for other in others)):
                yield self._pack([following if each == place else parts[each] for each in range(3)])

    def _of_one(self, place: int, number: int, first: int, second: int) -> tuple[int, ...]:
        """All that one may become, given what the others have said."""
        key = (number, first, second)
        found = self._following.get(key)
        if found is None:
            taken = (self._take(number, stimulus) for stimulus in self._possible(number, first, second))
            found = tuple({following for each in taken for following in each if following != number})
            self._following[key] = found
        return found

    def _possible(self, number: int, first: int, second: int) -> Iterator[Stimulus]:
        host = self._hosts[number]
        others = [each for each in self.honest if each != host]
        said = {host: self._locals[number].said}
        said[others[0]], said[others[1]] = self._sayings[first], self._sayings[second]
        return stimuli(self.model, host, said)

    def _take(self, number: int, stimulus: Stimulus) -> tuple[int, ...]:
        key = (number, stimulus)
        found = self._steps.get(key)
        if found is None:
            found = self._steps[key] = self._compute(number, stimulus)
        return found

    def _compute(self, number: int, stimulus: Stimulus) -> tuple[int, ...]:
        host, local = self._hosts[number], self._locals[number]
        running = Running(self.model, host, local)
        effects = running.take(spelled(self.model, stimulus))
        self.complaints += [f"{host} blames {fault}" for sender, fault in running.blamed if sender in self.honest]
        following = []
        for outcome in outcomes(self.model, host, local, effects):
            found = self._intern(host, outcome)
            if wrong := _wrong(local, outcome):
                self._wrong[found] = f"{host} {wrong}"
            following.append(found)
        return tuple(following)

    # The rules

    def _broken(self, state: int) -> str | None:
        parts = self._unpack(state)
        for part in parts:
            if part in self._wrong:
                return self._wrong[part]
        decided = {self.model.decided(self._locals[part]) for part in parts} - {NONE}
        if len(decided) > 1:
            return "two blocks are decided"
        sets = tuple(self._said[part] for part in parts)
        if sets not in self._conflicts:
            self._conflicts[sets] = len(self._certified(sets)) > 1
        return "two blocks have a commit certificate" if self._conflicts[sets] else None

    def _certified(self, sets: tuple[int, ...]) -> set[str]:
        """The blocks for which there is a commit certificate, with the Byzantine member's vote."""
        sayings = [self._sayings[number] for number in sets]
        return {
            each.block
            for some in combinations(sayings, self.model.quorum - 1)
            for each in frozenset.intersection(*some)
            if isinstance(each, Say) and each.kind == COMMIT
        }

    def _trace(self, state: int) -> list[str]:
        lines: list[str] = []
        while (before := self.came[state]) >= 0:
            lines.append(self._tell(before, state))
            state = before
        return lines[::-1]

    def _tell(self, before: int, state: int) -> str:
        parts = self._unpack(before)
        for place, number in enumerate(parts):
            others = [self._said[parts[each]] for each in range(3) if each != place]
            for stimulus in self._possible(number, *others):
                for following in self._take(number, stimulus):
                    if self._pack([following if each == place else parts[each] for each in range(3)]) == state:
                        return f"{self.honest[place]} {_told(stimulus)}"
        raise AssertionError("every state but the first came from another by a step")


def _told(stimulus: Stimulus) -> str:
    match stimulus:
        case ("start",):
            return "starts again"
        case ("build", wall):
            return f"may build block {wall}"
        case ("suspect",):
            return "suspects the primary"
        case ("decision", block, view, signers, forged):
            of = "forged signatures" if forged else "votes"
            return f"hears that {block} is decided in view {view}, by {of} of {', '.join(signers)}"
        case ("hear", *heard):
            return "hears " + "; ".join(f"{_words(said)} from {sender}" for sender, said in heard)
    return str(stimulus)


def _words(said: Said) -> str:
    match said:
        case Say(kind, view, block):
            return f"{kind.upper()} {block} in view {view}"
        case Change(committed, prepared, forged):
            shown = f"{committed} decided" if committed else f"{prepared} prepared" if prepared else "nothing"
            return f"VIEW-CHANGE with {shown}{', forged' if forged else ''}"
        case Enter(height, _, forced, changes):
            of = f" of {', '.join(host for host, _ in changes)}" if changes else ""
            return f"NEW-VIEW from height {height} with {forced or 'no block'} forced{of}"


def _wrong(before: Local, after: Local) -> str | None:
    """What no honest host does, by what it has said."""
    votes = [each for each in after.said if isinstance(each, Say) and each.kind in (PREPARE, COMMIT)]
    if len({(vote.kind, vote.view) for vote in votes}) < len(votes):
        return "signs twice"
    left = any(isinstance(each, Change) for each in before.said)
    if left and any(vote.kind == PREPARE and vote.view == 0 and vote not in before.said for vote in votes):
        return "votes in a view that it has left"
    return None

"""What a host that is drained does next, and when it is done: the pure core, one case at a time, and many at random."""

from itertools import pairwise
from random import Random

import pytest

from agentplatform.draining import (
    AT_ONCE,
    DRAINED,
    DRAINING,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    QUIET,
    Act,
    Drain,
    Draining,
    Move,
    SetAside,
)

END = 60.0


def fresh() -> Draining:
    return Draining(Drain(0.0, END))


def test_who_runs_is_moved_with_its_group_and_who_sleeps_sleeps_on() -> None:
    draining = fresh()
    states = {"a": "runs", "b": "deactivated", "c": "deactivated", "d": "stranded", "e": "runs", "f": "quarantined"}
    units = [("a", "b"), ("c",), ("d",), ("e",), ("f",)]
    assert draining.look(units, states, 0.0) == [Move(("a", "b")), Move(("e",))]
    assert draining.look(units, states, 1.0) == []  # both are under way
    assert (draining.why("e"), draining.why("c")) == ("it is asked to go", "")


def test_who_stays_is_tried_again_later_each_time_and_says_why() -> None:
    draining, states, now, tries = fresh(), {"a": "runs"}, 0.0, []
    while now < END - 1:
        for act in draining.look([("a",)], states, now):
            tries.append(now)
            draining.ended(act, {"a": "I like it here"}, now)
        now += 0.5
    pauses = [round(later - before, 1) for before, later in pairwise(tries)]
    assert pauses[:5] == [FIRST_PAUSE, 2.0, 4.0, 8.0, LONGEST_PAUSE] and set(pauses[4:]) == {LONGEST_PAUSE}
    assert draining.why("a") == "I like it here"


def test_from_the_deadline_on_each_that_runs_is_set_aside_by_itself() -> None:
    draining = fresh()
    (act,) = draining.look([("a", "b", "c")], {"a": "runs", "b": "runs", "c": "deactivated"}, END - 0.1)
    draining.ended(act, {"a": "no place", "b": "no place"}, END - 0.1)
    states = {"a": "runs", "b": "runs", "c": "deactivated"}
    assert draining.look([("a", "b", "c")], states, END) == [SetAside(("a",)), SetAside(("b",))]  # at once
    draining.ended(SetAside(("a",)), {}, END)
    draining.ended(SetAside(("b",)), {"b": "it is in a critical section"}, END)
    states["a"] = "deactivated"
    assert draining.look([("a", "b", "c")], states, END) == [] and draining.why("a") == ""
    assert draining.look([("a", "b", "c")], states, END + FIRST_PAUSE) == [SetAside(("b",))]


def test_who_is_on_its_way_at_the_deadline_is_left_to_arrive() -> None:
    draining = fresh()
    assert draining.look([("a",)], {"a": "runs"}, END - 0.1) == [Move(("a",))]
    assert draining.look([("a",)], {"a": "on its way"}, END + 1) == []
    assert draining.look([("a",)], {"a": "runs"}, END + 1) == []  # the decision is not over
    draining.ended(Move(("a",)), {"a": "it was refused"}, END + 2)
    assert draining.look([("a",)], {"a": "runs"}, END + 2) == [SetAside(("a",))]


def test_no_more_than_so_many_at_once() -> None:
    draining = fresh()
    agents = [f"a{number}" for number in range(2 * AT_ONCE)]
    units, states = [(agent,) for agent in agents], dict.fromkeys(agents, "runs")
    begun = draining.look(units, states, 0.0)
    assert len(begun) == AT_ONCE and draining.look(units, states, 0.0) == []
    draining.ended(begun[0], {}, 0.0)
    assert draining.look(units, states, 0.0) == [Move((agents[0],))]
    draining.ended(Move((agents[0],)), {agents[0]: "not now"}, 0.0)
    assert draining.look(units, states, 0.0) == [Move((agents[AT_ONCE],))]  # others have their turn


@pytest.mark.parametrize(
    ("states", "under_way", "word"),
    [
        ({}, 0, DRAINED),
        ({"a": "deactivated", "b": "stranded", "c": "quarantined"}, 0, DRAINED),
        ({"a": "deactivated"}, 1, DRAINING),
        ({"a": "runs"}, 0, DRAINING),
        ({"a": "on its way"}, 0, DRAINING),
    ],
)
def test_it_is_drained_when_nothing_runs_and_nothing_may_come_to_life(
    states: dict[str, str], under_way: int, word: str
) -> None:
    draining = fresh()
    assert draining.word(states, under_way, 0.0) == DRAINING
    assert draining.word(states, under_way, QUIET) == word
    assert draining.word({"a": "runs"}, 0, QUIET) == DRAINING == draining.word(states, under_way, QUIET)  # anew


def test_it_is_not_drained_while_a_decision_is_not_over() -> None:
    draining = fresh()
    (act,) = draining.look([("a",)], {"a": "runs"}, 0.0)
    assert {draining.word({}, 0, now) for now in (0.0, 9.0)} == {
        DRAINING
    }  # it left, and what became of its group is not known yet
    draining.ended(act, {}, 9.0)
    assert [draining.word({}, 0, now) for now in (9.0, 9.0 + QUIET)] == [DRAINING, DRAINED]


class Forgetful(Draining):
    """Does not know what it began."""

    def look(self, units, states, now):  # type: ignore[no-untyped-def]
        begun = super().look(units, states, now)
        self._under_way.clear()
        return begun


class Impatient(Draining):
    """Never sets anybody aside."""

    def look(self, units, states, now):  # type: ignore[no-untyped-def]
        return super().look(units, states, min(now, self.drain.deadline - 1))


def drained(kind: type[Draining], seed: int) -> float:
    """When a host with agents that refuse, arrive late, and whose moves fail was drained. Nobody is in two acts."""
    random = Random(seed)  # noqa: S311
    draining = kind(Drain(0.0, END))
    agents = [f"a{number}" for number in range(random.randrange(1, 40))]
    states = {agent: random.choice(["runs", "runs", "runs", "deactivated", "stranded"]) for agent in agents}
    units, left = [], list(agents)
    while left:
        size = random.randrange(1, 4)
        units.append(tuple(left[:size]))
        left = left[size:]
    stubborn = {agent for agent in agents if random.random() < 0.3}
    working: dict[Act, float] = {}
    now = 0.0
    while now < 3 * END:
        for act in draining.look(units, states, now):
            assert all(set(act.agents).isdisjoint(other.agents) for other in working), f"seed {seed}: {act} twice"
            working[act] = now + random.choice([0.1, 1.0, 9.0])
        for act in [act for act, end in working.items() if end <= now]:
            del working[act]
            fails = random.random() < 0.2
            for agent in act.agents:
                if isinstance(act, SetAside) and not fails and states[agent] == "runs":
                    states[agent] = "deactivated"
                elif isinstance(act, Move) and not fails and agent not in stubborn and agent in states:
                    del states[agent]
            stayed = {agent: "it stays" for agent in act.agents if states.get(agent) == "runs"}
            draining.ended(act, stayed, now)
        if draining.word(states, 0, now) == DRAINED:
            assert not working and "runs" not in states.values(), f"seed {seed}"
            return now
        now += 0.5
    raise AssertionError(f"seed {seed}: it is not drained at {now:g}: {states}")


@pytest.mark.parametrize("seed", range(30))
def test_it_is_drained_soon_after_the_deadline_whatever_the_agents_do(seed: int) -> None:
    assert drained(Draining, seed) <= END + 40.0


@pytest.mark.parametrize("kind", [Forgetful, Impatient])
def test_the_harness_catches_a_broken_core(kind: type[Draining]) -> None:
    with pytest.raises(AssertionError, match=r"twice|not drained"):
        for seed in range(30):
            drained(kind, seed)

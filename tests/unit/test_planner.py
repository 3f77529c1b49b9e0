"""The planner against brute force, Falcon's Table 2, capacities, groups that are stuck, and its limit of work."""

import itertools
import math
from collections.abc import Callable, Iterator

import msgspec
import pytest

from ledger.errors import Misuse
from services.eds import greedy
from services.eds.descent import Descent
from services.eds.offers import Offers
from services.eds.part import Part
from services.eds.plan import Plan, Search
from services.eds.planner import PLANNERS, search
from services.eds.prices import Prices
from services.eds.rules import Atomic, Dependency, Exclusion, Group
from services.eds.snapshot import Resident, Snapshot
from services.rms.resources import Minima, Needs
from tests.helpers.edge_scenes import GIB, NOON, host, resources, scene
from tests.helpers.plan_cases import best_by_brute_force, offers, random_case, wrong

Planner = Callable[[Snapshot, Offers], Search]


def disagreements(planner: Planner, seeds: range, largest: int = 2_000) -> Iterator[int]:
    """The seeds of random cases in which the planner's plan is wrong, or not the best, or its bound is not true."""
    for seed in seeds:
        snapshot, offered = random_case(seed, largest)
        found = planner(snapshot, offered)
        fewest, most = best_by_brute_force(snapshot, offered)
        right = wrong(snapshot, offered, found.plan.hosts, found.stuck) is None and found.bound >= most
        if not right or (found.complete and (len(found.stuck), found.plan.benefit) != (fewest, most)):
            yield seed


def certain(snapshot: Snapshot, offered: Offers) -> Search:
    found = search(snapshot, offered)
    assert found.complete
    return found


def test_random_cases_agree_with_brute_force() -> None:
    assert list(disagreements(certain, range(1200))) == [], "seeds of random_case"


@pytest.mark.slow
def test_many_random_cases_agree_with_brute_force() -> None:
    assert list(disagreements(certain, range(10_000, 20_000), 20_000)) == [], "seeds of random_case"


@pytest.mark.parametrize("limit", [1, 30, 120])
def test_with_little_work_the_plan_keeps_all_rules_and_the_bound_is_true(limit: int) -> None:
    def hurried(snapshot: Snapshot, offered: Offers) -> Search:
        return search(snapshot, offered, limit)

    assert list(disagreements(hurried, range(300))) == [], "seeds of random_case"


def never(self: Part, limit: int) -> bool:
    """In place of the search among all plans."""
    return False


def test_by_prices_and_windows_alone_plans_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """What large problems rest on, tried on small ones: no search among all plans."""
    monkeypatch.setattr(Part, "_descend", never)
    assert list(disagreements(search, range(300))) == [], "seeds of random_case"


def test_greedy_keeps_rules_and_capacities_and_is_never_better() -> None:
    assert list(disagreements(greedy.search, range(300))) == [], "seeds of random_case"
    worse = 0
    for seed in range(300):
        case = random_case(seed, 2_000)
        exact, first = (PLANNERS[name](*case) for name in ("exact", "greedy"))
        better = (len(exact.stuck), -exact.plan.benefit) <= (len(first.stuck), -first.plan.benefit)
        assert better and not first.complete, f"seed {seed}"
        worse += exact.plan.benefit > first.plan.benefit
    assert worse > 10


@pytest.mark.parametrize("kind", [Atomic, Exclusion, Dependency])
def test_a_planner_that_forgets_a_kind_of_rule_is_caught(kind: type) -> None:
    def forgetful(snapshot: Snapshot, offered: Offers) -> Search:
        groups = tuple(
            msgspec.structs.replace(group, rules=tuple(rule for rule in group.rules if not isinstance(rule, kind)))
            for group in snapshot.groups
        )
        return search(msgspec.structs.replace(snapshot, groups=groups), offered)

    assert next(disagreements(forgetful, range(1200)), None) is not None


def cut_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    true_hopes = Descent._hopes
    monkeypatch.setattr(Descent, "_hopes", lambda self: [0.8 * hope for hope in true_hopes(self)])


def forget_what_arrives_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Descent, "_fits", lambda self, unit, place: True)


def forget_the_price_of_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound without the second half of Lagrange's sum."""
    true_look = Prices.look

    def look(self: Prices) -> tuple[dict[int, int], dict[int, float]]:
        found = true_look(self)
        self.now -= sum(price * self._problem.rows[row].capacity for row, price in self.of.items())
        self.lowest = min(self.lowest, self.now)
        return found

    monkeypatch.setattr(Prices, "look", look)
    monkeypatch.setattr(Part, "_descend", never)


def forget_who_needs_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Descent, "_has_any", lambda self, one, others: True)


def give_up_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the first plan for the best."""
    true_begin = Descent._begin

    def begin(self: Descent, groups, ranked, left, limit, floor, first) -> None:  # type: ignore[no-untyped-def]
        true_begin(self, groups, ranked, left, limit, floor, True)
        self.certain = True

    monkeypatch.setattr(Descent, "_begin", begin)


@pytest.mark.parametrize(
    "break_it",
    [
        cut_too_early,
        forget_what_arrives_together,
        forget_the_price_of_what_there_is,
        forget_who_needs_whom,
        give_up_too_early,
    ],
)
def test_a_broken_search_is_caught(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    assert next(disagreements(search, range(1200)), None) is not None


def table_2() -> tuple[Snapshot, Offers]:
    """Falcon, section 5.2 and Table 2: 8 agents on one host; 3 servers of type A, 3 of B, 2 of C.

    The table says on which type of server each agent can run. Type C is left for A7 and A8.
    """
    types = {"A": ("A1", "A2", "A3"), "B": ("A4", "A5", "A6"), "C": ("A7", "A8")}
    counts = {"A": 3, "B": 3, "C": 2}
    servers = {kind: [f"{kind.lower()}{i}" for i in range(1, counts[kind] + 1)] for kind in types}
    rules = (Atomic(("A1", "A2", "A3")), Dependency("A4", ("A5", "A6"), "all"), Exclusion(("A7", "A8")))
    agents = {agent: "start" for agent in sorted(itertools.chain(*types.values()))}
    hosts = [host("start"), *(host(name) for names in servers.values() for name in names)]
    snapshot = scene(hosts, agents, rules=rules)
    scores: dict[str, dict[str, float]] = {}
    for kind, listed in types.items():
        for i, agent in enumerate(listed):
            # Each agent of a type prefers another server, but for the last type, where both prefer the same.
            scores[agent] = {name: 1.0 + (j == (0 if kind == "C" else i)) for j, name in enumerate(servers[kind])}
    return snapshot, offers(snapshot, scores)


def test_table_2_of_the_paper() -> None:
    snapshot, offered = table_2()
    found = search(snapshot, offered)
    assert found.complete and not found.stuck and found.bound == found.plan.benefit
    hosts = found.plan.hosts
    assert len({hosts["A1"], hosts["A2"], hosts["A3"]}) == 1 and hosts["A1"].startswith("a")
    assert hosts["A4"] == hosts["A5"] == hosts["A6"] and hosts["A4"].startswith("b")
    assert {hosts["A7"], hosts["A8"]} == {"c1", "c2"}
    assert found.plan.benefit == 4.0 + 4.0 + 3.0
    assert len(found.plan.moves) == 8


def test_of_equal_places_the_present_one_is_kept() -> None:
    snapshot = scene([host("a"), host("b")], {"x": "b"})
    found = search(snapshot, offers(snapshot, {"x": {"a": 1.0, "b": 1.0}}))
    assert found.plan.moves == () and found.plan.hosts == {"x": "b"}


def test_an_agent_of_a_million_times_the_weight_holds_nobody_else_back() -> None:
    snapshot = scene([host("a"), host("b")], {"x": "a", "heavy": "a"})
    found = search(snapshot, offers(snapshot, {"x": {"a": 1.0, "b": 1.01}, "heavy": {"a": 1e6, "b": 1e6}}))
    assert found.plan.hosts == {"x": "b", "heavy": "a"}


def crowd(names: str, memory: int) -> Snapshot:
    """Agents that need 3 GiB each, on a full host; another has `memory`, and a third 4 GiB."""
    residents = [Resident(agent, "old", NOON, needs=Needs(least=Minima(memory=3 * GIB))) for agent in names]
    full, roomy = resources(memory_free=0), resources(memory_free=memory)
    hosts = [host("old", advert=full), host("best", advert=roomy), host("next")]
    return scene(hosts, dict.fromkeys(names, "old"), residents=residents)


def test_what_arrives_together_must_fit_together() -> None:
    snapshot = crowd("xy", 4 * GIB)
    scores = {"x": {"best": 5.0, "next": 2.0, "old": 1.0}, "y": {"best": 4.0, "next": 3.0, "old": 1.0}}
    found = search(snapshot, offers(snapshot, scores))
    assert found.plan.hosts == {"x": "best", "y": "next"}
    assert found.obstacles == ("best has not enough memory for all",)
    staying = search(snapshot, offers(snapshot, {"x": {"old": 1.0}, "y": {"old": 1.0}}))
    assert not staying.stuck  # "old" has no memory free, and needs none for those that it already runs


def test_those_who_must_be_together_need_a_host_for_all_of_them() -> None:
    snapshot = crowd("xy", 6 * GIB - 1)
    together = msgspec.structs.replace(snapshot.groups[0], rules=(Atomic(("x", "y")),))
    snapshot = msgspec.structs.replace(snapshot, groups=(together,))
    scores = {agent: {"best": 5.0, "old": 1.0} for agent in "xy"}
    found = search(snapshot, offers(snapshot, scores))
    assert found.plan.hosts == {"x": "old", "y": "old"}
    assert found.obstacles == ("best cannot take x and y together",)


def test_groups_that_want_the_same_are_planned_together() -> None:
    """Each alone would take the best host; the one that loses more by the next has it."""
    snapshot = crowd("xy", 4 * GIB)
    snapshot = msgspec.structs.replace(snapshot, groups=(Group("first", ("x",)), Group("second", ("y",))))
    found = search(snapshot, offers(snapshot, {"x": {"best": 5.0, "next": 4.0}, "y": {"best": 5.0, "next": 1.0}}))
    assert found.plan.hosts == {"x": "next", "y": "best"} and found.plan.benefit == 9.0 and found.complete


def test_a_group_without_a_plan_is_stuck_and_the_others_are_planned_all_the_same() -> None:
    snapshot = scene([host("a"), host("b")], {"x": "a", "y": "a", "z": "a", "free": "a"})
    apart = Group("crowd", ("x", "y", "z"), (Exclusion(("x", "y", "z")),))
    snapshot = msgspec.structs.replace(snapshot, groups=(apart, Group("other", ("free",))))
    found = search(snapshot, offers(snapshot, {agent: {"a": 1.0, "b": 2.0} for agent in ("x", "y", "z", "free")}))
    assert found.plan.hosts == {"x": "a", "y": "a", "z": "a", "free": "b"} and found.complete
    assert found.stuck == {"crowd": ("x, y, z must be apart, and there is no more for them than a, b",)}
    assert found.plan.benefit == 2.0 == found.bound


def test_who_must_be_apart_is_named_as_the_rule_does() -> None:
    """Not by the first of those whom each must be together with."""
    rules = (Atomic(("x", "y")), Exclusion(("y", "z")))
    snapshot = scene([host("a"), host("b")], {"x": "a", "y": "a", "z": "a"}, rules=rules)
    found = search(snapshot, offers(snapshot, {agent: {"a": 2.0, "b": 1.0} for agent in "xyz"}))
    assert found.plan.hosts == {"x": "a", "y": "a", "z": "b"}
    assert found.obstacles == ("y, z must be apart: not two of them on a",)
    stuck = search(snapshot, offers(snapshot, {agent: {"a": 2.0} for agent in "xyz"}))
    assert stuck.stuck == {"group": ("y, z must be apart, and there is no more for them than a",)}


def test_of_groups_that_cannot_all_be_planned_as_few_as_possible_are_stuck() -> None:
    """There is room for one group of two, or for two groups of one."""
    snapshot = crowd("abcd", 6 * GIB)
    groups = (Group("pair", ("a", "b")), Group("one", ("c",)), Group("two", ("d",)))
    snapshot = msgspec.structs.replace(snapshot, groups=groups)
    found = search(snapshot, offers(snapshot, {agent: {"best": 100.0 if agent in "ab" else 1.0} for agent in "abcd"}))
    assert found.plan.hosts == {"a": "old", "b": "old", "c": "best", "d": "best"} and found.complete
    assert found.stuck == {"pair": ("best has not enough memory for all",)}


def test_rules_that_cannot_be_kept_are_named() -> None:
    rules = (Atomic(("x", "y")), Exclusion(("x", "y")))
    snapshot = scene([host("a"), host("b")], {"x": "a", "y": "a"}, rules=rules)
    found = search(snapshot, offers(snapshot, {agent: {"a": 1.0, "b": 1.0} for agent in "xy"}))
    why = "its rules contradict each other: x, y must be together; x, y must be apart"
    assert found.stuck == {"group": (why,)} and found.complete


def test_agents_without_a_place_are_named() -> None:
    snapshot = scene([host("a")], {"x": "a", "y": "a"})
    found = search(snapshot, offers(snapshot, {"x": {"a": 1.0}}))
    why = ("there is no place for y",)
    assert found == Search(Plan({"x": "a", "y": "a"}, (), 0.0), 0, True, 0.0, (), {"group": why})
    unknown = msgspec.structs.replace(snapshot, residents=snapshot.residents[:1])
    found = search(unknown, offers(unknown, {"x": {"a": 1.0}}))
    assert found.plan.hosts == {"x": "a"} and found.stuck == {"group": ("nobody knows where y is",)}


def test_a_policy_that_offers_what_is_not_trusted_is_not_followed() -> None:
    snapshot = scene([host("a"), host("b", revoked="gone")], {"x": "a"})
    found = search(snapshot, offers(snapshot, {"x": {"a": 1.0, "b": 9.0, "c": 9.0}}))
    assert found.plan.hosts == {"x": "a"}
    assert found.obstacles == (
        "the policy offered b to x: not trusted: gone",
        "the policy offered c to x: it is not in the snapshot",
    )


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_no_score_is_no_offer(score: float) -> None:
    snapshot = scene([host("a"), host("b")], {"x": "a"})
    found = search(snapshot, offers(snapshot, {"x": {"a": 1.0, "b": score}}))
    assert found.plan.hosts == {"x": "a"} and found.obstacles == (f"the policy offered b to x: {score} is no score",)


def test_an_agent_in_two_groups_and_offers_for_strangers() -> None:
    snapshot = scene([host("a")], {"x": "a"})
    offered = offers(snapshot, {"x": {"a": 1.0}})
    twice = msgspec.structs.replace(snapshot, groups=(Group("one", ("x",)), Group("two", ("x",))))
    with pytest.raises(Misuse, match="x is in the groups one and two; take it out of one of them"):
        search(twice, offered)
    stranger = Offers(offered.candidates | {"stranger": offered.candidates["x"]})
    assert search(snapshot, stranger) == search(snapshot, offered)
    again = Offers({"x": offered.candidates["x"] * 2})
    assert search(snapshot, again).obstacles == ("the policy offered a to x: it did so before",)


def hard_case() -> tuple[Snapshot, Offers]:
    """Ten groups that all want the same hosts, where there is room for few; whole numbers of several resources."""
    agents = [f"a{i:02}" for i in range(30)]
    names = [f"h{i:02}" for i in range(12)]
    hosts = [host(name, advert=resources(memory_free=7 + i % 5, cpu_free=0.6)) for i, name in enumerate(names)]
    residents = [
        Resident(agent, "away", NOON, needs=Needs(least=Minima(memory=1 + i % 3, cpu_cores=0.25 * (1 + i % 4))))
        for i, agent in enumerate(agents)
    ]
    snapshot = scene([*hosts, host("away")], dict.fromkeys(agents, "away"), residents=residents)
    groups = tuple(
        Group(f"g{i // 3}", tuple(agents[i : i + 3]), (Exclusion(tuple(agents[i : i + 2])),)) for i in range(0, 30, 3)
    )
    scores = {
        agent: {name: 5.0 + ((i * 7 + j * 5) % 11) / 10 + j / 5 for j, name in enumerate(names)}
        for i, agent in enumerate(agents)
    }
    return msgspec.structs.replace(snapshot, groups=groups), offers(snapshot, scores)


def test_the_limit_of_work_is_kept_said_and_the_same_every_time() -> None:
    snapshot, offered = hard_case()
    found = search(snapshot, offered, work_limit=20_000)
    assert not found.complete and 0 < found.steps < 30_000
    assert wrong(snapshot, offered, found.plan.hosts, found.stuck) is None and not found.stuck
    assert found.plan.benefit < found.bound and 0.0 < found.gap < 0.05
    assert search(snapshot, offered, work_limit=20_000) == found
    nothing = search(snapshot, offered, work_limit=1)
    assert not nothing.complete and nothing.bound >= found.plan.benefit
    assert wrong(snapshot, offered, nothing.plan.hosts, nothing.stuck) is None


def test_the_order_of_what_comes_in_does_not_matter() -> None:
    snapshot, offered = hard_case()
    found = search(snapshot, offered, 5_000)
    turned = Offers({agent: places[::-1] for agent, places in reversed(offered.candidates.items())})
    assert search(snapshot, turned, 5_000).plan == found.plan


def test_many_agents_in_one_group() -> None:
    """As many as a group may have, apart by fours: deep, but no deeper than Python goes."""
    agents = [f"a{i:03}" for i in range(256)]
    names = [f"h{i}" for i in range(6)]
    rules = [Exclusion(tuple(agents[i : i + 4])) for i in range(0, 256, 4)]
    snapshot = scene([host(name) for name in names], dict.fromkeys(agents, "h0"), rules=rules, links=())
    scores = {agent: {name: float(6 - j) for j, name in enumerate(names)} for agent in agents}
    found = search(snapshot, offers(snapshot, scores), 100_000)
    assert not found.stuck and wrong(snapshot, offers(snapshot, scores), found.plan.hosts, {}) is None
    assert found.plan.benefit == 64 * (6 + 5 + 4 + 3) and found.gap < 0.05


def test_hostile_rules_are_too_many_and_others_are_planned() -> None:
    agents = [f"a{i:03}" for i in range(200)]
    names = [f"h{i:03}" for i in range(200)]
    rules = tuple(Exclusion(tuple(agents[:i] + agents[i + 1 :])) for i in range(200))
    snapshot = scene([host(name) for name in names], dict.fromkeys([*agents, "x"], "h000"), links=())
    groups = (Group("hostile", tuple(agents), rules), Group("other", ("x",)))
    snapshot = msgspec.structs.replace(snapshot, groups=groups)
    found = search(snapshot, offers(snapshot, {agent: {"h000": 1.0, "h001": 2.0} for agent in [*agents, "x"]}))
    why = "its rules name 39800 agents; that is more than can be planned on 200 hosts"
    assert found.stuck == {"hostile": (why,)} and found.plan.hosts["x"] == "h001"

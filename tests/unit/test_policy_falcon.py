"""Falcon's policy (Algorithm 2, corrected): who is a candidate, by which path, and what keeps agents where they are."""

import itertools
import math
import random
from typing import Any

import msgspec
import pytest

from ledger.errors import Misuse
from services.eds.explain import explain
from services.eds.offers import Candidate, Offers
from services.eds.planner import search
from services.eds.policies import POLICIES
from services.eds.policies.falcon import Falcon
from services.eds.rules import Atomic
from services.eds.snapshot import Link, Resident
from services.eds.weights import REFERENCE_RTT_MS, Weights
from services.eds.worth import Worth
from services.rms.resources import Minima, Needs, Resources
from tests.helpers.edge_scenes import GIB, NOON, host, mesh, random_scene, resources, scene

FACES = {"user": "a", "face": "a"}
TOGETHER = (Atomic(("user", "face")),)


def places(offered: Offers, agent: str) -> dict[str, Candidate]:
    return {place.host: place for place in offered.candidates[agent]}


def reasons(offered: Offers, agent: str) -> dict[str, str]:
    return {place.host: place.reason for place in offered.rejected if place.agent == agent}


def test_the_group_follows_its_user_as_one() -> None:
    hosts = [host(name) for name in "abcd"]
    snapshot = scene(hosts, FACES, rules=TOGETHER, access={"a": 60, "b": 40, "c": 3, "d": 60})
    offered = Falcon().offers(snapshot)
    found = search(snapshot, offered)
    assert found.plan.hosts == {"user": "c", "face": "c"}
    assert [move.path for move in found.plan.moves] == [("a", "c"), ("a", "c")]


def test_a_revoked_host_is_rejected_with_the_ledgers_reason() -> None:
    why = "delta is revoked since height 42: it lost its key"
    hosts = [host("a"), host("b"), host("c", revoked=why)]
    snapshot = scene(hosts, FACES, rules=TOGETHER, access={"a": 60, "b": 40, "c": 1})
    offered = Falcon().offers(snapshot)
    for agent in FACES:
        assert reasons(offered, agent) == {"c": f"not trusted: {why}"}
        assert set(places(offered, agent)) == {"a", "b"}


def test_no_path_leads_through_a_revoked_host() -> None:
    line = [*mesh("ab"), *mesh("bc")]
    through_b = scene([host("a"), host("b"), host("c")], {"x": "a"}, links=tuple(line))
    assert places(Falcon().offers(through_b), "x")["c"].path == ("a", "b", "c")
    cut = scene([host("a"), host("b", revoked="gone"), host("c")], {"x": "a"}, links=tuple(line))
    assert reasons(Falcon().offers(cut), "x")["c"].startswith("no link to it was measured, and no path")


def test_an_agent_may_leave_a_host_that_was_revoked_but_not_stay() -> None:
    snapshot = scene([host("a", revoked="gone"), host("b")], {"x": "a"})
    offered = Falcon(minimum_stay=1e9).offers(snapshot)
    assert set(places(offered, "x")) == {"b"}
    assert reasons(offered, "x") == {"a": "not trusted: gone"}


def test_the_score_of_a_direct_hop_is_equation_4() -> None:
    policy = Falcon(weights=Weights(0.4, 0.3, 0.2, 0.1))
    hosts = [
        host("a", advert=resources(bandwidth=100.0), task_weight=3.0),
        host("b", advert=resources(cpu_free=0.25, memory_free=2 * GIB, bandwidth=300.0), experience=0.75),
    ]
    snapshot = scene(
        hosts,
        {"x": "a"},
        access={"a": 80, "b": REFERENCE_RTT_MS},
        links=(Link("a", "b", REFERENCE_RTT_MS, 0.5),),
        residents=[Resident("x", "a", 0.0, task_weight=2.0)],
    )
    place = places(policy.offers(snapshot), "x")["b"]
    distance = 200.0 / (100.0 + 300.0) * (1 + 1) / 0.5
    worth = 0.4 * 0.5 + 0.3 * 0.25 + 0.2 * 0.25 + 0.1 * 0.75
    assert place.distance == pytest.approx(distance)
    assert place.score == pytest.approx(worth * (2.0 + 3.0) / distance)


def test_a_node_below_the_task_threshold_holds_its_agents_back() -> None:
    hosts = [host("a", task_weight=1.0), host("b", advert=resources(cpu_free=1.0))]
    snapshot = scene(hosts, {"x": "a"})
    assert "b" in places(Falcon(task_threshold=1.0).offers(snapshot), "x")
    held = Falcon(task_threshold=1.1).offers(snapshot)
    assert set(places(held, "x")) == {"a"}
    assert reasons(held, "x")["b"] == "Q = 0 is not above QT = 0.1, and no path is"


def test_a_hop_is_direct_only_above_the_threshold_else_the_best_path_is_taken() -> None:
    links = (*mesh("ab", 1.0), *mesh("bc", 1.0), *mesh("ac", 2000.0))
    snapshot = scene([host(name) for name in "abc"], {"x": "a"}, links=links)
    direct = places(Falcon(weight_threshold=0.01).offers(snapshot), "x")["c"]
    assert direct.path == ("a", "c") and direct.score > 0.01
    around = places(Falcon(weight_threshold=0.2).offers(snapshot), "x")["c"]
    assert around.path == ("a", "b", "c")
    assert reasons(Falcon(weight_threshold=100.0).offers(snapshot), "x")["c"].endswith("and no path is")


def test_a_paths_benefit_is_one_over_the_sum_of_its_costs_and_the_best_one_is_found() -> None:
    rtts = {"ab": 5.0, "bd": 5.0, "ac": 9.0, "cd": 0.5, "bc": 2.0}
    links = tuple(link for pair, rtt in rtts.items() for link in mesh(pair, rtt))
    free = {"a": 0.5, "b": 0.1, "c": 0.9, "d": 0.5}
    hosts = [host(name, task_weight=2.0, advert=resources(cpu_free=part)) for name, part in free.items()]
    snapshot = scene(hosts, {"x": "a"}, links=links)
    found = places(Falcon().offers(snapshot), "x")["d"]
    q = {}  # of each hop, as the policy itself gives it for an agent that starts there
    for start in "abc":
        from_there = places(Falcon().offers(scene(hosts, {"x": start}, links=links)), "x")
        q |= {(start, name): place.score for name, place in from_there.items() if place.path == (start, name)}
    benefits = {
        path: 1.0 / sum(1.0 / q[hop] for hop in itertools.pairwise(path))
        for path in (("a", "b", "d"), ("a", "c", "d"), ("a", "b", "c", "d"), ("a", "c", "b", "d"))
    }
    best = max(benefits, key=lambda path: benefits[path])
    assert found.path == best and found.score == pytest.approx(benefits[best])
    assert found.score < min(q[hop] for hop in itertools.pairwise(best))


def test_step_t_bounds_a_path() -> None:
    links = tuple(link for pair in ("ab", "bc", "cd") for link in mesh(pair))
    snapshot = scene([host(name) for name in "abcd"], {"x": "a"}, links=links)
    assert places(Falcon(max_steps=3).offers(snapshot), "x")["d"].path == ("a", "b", "c", "d")
    assert reasons(Falcon(max_steps=2).offers(snapshot), "x")["d"].endswith("StepT = 2 hops leads there")
    # Where the best path is too long, a shorter one is taken though it is worse.
    around = (*links, Link("b", "d", 60.0, 0.0))
    snapshot = scene([host(name) for name in "abcd"], {"x": "a"}, links=around)
    assert places(Falcon(max_steps=3).offers(snapshot), "x")["d"].path == ("a", "b", "c", "d")
    assert places(Falcon(max_steps=2).offers(snapshot), "x")["d"].path == ("a", "b", "d")


def test_a_small_gain_does_not_move_anybody() -> None:
    hosts = [host("a", advert=resources(cpu_free=0.50)), host("b", advert=resources(cpu_free=0.55))]
    snapshot = scene(hosts, FACES, rules=TOGETHER, links=mesh("ab", 0.0), access={"a": 5, "b": 5})
    for gain, moves in ((1.0, 2), (1.2, 0)):
        found = search(snapshot, Falcon(gain=gain).offers(snapshot))
        assert len(found.plan.moves) == moves


def test_two_near_equal_hosts_do_not_play_ping_pong() -> None:
    """Noise of 5 % on both sides: with the gain nobody moves, without it somebody does (the broken twin)."""

    def moves(gain: float) -> int:
        count, where = 0, "a"
        for turn in range(20):
            free = {"a": 0.5 + 0.025 * (-1) ** turn, "b": 0.5 - 0.025 * (-1) ** turn}
            hosts = [host(name, advert=resources(cpu_free=part)) for name, part in free.items()]
            snapshot = scene(hosts, {"x": where}, links=mesh("ab", 0.0))
            found = search(snapshot, Falcon(gain=gain, weights=Weights(0, 1, 0, 0)).offers(snapshot))
            count, where = count + len(found.plan.moves), found.plan.hosts["x"]
        return count

    assert moves(gain=1.2) == 0
    assert moves(gain=1.0) > 10


def test_on_a_closed_host_staying_is_the_last_choice_and_nobody_goes_there() -> None:
    closed = "it is being drained"
    shut_down, small = host("a", advert=resources(cpu_free=1.0)), host("b", advert=resources(cpu_free=0.01))
    hosts = [msgspec.structs.replace(shut_down, closed=closed), small, host("c")]
    shut = scene(hosts, {"x": "a", "y": "b"}, links=tuple(mesh("abc", rtt_ms=80.0)))
    offered = Falcon(minimum_stay=1e9, weight_threshold=0.0).offers(shut)
    assert places(offered, "x")["a"].score == 0.0 < places(offered, "x")["b"].score  # however long it was there
    assert reasons(offered, "y")["a"] == closed
    found = search(shut, offered)
    assert found.plan.hosts == {"x": "c", "y": "b"}
    alone = scene(hosts[:1], {"x": "a"})
    offered = Falcon().offers(alone)
    found = search(alone, offered)
    assert "the last choice" in places(offered, "x")["a"].note and found.plan is not None and not found.plan.moves


def test_the_minimum_stay_holds_for_its_time_and_says_when_it_is_over() -> None:
    def offered(at: float) -> Offers:
        came = [Resident("x", "a", NOON)]
        snapshot = scene([host("a"), host("b")], {"x": "a"}, access={"a": 90, "b": 1}, residents=came, at=at)
        return Falcon(minimum_stay=5.0).offers(snapshot)

    early = offered(NOON + 4.5)
    assert set(places(early, "x")) == {"a"} and early.again_at == {"x": NOON + 5.0}
    assert reasons(early, "x")["b"] == "it stays at least 5 s; it has been there for 4.5 s"
    late = offered(NOON + 5.0)
    assert set(places(late, "x")) == {"a", "b"} and late.again_at == {}


def test_hosts_without_advert_or_room_are_rejected_with_the_shortage() -> None:
    hosts = [host("a"), host("b", advert=None), host("c", advert=resources(memory_free=GIB))]
    needs = [Resident("x", "a", 0.0, needs=Needs(least=Minima(memory=2 * GIB)))]
    why = reasons(Falcon().offers(scene(hosts, {"x": "a"}, residents=needs)), "x")
    assert why["b"] == "no fresh advert of its resources"
    assert why["c"] == f"memory: {2 * GIB} bytes needed, {GIB} free"


def test_a_host_that_the_access_point_did_not_measure_has_no_network_term() -> None:
    snapshot = scene([host(name) for name in "abc"], {"x": "a"}, access={"a": REFERENCE_RTT_MS, "b": REFERENCE_RTT_MS})
    offered = places(Falcon().offers(snapshot), "x")
    assert offered["b"].terms.network == 0.5 and offered["c"].terms.network == 0.0


def test_the_outcome_is_the_same_for_the_same_snapshot_in_any_order_of_links() -> None:
    hosts = [host(name) for name in "abcd"]
    links = mesh("abcd")
    one = Falcon().offers(scene(hosts, FACES, links=links))
    assert one == Falcon().offers(scene(hosts, FACES, links=tuple(reversed(links))))


def test_moves_that_went_well_attract_and_failures_repel() -> None:
    def score(experience: float) -> float:
        snapshot = scene([host("a"), host("b", experience=experience)], {"x": "a"})
        return places(Falcon().offers(snapshot), "x")["b"].score

    assert score(0.1) < score(0.5) < score(0.9)


def test_a_load_ratio_in_place_of_what_is_free_would_be_caught() -> None:
    """The paper's own reading attracts agents to loaded hosts."""

    def best(b: Resources, c: Resources) -> str:
        hosts = [host("a"), host("b", advert=b), host("c", advert=c)]
        snapshot = scene(hosts, {"x": "a"}, links=mesh("abc", 0.0))
        found = search(snapshot, Falcon().offers(snapshot))
        return found.plan.hosts["x"]

    idle, loaded = resources(cpu_free=0.9), resources(cpu_free=0.1)
    assert best(idle, loaded) == "b"
    assert best(loaded, idle) == "c"


def test_neither_qt_nor_wt_nor_the_minimum_stay_holds_an_agent_that_must_leave() -> None:
    """The only way out is a hop that nobody would take who may stay."""
    links = tuple(mesh("ab", rtt_ms=900.0, loss=0.5))
    policy = Falcon(weight_threshold=0.5, task_threshold=9.0, minimum_stay=1e9)
    light = host("a", task_weight=1.0)
    held = policy.offers(scene([light, host("b")], {"x": "a"}, links=links))
    assert set(places(held, "x")) == {"a"}
    for leaving in (msgspec.structs.replace(light, closed="it is being drained"), host("a", revoked="gone")):
        snapshot = scene([leaving, host("b")], {"x": "a"}, links=links)
        found = search(snapshot, policy.offers(snapshot))
        assert found.plan is not None and found.plan.hosts == {"x": "b"}
    dead = scene([leaving, host("b")], {"x": "a"}, links=mesh("ab", loss=1.0))
    assert policy.offers(dead).candidates["x"] == ()  # a link that carries nothing is no way out


def test_agents_prefer_what_they_wish_for() -> None:
    many, idle = resources(cpu_free=0.5), msgspec.structs.replace(resources(cpu_free=1.0), cores=1)
    hosts = [host("a", advert=resources(cpu_free=0.0)), host("b", advert=many), host("c", advert=idle)]
    for prefers, best in ((Minima(), "c"), (Minima(cpu_cores=2.0), "b")):
        wishful = [Resident("x", "a", 0.0, needs=Needs(prefers=prefers))]
        offered = Falcon(weights=Weights(0, 1, 0, 0)).offers(scene(hosts, {"x": "a"}, residents=wishful))
        assert offered.candidates["x"][0].host == best


def test_what_operators_state_counts_by_its_weight_and_never_breaks_a_decision() -> None:
    hosts = [host("a"), host("b"), host("c")]
    hosts[1:] = [msgspec.structs.replace(each, facts={"solar": 0.5 * i}) for i, each in enumerate(hosts[1:])]
    mad = msgspec.structs.replace(host("d"), facts={"solar": math.nan})
    weights = Weights(0.4, 0.2, 0.2, 0.1, {"solar": 0.1})
    offered = places(Falcon(weights=weights).offers(scene([*hosts, mad], {"x": "a"})), "x")
    assert offered["c"].score > offered["b"].score == offered["d"].score
    snapshot = scene(hosts, {"x": "a"})
    shown = Falcon(weights=weights).offers(snapshot)
    explained = explain("1", "", {}, snapshot, shown, search(snapshot, shown))
    (row,) = [row for row in explained.rows() if row[1] == "c"]
    assert dict(zip(explained.columns, row, strict=True))["solar"] == "0.50"
    same = places(Falcon().offers(scene([*hosts, mad], {"x": "a"})), "x")
    assert same["c"].score == same["b"].score == same["d"].score


@pytest.mark.parametrize("seed", range(30))
def test_in_any_scene_what_is_offered_keeps_the_contract(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    hosts, links, residents = random_scene(rng)
    agents = {resident.agent: resident.host for resident in residents}
    access = {each.host: rng.uniform(0, 90) for each in hosts if rng.random() < 0.8} if rng.random() < 0.5 else None
    snapshot = scene(hosts, agents, residents=residents, links=links, access=access)
    policy = Falcon(max_steps=rng.randint(1, 4), weight_threshold=rng.choice([0.0, 0.1, 0.5]))
    offered = policy.offers(snapshot)
    by_name = {each.host: each for each in hosts}
    linked = {(link.source, link.destination) for link in links}
    for resident in residents:
        candidates, refused = places(offered, resident.agent), reasons(offered, resident.agent)
        assert candidates.keys() | refused.keys() == by_name.keys() and not candidates.keys() & refused.keys()
        for name, place in candidates.items():
            assert place.path[0] == resident.host and place.path[-1] == name and len(place.path) - 1 <= policy.max_steps
            assert all(snapshot.unfit(resident, by_name[step]) is None for step in place.path[1:])
            assert all(hop in linked for hop in itertools.pairwise(place.path))
            assert place.score >= 0.0 and (name == resident.host or place.score > 0.0)
        if by_name[resident.host].closed and resident.host in candidates:
            assert all(
                candidates[resident.host].score < place.score for n, place in candidates.items() if n != resident.host
            )
        # Agents that share a view get what they would get alone.
        alone = scene(hosts, {resident.agent: resident.host}, residents=[resident], links=links, access=access)
        assert policy.offers(alone).candidates[resident.agent] == offered.candidates[resident.agent]


def test_a_policy_that_forgets_who_is_unfit_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin of the contract above: its paths lead through hosts that are closed or not trusted."""
    honest = Worth.neighbours

    def forgetful(self: Worth, source: str) -> list[tuple[str, float]]:
        known, self.unfit = self.unfit, dict.fromkeys(self.unfit)
        self.unfit |= {name: why for name, why in known.items() if why and "advert" in why}
        found = honest(self, source)
        self.unfit = known
        return found

    monkeypatch.setattr(Worth, "neighbours", forgetful)
    with pytest.raises(AssertionError):
        for seed in range(60):
            test_in_any_scene_what_is_offered_keeps_the_contract(seed)


@pytest.mark.parametrize(
    "bad",
    [
        {"gain": 0.9},
        {"gain": math.nan},
        {"max_steps": 0},
        {"task_threshold": -1.0},
        {"weight_threshold": math.nan},
        {"minimum_stay": -1.0},
    ],
)
def test_settings_that_cannot_be_are_misuse(bad: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        Falcon(**bad)


def test_a_policy_is_chosen_by_name_and_set_from_plain_data() -> None:
    settings = {"weights": {"network": 1.0, "cpu": 0.0, "memory": 0.0, "experience": 0.0}, "gain": 1.5}
    policy = msgspec.convert(settings, POLICIES["falcon"])
    assert policy == Falcon(weights=Weights(1.0, 0.0, 0.0, 0.0), gain=1.5)

"""The policies that Falcon is compared with, and what every policy of the table must keep to."""

import random

import pytest
from msgspec.structs import replace

from services.eds.planner import search
from services.eds.policies import POLICIES
from services.eds.snapshot import Snapshot
from tests.helpers.edge_scenes import host, random_scene, resources, scene

NEAR_C = {"a": 40.0, "b": 20.0, "c": 2.0}


def town(**cpu_free: float) -> Snapshot:
    """The agent is on `a`, the user near `c`."""
    hosts = [host(name, advert=resources(cpu_free=cpu_free.get(name, 0.5))) for name in "abc"]
    return scene(hosts, {"x": "a"}, access=NEAR_C)


def chosen(policy: str, snapshot: Snapshot) -> str:
    return search(snapshot, POLICIES[policy]().offers(snapshot)).plan.hosts["x"]


@pytest.mark.parametrize(
    ("policy", "even", "c_is_loaded"),
    [("nearest", "c", "c"), ("always-best", "c", "b"), ("never-move", "a", "a"), ("falcon", "c", "b")],
)
def test_where_each_sends_an_agent(policy: str, even: str, c_is_loaded: str) -> None:
    assert chosen(policy, town()) == even
    assert chosen(policy, town(a=0.0, b=1.0, c=0.0)) == c_is_loaded


def test_greedy_is_falcon_without_what_holds_it_back() -> None:
    hosts = [host("a", advert=resources(cpu_free=0.50)), host("b", advert=resources(cpu_free=0.60))]
    snapshot = scene(hosts, {"x": "a"}, access={"a": 5, "b": 5})
    just_came = replace(snapshot, residents=(replace(snapshot.residents[0], since=snapshot.at),))
    assert [chosen(policy, just_came) for policy in ("greedy", "falcon")] == ["b", "a"]
    assert chosen("falcon", snapshot) == "a"  # the gain holds it where the minimum stay does not


def test_nearest_leaves_those_who_follow_nobody_where_they_are() -> None:
    snapshot = scene([host("a"), host("b")], {"x": "a"})
    assert chosen("nearest", snapshot) == "a"


@pytest.mark.parametrize("policy", POLICIES)
def test_any_policy_keeps_the_contract_in_any_scene(policy: str) -> None:
    for seed in range(30):
        chance = random.Random(seed)  # noqa: S311
        hosts, links, residents = random_scene(chance)
        agents = {resident.agent: resident.host for resident in residents}
        access = {each.host: chance.uniform(0, 90) for each in hosts}
        snapshot = scene(hosts, agents, residents=residents, links=links, access=access)
        offers = POLICIES[policy]().offers(snapshot)
        by_name = {each.host: each for each in hosts}
        for resident in residents:
            places = {place.host: place for place in offers.candidates[resident.agent]}
            refused = {each.host for each in offers.rejected if each.agent == resident.agent}
            assert places.keys() | refused == by_name.keys() and not places.keys() & refused, seed
            assert all(snapshot.unfit(resident, by_name[name]) is None for name in places), seed
            assert all(place.score >= 0.0 and place.path[0] == resident.host for place in places.values()), seed
            if resident.host in places and by_name[resident.host].closed:
                others = [place.score for name, place in places.items() if name != resident.host]
                assert all(score > places[resident.host].score for score in others), seed

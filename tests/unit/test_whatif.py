"""Decisions that are saved, and taken again with something changed."""

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ledger.errors import Misuse
from services.eds import whatif
from services.eds.alterations import altered
from services.eds.explain import Explanation
from services.eds.picture import picture
from services.eds.planner import PLANNERS
from services.eds.policies import POLICIES
from services.eds.policies.falcon import Falcon
from services.eds.snapshot import Snapshot
from tests.helpers.decisions import FACE, USER, city, crowd, decided


def plain(explained: Explanation) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(whatif.save(explained))
    return data


def again(snapshot: Snapshot) -> dict[str, str]:
    return whatif.decide(snapshot, Falcon(), "what if").chosen


@pytest.mark.parametrize("snapshot", [city(), crowd(12, 5, 3)], ids=["city", "crowd"])
def test_a_saved_decision_is_taken_again_as_it_was(snapshot: Snapshot) -> None:
    explained = decided(snapshot)
    saved = whatif.read(whatif.save(explained), "f")
    policy = whatif.policy_of(saved.policy["name"], saved.policy["settings"], POLICIES)
    same = whatif.decide(saved.snapshot, policy, saved.why, saved.decision)
    assert saved.snapshot == snapshot and saved.chosen == explained.chosen
    assert msgspec.to_builtins(same) == msgspec.to_builtins(explained)
    assert whatif.differences(explained, same) == []


def test_people_can_read_and_change_it() -> None:
    text = whatif.save(decided(city())).decode()
    assert text.startswith('{\n "format": "agentplatform-decision-1",\n') and text.endswith("}\n")
    assert '"cpu_free": 0.5' in text


def test_a_change_of_one_number_changes_the_decision_and_says_what() -> None:
    snapshot, before = city(), decided(city())
    assert again(snapshot) == {USER: "east", FACE: "east"}
    after = whatif.decide(altered(snapshot, ["access.ada:south.rtt_ms=1"]), Falcon(), "what if")
    assert after.chosen == {USER: "south", FACE: "south"}
    found = whatif.differences(before, after)
    assert [each["what"] for each in found] == ["host", "host", "Q on south", "Q on south"]
    assert [(each["agent"], each["before"], each["after"]) for each in found[:2]] == [
        (FACE, "east", "south"),
        (USER, "east", "south"),
    ]


@pytest.mark.parametrize(
    ("changes", "host"),
    [
        ({"without": ["east"]}, "north"),
        ({"sets": ["host.east.trusted=false"]}, "north"),
        ({"sets": ["host.east.closed=it is being drained"]}, "north"),
        ({"sets": ["host.east.experience=0", "host.east.cpu_free=0", "host.east.memory_free=0"]}, "north"),
        ({"sets": ["host.west.trusted=true"]}, "west"),
        ({"sets": ["access.ada:north.rtt_ms=1"]}, "north"),
        ({"sets": ["link.north:east.rtt_ms=5000", "link.north:south.rtt_ms=5000"]}, "north"),
        ({"adds": ["lab=east"], "sets": ["host.lab.cpu_free=1"]}, "lab"),
        ({"adds": ["lab.example.org=east"], "sets": ["host.lab.example.org.cpu_free=1.0"]}, "lab.example.org"),
        ({"adds": ["lab=east"], "without": ["east"]}, "lab"),
    ],
)
def test_what_if(changes: dict[str, list[str]], host: str) -> None:
    assert again(altered(city(), **changes)) == {USER: host, FACE: host}


def test_what_was_not_measured_can_be_set_too() -> None:
    links = altered(city(), ["link.north:east.bandwidth=12.5"]).links
    assert {(link.source, link.destination) for link in links if link.bandwidth is not None} == {("north", "east")}
    with pytest.raises(Misuse, match="bandwidth cannot be 'wide'"):
        altered(city(), ["link.north:east.bandwidth=wide"])


def test_who_lives_on_a_host_that_is_left_out_leaves_it() -> None:
    assert again(altered(city(), ["access.ada:north.rtt_ms=1"], ["north"]))[USER] != "north"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sets": ["host.mars.cpu_free=1"]}, "no host 'mars' in the snapshot; there are: east"),
        ({"sets": ["host.east.cpu_free=2"]}, "must be between 0 and 1"),
        ({"sets": ["host.east.cpu_free=nan"]}, "cpu_free cannot be 'nan'"),
        ({"sets": ["host.east.experience=nan"]}, "it is between 0 and 1|is a number"),
        ({"sets": ["host.east.experience=1.5"]}, "it is between 0 and 1"),
        ({"sets": ["host.east.task_weight=-1"]}, "not below 0"),
        ({"sets": ["host.east.task_weight=inf"]}, "a number"),
        ({"sets": ["host.east.cores=many"]}, "cores cannot be 'many'"),
        ({"sets": ["host.east.host=x"]}, "no 'host' to change"),
        ({"sets": ["host.east.verdict=x"]}, "no 'verdict' to change there; there are: cpu_free"),
        ({"sets": ["link.north:mars.rtt_ms=1"]}, "no link from 'north' to 'mars'"),
        ({"sets": ["link.north:east.loss=2"]}, "the loss of a link"),
        ({"sets": ["access.bob:east.rtt_ms=1"]}, "users: ada"),
        ({"sets": ["access.ada:east.rtt_ms=-1"]}, "cannot be"),
        ({"sets": ["cpu_free=1"]}, "write it as host.NAME"),
        ({"sets": ["host.east.cpu_free"]}, "write it as host.NAME"),
        ({"adds": ["lab"]}, "write NAME=HOST"),
        ({"adds": ["east=north"]}, "another name"),
        ({"adds": ["lab=mars"]}, "no host 'mars'"),
        ({"without": ["mars"]}, "no host 'mars'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(changes: dict[str, list[str]], words: str) -> None:
    with pytest.raises(Misuse, match=words):
        altered(city(), **changes)


def test_a_host_without_an_advert_has_nothing_to_change() -> None:
    snapshot = city()
    silent = replace(snapshot, hosts=(replace(snapshot.hosts[0], resources=None), *snapshot.hosts[1:]))
    with pytest.raises(Misuse, match="no fresh advert"):
        altered(silent, ["host.east.cpu_free=1"])


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def bend(data: dict[str, Any]) -> None:
        place: Any = data
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return bend


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (_set("format", to="agentplatform-decision-9"), "decision-9.*not 'agentplatform-decision-1'.*why AGENT --save"),
        (_set("format", to=None), "no saved decision"),
        (_set("moon", to=1), "unknown field `moon`"),
        (_set("snapshot", "moon", to=1), "unknown field `moon`"),
        (_set("snapshot", "hosts", 0, "moon", to=1), "unknown field `moon`"),
        (_set("snapshot", "hosts", 0, "resources", "cpu_free", to=7), "between 0 and 1"),
        (_set("snapshot", "hosts", 0, "experience", to=7), "between 0 and 1"),
        (_set("snapshot", "hosts", 0, "experience", to="x"), "Expected `float`"),
        (_set("snapshot", "hosts", 0, "host", to="north"), "the host 'north' twice"),
        (_set("snapshot", "links", 0, "destination", to="mars"), "one of them is no host"),
        (_set("snapshot", "links", 0, "rtt_ms", to=-1), "not below 0"),
        (_set("snapshot", "residents", 0, "agent", to="x"), "nobody says where"),
        (_set("snapshot", "residents", to=[]), "nobody says where"),
        (_set("snapshot", "groups", 0, "agents", to=[USER, USER]), "twice"),
        (_set("snapshot", "residents", 0, "task_weight", to=-4), "not below 0"),
    ],
)
def test_a_file_that_was_damaged_says_where(bend: Callable[[dict[str, Any]], None], words: str) -> None:
    data = plain(decided(city()))
    bend(data)
    with pytest.raises(Misuse, match=words) as refused:
        whatif.read(json.dumps(data).encode(), "saved.json")
    assert str(refused.value).startswith("saved.json ")


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"NaN", b"\xff\xfe", b"7", b'"x"', b"[" * 5000, b'{"format": NaN}', b'{"format": [[1]]}'],
)
def test_what_is_no_json_or_no_decision_is_refused(raw: bytes) -> None:
    with pytest.raises(Misuse, match=r"saved.json is no .*agentplatform why|saved.json is a decision of"):
        whatif.read(raw, "saved.json")


def test_numbers_that_are_none_do_not_pass() -> None:
    text = whatif.save(decided(city())).decode()
    for number in ("NaN", "Infinity", "1e999"):
        with pytest.raises(Misuse, match=r"no JSON|damaged"):
            whatif.read(text.replace('"experience": 0.5', f'"experience": {number}').encode(), "f")


def test_files_and_pictures_beyond_the_limits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = whatif.save(decided(city()))
    monkeypatch.setattr(whatif, "MAX_BYTES", len(raw) - 1)
    with pytest.raises(Misuse, match="at most"):
        whatif.read(raw, "f")
    monkeypatch.undo()
    monkeypatch.setattr(whatif, "MAX_HOSTS", 3)
    with pytest.raises(Misuse, match="4 hosts; at most 3"):
        whatif.read(raw, "f")


def test_a_policy_is_found_by_either_name_and_its_settings_are_checked() -> None:
    assert whatif.policy_of("falcon", {}, POLICIES) == whatif.policy_of("Falcon", {}, POLICIES) == Falcon()
    for name, settings, words in (
        ("nope", {}, "no policy 'nope'; there are: falcon"),
        ("falcon", {"moon": 1}, "no such settings"),
        ("falcon", {"gain": 0.5}, "gain"),
        ("falcon", {"weights": {"network": 0.9}}, "sum to"),
    ):
        with pytest.raises(Misuse, match=words):
            whatif.policy_of(name, settings, POLICIES)


def test_each_policy_and_planner_decides_about_a_saved_snapshot() -> None:
    for name in POLICIES:
        for planner in PLANNERS:
            explained = whatif.decide(
                city(), whatif.policy_of(name, {}, POLICIES), "what if", solve=whatif.planner_of(planner)
            )
            assert explained.chosen.keys() == {USER, FACE}
            assert explained.chosen[USER] == explained.chosen[FACE] != "west"
            assert picture(explained).startswith("<svg ") and explained.rows()
    with pytest.raises(Misuse, match="no planner 'moon'; there are: exact, greedy"):
        whatif.planner_of("moon")


def test_one_that_was_too_large_to_be_kept_whole_says_so() -> None:
    with pytest.raises(Misuse, match="too large to be kept; try: agentplatform decide"):
        whatif.save(decided(city()).shortened())


WEIRD: tuple[Any, ...] = (None, -1, 0, 1e300, -1e300, 2**63, "", "x", "\x00\u202e", [], {}, True, [[]], {"a": 1})


def test_whatever_stands_in_a_file_it_is_refused_or_decided_about() -> None:
    """One value of a whole file is something else, at a place that is drawn from a seed; nothing but Misuse comes."""
    draw, text = random.Random(20), whatif.save(decided(city())).decode()  # noqa: S311 - a seed
    refused = 0
    for _ in range(300):
        data: Any = json.loads(text)
        place, key = data, "format"
        while True:  # walks down to somewhere
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw.choice(keys)
            below = place[key]
            if not isinstance(below, dict | list) or not below or draw.random() < 0.2:
                break
            place = below
        place[key] = weird = draw.choice(WEIRD)
        try:
            saved = whatif.read(json.dumps(data).encode(), "f")
            policy = whatif.policy_of(str(saved.policy.get("name")), saved.policy.get("settings", {}), POLICIES)
            picture(whatif.decide(saved.snapshot, policy, saved.why))
        except Misuse:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{key} = {weird!r} in {place!s:.200}") from error
    assert refused > 150

"""Triggers: measurements and times in, events out; rows of data, which are read strictly."""

import math
import random
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentplatform.settings import Decisions
from ledger.errors import Misuse
from services.eds import triggers
from services.eds.events import AgentTold, LinkChanged, Overload
from services.eds.limits import Limits
from services.eds.policies import POLICIES
from services.eds.triggers import DEFAULTS, Triggers, read
from services.eds.whatif import policy_of

A = ("a",)


def machine(**row: Any) -> Triggers:
    return Triggers(read([{"measure": "cpu_free", "below": 0.1, "debounce": 0.0, **row}]))


def fired(machine: Triggers, *values: float, step: float = 1.0, measure: str = "cpu_free") -> list[float]:
    """The times at which it fired, when it measured these values one after the other."""
    return [at * step for at, value in enumerate(values) if machine.measured(measure, A, value, at * step)]


def test_it_fires_when_the_threshold_has_been_passed_for_long_enough_and_once() -> None:
    lasting = machine(**{"for": 3.0})
    assert fired(lasting, 0.05, 0.05, 0.2, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05) == [6.0]
    (event,) = machine().measured("cpu_free", A, 0.05, 0.0)
    assert event.event == Overload("a", "cpu", 0.0)
    assert fired(machine(), 0.1, 0.11, 0.5) == []  # the threshold itself is not past it


def test_above_and_below_are_two_sides() -> None:
    slow = Triggers(read([{"measure": "rtt_ms", "above": 30.0}]))
    assert slow.measured("rtt_ms", ("a", "b"), 30.0, 0.0) == []
    (found,) = slow.measured("rtt_ms", ("a", "b"), 31.0, 1.0)
    assert found.event == LinkChanged("a", "b", "rtt_ms", 31.0) and found.subject == ("a", "b")


def test_it_is_armed_again_only_when_the_value_has_come_back_as_far_as_clear_says() -> None:
    assert fired(machine(), 0.05, 0.15, 0.05, 0.15, 0.05) == [0.0, 2.0, 4.0]
    assert fired(machine(clear=0.3), 0.05, 0.15, 0.05, 0.29, 0.05, 0.3, 0.05) == [0.0, 6.0]


def test_two_firings_for_one_subject_are_at_least_the_debounce_apart_and_none_is_lost() -> None:
    flapping = [0.05, 0.5] * 10
    assert fired(machine(debounce=5.0), *flapping) == [0.0, 6.0, 12.0, 18.0]
    assert fired(machine(debounce=5.0), 0.05, 0.5, 0.05, 0.05, 0.05, 0.05, 0.05) == [0.0, 5.0]  # it lasts: told then


def test_subjects_and_rows_have_nothing_to_do_with_each_other() -> None:
    both = Triggers(
        read(
            [{"measure": "cpu_free", "below": 0.1, "for": 2.0}, {"measure": "cpu_free", "below": 0.3, "groups": "all"}]
        )
    )
    first = both.measured("cpu_free", A, 0.05, 0.0)
    assert [each.trigger.groups for each in first] == ["all"]
    assert [each.subject for each in both.measured("cpu_free", ("b",), 0.05, 1.0)] == [("b",)]
    assert [each.trigger.groups for each in both.measured("cpu_free", A, 0.05, 2.0)] == ["there"]
    assert both.measured("memory_free", A, 0.0, 3.0) == []


def test_an_agent_that_reports_again_is_heard_again_after_the_debounce() -> None:
    told = Triggers(read([{"measure": "told:frames-dropped", "above": 5.0, "debounce": 3.0}]))
    assert fired(told, *[12.0] * 7, measure="told:frames-dropped") == [0.0, 3.0, 6.0]
    (event,) = told.measured("told:frames-dropped", ("x",), 12.0, 9.0)
    assert event.event == AgentTold("x", "frames-dropped", 12.0)
    assert told.measured("told:other", ("x",), 12.0, 9.0) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_measurement(value: float) -> None:
    each = machine(**{"for": 2.0})
    assert each.measured("cpu_free", A, 0.05, 0.0) == []
    assert each.measured("cpu_free", A, value, 1.0) == [] and each.measured("cpu_free", A, 0.05, value) == []
    assert len(each.measured("cpu_free", A, 0.05, 2.0)) == 1  # it did not end the episode


def test_times_that_go_back_bring_nothing_forward_and_nothing_into_disorder() -> None:
    each = machine(**{"for": 10.0})
    assert each.measured("cpu_free", A, 0.05, 100.0) == []
    for at in (5.0, 99.0, -1e9, 100.0, 109.9):
        assert each.measured("cpu_free", A, 0.05, at) == []
    assert each.measured("cpu_free", A, 0.05, 3.0) == []
    assert len(each.measured("cpu_free", A, 0.05, 110.0)) == 1
    assert each.measured("cpu_free", ("b",), 0.05, 0.0) == []  # at 110: the clock stood still
    assert each.measured("cpu_free", ("b",), 0.05, 119.0) == []
    assert len(each.measured("cpu_free", ("b",), 0.05, 120.0)) == 1


def test_what_is_remembered_is_bounded_and_goes_when_all_is_well_or_nobody_measures_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triggers, "MAX_SUBJECTS", 100)
    each = machine(debounce=5.0)
    for number in range(5_000):
        each.measured("cpu_free", (f"host-{number}",), 0.05, 0.0)
    assert len(each) == 100
    each.keep(("memory_free",), ())
    assert len(each) == 100
    each.keep(("cpu_free",), {("host-1",), ("host-2",)})
    assert len(each) == 2
    each.measured("cpu_free", ("host-1",), 0.9, 1.0)
    assert len(each) == 2  # for the debounce
    each.measured("cpu_free", ("host-1",), 0.9, 5.0)
    assert len(each) == 1
    assert len(each.measured("cpu_free", ("another",), 0.05, 5.0)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_measured_the_promises_hold(seed: int) -> None:
    print("seed", seed)
    random_ = random.Random(seed)  # noqa: S311
    lasting, debounce = random_.choice([0.0, 2.0]), random_.choice([0.0, 7.0])
    each = machine(**{"for": lasting, "debounce": debounce, "clear": 0.3})
    now, low_since, last = 0.0, None, -math.inf
    for _ in range(2_000):
        now += random_.random()
        value = random_.choice([0.05, 0.2, 0.5])
        if value == 0.05:
            low_since = now if low_since is None else low_since
        elif value == 0.5:
            low_since = None
        if each.measured("cpu_free", A, value, now):
            assert low_since is not None and now - low_since >= lasting and now - last >= debounce
            last = now


BAD = [
    ('measure = "cpu"\nbelow = 0.1', "measure"),
    ('measure = "told:"\nbelow = 0.1', "told:KIND"),
    ('measure = "cpu_free"', "either `above` or `below`"),
    ('measure = "cpu_free"\nabove = 0.1\nbelow = 0.2', "either `above` or `below`"),
    ('measure = "cpu_free"\nbelow = "low"', "Expected `float"),
    ('measure = "cpu_free"\nbelow = nan', "`below` is nan"),
    ('measure = "cpu_free"\nbelow = 0.1\nclear = 0.05', "`clear`"),
    ('measure = "rtt_ms"\nabove = 10.0\nclear = 11.0', "`clear`"),
    ('measure = "cpu_free"\nbelow = 0.1\nfor = -1.0', "`for` is -1.0"),
    ('measure = "cpu_free"\nbelow = 0.1\nfor = nan', "`for` is nan"),
    ('measure = "cpu_free"\nbelow = 0.1\ndebounce = 1e9', "`debounce`"),
    ('measure = "cpu_free"\nbelow = 0.1\ngroups = "some"', "groups"),
    ('measure = "cpu_free"\nbelow = 0.1\nlasting = 3.0', "unknown field `lasting`.*a row has measure, .* for, "),
    ("below = 0.1", "missing required field `measure`"),
]


@pytest.mark.parametrize(("text", "says"), BAD, ids=lambda each: each[:40])
def test_a_bad_row_is_refused_with_its_number_its_key_and_what_is_allowed(text: str, says: str) -> None:
    good = '[[triggers]]\nmeasure = "loss"\nabove = 0.1\n'
    rows = tomllib.loads(f"{good}[[triggers]]\n{text}")["triggers"]
    with pytest.raises(Misuse, match=rf"decisions\.triggers, row 2: .*{says}"):
        read(rows)


def test_there_are_at_most_so_many_rows() -> None:
    with pytest.raises(Misuse, match="at most 100"):
        read([{"measure": "loss", "above": 0.1}] * 101)


def test_the_defaults_are_rows_as_a_settings_file_has_them() -> None:
    assert Decisions().triggers == DEFAULTS
    rows = read(DEFAULTS)
    assert {row.measure for row in rows} == {"rtt_ms", "loss", "cpu_free", "memory_free", "disk_free"}
    assert all(row.clear is not None and row.lasting > 0 and row.debounce > 0 for row in rows)


def blocks() -> list[dict[str, Any]]:
    """The TOML of docs/decisions.md."""
    text = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text()
    return [tomllib.loads(part.partition("```")[0]) for part in text.split("```toml\n")[1:]]


def test_the_documentation_shows_the_defaults_and_what_it_shows_can_be_read() -> None:
    shown = [block["decisions"]["triggers"] for block in blocks() if "triggers" in block.get("decisions", {})]
    assert tuple(shown[0]) == DEFAULTS
    (own,) = read(shown[1])
    assert own.measure == "told:frames-dropped" and own.groups == "there"
    (settings,) = [block["decisions"] for block in blocks() if "policy" in block.get("decisions", {})]
    decisions = msgspec.convert(settings, Decisions)
    assert decisions.limits == Limits() == Decisions().limits
    policy = policy_of(decisions.policy, decisions.settings, POLICIES)
    assert msgspec.to_builtins(policy)["minimum_stay"] == 5.0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"minimum_stay": "long"}, r"Expected `float.*\$\.minimum_stay.*it has "),
        ({"weights": {"network": 0.9}}, r"sum to.*it has weights"),
        ({"minimum-stay": 3.0}, r"unknown field `minimum-stay`; it has .*minimum_stay"),
    ],
)
def test_settings_that_the_policy_does_not_have_are_refused_by_name(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(Misuse, match=says):
        policy_of("falcon", settings, POLICIES)
    with pytest.raises(Misuse, match=r"there are: .*falcon"):
        policy_of("falcons", {}, POLICIES)


@pytest.mark.parametrize("limits", [{"pause": -1.0}, {"pause": math.nan}, {"attempts": 0}, {"keep": 0}, {"tries": 3}])
def test_limits_that_cannot_be_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"pause|attempts|kept|tries"):
        msgspec.convert({"limits": limits}, Decisions)

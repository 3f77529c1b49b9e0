"""The three kinds of rule, on whole and on partial plans (Falcon, Algorithm 1, corrected)."""

import itertools
from typing import Any

import pytest

from ledger.errors import Misuse
from services.eds.rules import Atomic, Dependency, Exclusion, Group, Rule, decode_group, decode_rule

RULES: list[Rule] = [
    Atomic(("a", "b", "c")),
    Exclusion(("a", "b", "c")),
    Dependency("a", ("b", "c"), "any"),
    Dependency("a", ("b", "c"), "all"),
]


@pytest.mark.parametrize(
    ("rule", "kept", "broken", "named"),
    [
        (RULES[0], {"a": "x", "b": "x", "c": "x"}, {"a": "x", "b": "x", "c": "y"}, "a and c must be together"),
        (RULES[1], {"a": "x", "b": "y", "c": "z"}, {"a": "x", "b": "y", "c": "y"}, "b and c must be apart: both on y"),
        (RULES[2], {"a": "x", "b": "y", "c": "x"}, {"a": "x", "b": "y", "c": "y"}, "a needs any of b, c on x"),
        (RULES[3], {"a": "x", "b": "x", "c": "x"}, {"a": "x", "b": "x", "c": "y"}, "a needs all of b, c on x: c is"),
    ],
)
def test_a_rule_says_what_breaks_it(rule: Rule, kept: dict[str, str], broken: dict[str, str], named: str) -> None:
    assert rule.violation(kept) is None
    assert named in (rule.violation(broken) or "")


@pytest.mark.parametrize("rule", RULES)
def test_agents_that_the_rule_does_not_name_change_nothing(rule: Rule) -> None:
    for plan in _plans():
        for other in "xyz":
            assert rule.violation({**plan, "stranger": other}) == rule.violation(plan)


@pytest.mark.parametrize("rule", RULES)
def test_a_partial_plan_is_violated_exactly_when_no_completion_keeps_the_rule(rule: Rule) -> None:
    """A planner may cut there, and never too early. With more hosts than agents, every rule can be completed."""
    for plan in _plans():
        for size in range(3):
            for agents in itertools.combinations(plan, size):
                part = {agent: plan[agent] for agent in agents}
                completions = [whole for whole in _plans() if part.items() <= whole.items()]
                if rule.violation(part):
                    assert all(rule.violation(whole) for whole in completions)
                elif isinstance(rule, Dependency) and "a" not in part:
                    continue  # "all" may be lost already, but it is judged when its agent is placed
                else:
                    assert any(rule.violation(whole) is None for whole in completions)


def _plans() -> list[dict[str, str]]:
    return [dict(zip("abc", hosts, strict=True)) for hosts in itertools.product("wxyz", repeat=3)]


def test_rules_and_groups_come_from_plain_data() -> None:
    data = {
        "name": "faces",
        "user": "ada",
        "agents": ["user", "face", "spare"],
        "rules": [
            {"type": "atomic", "agents": ["user", "face"]},
            {"type": "dependency", "agent": "spare", "on": ["face"], "need": "any"},
            {"type": "exclusion", "agents": ["face", "spare"]},
        ],
    }
    rules = (Atomic(("user", "face")), Dependency("spare", ("face",), "any"), Exclusion(("face", "spare")))
    assert decode_group(data) == Group("faces", ("user", "face", "spare"), rules, "ada")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({}, "known are atomic, dependency and exclusion"),
        ({"type": "together", "agents": ["a", "b"]}, "'together'"),
        ({"type": "atomic", "agents": ["a"]}, "2 to 256"),
        ({"type": "atomic", "agents": ["a", "a"]}, "names 'a' twice"),
        ({"type": "atomic", "agents": ["a", ""]}, "without a name"),
        ({"type": "atomic", "agents": ["a", "b"], "extra": 1}, "extra"),
        ({"type": "exclusion", "agents": "ab"}, "array"),
        ({"type": "dependency", "agent": "a", "on": ["b"]}, "need"),
        ({"type": "dependency", "agent": "a", "on": ["b"], "need": "most"}, "'most'"),
        ({"type": "dependency", "agent": "a", "on": ["a"], "need": "all"}, "names 'a' twice"),
    ],
)
def test_a_rule_that_cannot_be_read_is_misuse_that_says_why(data: dict[str, Any], named: str) -> None:
    with pytest.raises(Misuse, match=named):
        decode_rule(data)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"name": "g", "agents": []}, "names 0 agents"),
        ({"name": "", "agents": ["a"]}, "needs a name"),
        ({"agents": ["a"]}, "name"),
        ({"name": "g", "agents": ["a"], "rules": [{"type": "atomic", "agents": ["a", "b"]}]}, "'b', which is not in"),
    ],
)
def test_a_group_that_cannot_be_read_is_misuse_that_says_why(data: dict[str, Any], named: str) -> None:
    with pytest.raises(Misuse, match=named):
        decode_group(data)

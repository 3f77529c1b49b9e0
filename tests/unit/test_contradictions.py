"""Rules that nobody can keep, against brute force over all plans on as many hosts as there are agents."""

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from services.eds import contradictions as subject
from services.eds.contradictions import contradictions, together
from services.eds.rules import Atomic, Dependency, Exclusion, Group, Rule


def group(agents: str, *rules: Rule) -> Group:
    return Group("group", tuple(agents), rules)


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ((Atomic(("a", "b")), Exclusion(("a", "b"))), ("a, b must be together", "a, b must be apart")),
        (
            (Atomic(("a", "b")), Dependency("b", ("c", "d"), "all"), Exclusion(("x", "a", "d"))),
            ("a, b must be together", "b needs all of c, d where it runs", "x, a, d must be apart"),
        ),
        (
            (Dependency("a", ("b", "c"), "any"), Exclusion(("a", "b")), Exclusion(("a", "c")), Atomic(("x", "d"))),
            ("a needs any of b, c where it runs", "a, b must be apart", "a, c must be apart"),
        ),
        (
            # Each by itself finds one that it may be with; but then b and c are together.
            (Dependency("a", ("b",), "any"), Dependency("a", ("c",), "any"), Exclusion(("b", "c", "d"))),
            ("a needs any of b where it runs", "a needs any of c where it runs", "b, c, d must be apart"),
        ),
        ((Dependency("a", ("b", "c"), "any"), Exclusion(("b", "c")), Exclusion(("a", "b"))), ()),
        ((Atomic(("a", "b")), Atomic(("c", "d")), Exclusion(("a", "c", "x"))), ()),
    ],
)
def test_a_contradiction_is_named_by_the_rules_that_make_it(rules: tuple[Rule, ...], named: tuple[str, ...]) -> None:
    assert contradictions(group("abcdx", *rules)) == named


def random_rules(seed: int) -> tuple[str, list[Rule]]:
    draw = random.Random(seed)  # noqa: S311 (a seeded test, no secret)
    agents = "abcde"[: draw.randint(2, 5)]
    rules: list[Rule] = []
    for _ in range(draw.randint(1, 6)):
        some = tuple(draw.sample(agents, draw.randint(2, len(agents))))
        kind = draw.choice(["atomic", "exclusion", "exclusion", "any", "any", "all"])
        if kind == "atomic":
            rules.append(Atomic(some[:2]))
        elif kind == "exclusion":
            rules.append(Exclusion(some[:3]))
        else:
            rules.append(Dependency(some[0], some[1:3], "any" if kind == "any" else "all"))
    return agents, rules


def can_be_kept(agents: str, rules: Sequence[Rule]) -> bool:
    """With as many hosts as agents nobody lacks one. The first agent is on the first, since names do not matter."""
    for hosts in itertools.product(range(len(agents)), repeat=len(agents) - 1):
        plan = dict(zip(agents, ("0", *map(str, hosts)), strict=True))
        if not any(rule.violation(plan) for rule in rules):
            return True
    return False


def disagreements(seeds: range) -> Iterator[int]:
    for seed in seeds:
        agents, rules = random_rules(seed)
        named = contradictions(group(agents, *rules))
        if bool(named) == can_be_kept(agents, rules):
            yield seed
        core = [next(rule for rule in rules if rule.words == words) for words in named]
        if named and (can_be_kept(agents, core) or not all(can_be_kept(agents, _without(core, r)) for r in core)):
            yield seed


def _without(rules: Sequence[Rule], one: Rule) -> list[Rule]:
    return [rule for rule in rules if rule is not one]


def test_random_rules_agree_with_brute_force_and_none_is_named_in_vain() -> None:
    contradictory = sum(bool(contradictions(group(a, *r))) for a, r in map(random_rules, range(600)))
    assert 150 < contradictory < 450  # both kinds are tried
    assert list(disagreements(range(600))) == [], "seeds of random_rules"


def test_a_judge_that_tries_one_choice_only_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    true_choose = subject._Judge._choose

    def hasty(self, leaders, choices, apart):  # type: ignore[no-untyped-def]
        return true_choose(self, leaders, [Dependency(c.agent, c.on[:1], "any") for c in choices], apart)

    monkeypatch.setattr(subject._Judge, "_choose", hasty)
    assert next(disagreements(range(600)), None) is not None


def test_who_must_be_together() -> None:
    rules = (Atomic(("c", "a")), Dependency("d", ("e", "c"), "all"), Dependency("b", ("a",), "any"))
    assert together(group("abcdef", *rules)) == [("a", "c", "d", "e"), ("b",), ("f",)]


def test_hostile_rules_end_within_the_limit_of_work_and_name_nothing_that_is_not_so() -> None:
    """Pigeons and holes: a contradiction that a search of choices sees only after very many."""
    pigeons, holes = [f"p{i}" for i in range(12)], [f"h{i}" for i in range(11)]
    rules = [Dependency(pigeon, tuple(holes), "any") for pigeon in pigeons]
    rules_apart = (Exclusion(tuple(pigeons)), Exclusion(tuple(holes)))
    many = Group("pigeons", (*pigeons, *holes), (*rules, *rules_apart))
    assert contradictions(many) == ()  # not seen; the planner finds no plan, and says so
    few = Group("pigeons", (*pigeons[:4], *holes[:3]), (
        *(Dependency(pigeon, tuple(holes[:3]), "any") for pigeon in pigeons[:4]),
        Exclusion(tuple(pigeons[:4])), Exclusion(tuple(holes[:3])),
    ))  # fmt: skip
    assert len(contradictions(few)) == 5  # whatever the holes may do
    names = tuple(f"a{i}" for i in range(256))
    worst = Group("worst", names, (*(Atomic(names[i:] + names[:i]) for i in range(255)), Exclusion(names)))
    assert contradictions(worst)[-1].endswith("must be apart")

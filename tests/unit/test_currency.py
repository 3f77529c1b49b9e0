"""How far a replica is behind, by words of which some may be lies."""

import pytest

from ledger.certificate import Member, Members
from ledger.currency import Currency, currency


def members(count: int) -> Members:
    return Members(0, tuple(Member(name, name.encode() * 32) for name in "abcdefghij"[:count]))


def behind(count: int, told: dict[str, int], height: int = 10) -> int:
    return currency(members(count), "a", height, told, {}, 0.0, 0.0).behind


@pytest.mark.parametrize(
    ("count", "told", "expected"),
    [
        (4, {}, 0),
        (4, {"b": 1_000_000}, 0),  # one of four may lie
        (4, {"b": 1_000_000, "c": 17}, 7),  # two do not: one of them is honest
        (4, {"b": 12, "c": 17, "d": 3}, 2),
        (4, {"b": 3, "c": 4, "d": 5}, 0),
        (4, {"x": 99, "y": 99, "z": 99}, 0),  # no members
        (7, {"b": 99, "c": 99}, 0),
        (7, {"b": 99, "c": 98, "d": 30}, 20),
        (3, {"b": 12}, 2),  # three withstand no liar
        (1, {}, 0),
    ],
)
def test_as_far_as_more_members_say_than_may_lie(count: int, told: dict[str, int], expected: int) -> None:
    assert behind(count, told) == expected


def test_one_member_more_that_lies_would_be_believed() -> None:
    """The twin of the rule: by the highest word alone one liar makes a replica doubt itself."""
    told = {"b": 1_000_000}
    assert max(told.values()) - 10 > 0 == behind(4, told)


def unheard(count: int, heard: dict[str, float], host: str = "a") -> float:
    return currency(members(count), host, 10, {}, heard, 0.0, 100.0).unheard


@pytest.mark.parametrize(
    ("count", "heard", "expected"),
    [
        (4, {}, 100.0),  # since the start
        (4, {"b": 90.0}, 10.0),  # the others are two, and no quorum
        (4, {"b": 90.0, "c": 95.0, "d": 99.0}, 1.0),
        (4, {"x": 100.0}, 100.0),
        (7, {"b": 90.0}, 100.0),  # c to g are five: a quorum
        (7, {"b": 90.0, "c": 80.0}, 20.0),  # d to g are four
        (2, {}, 0.0),  # without us there is no quorum
        (3, {}, 100.0),  # two of three decide
        (1, {}, 0.0),
    ],
)
def test_unheard_for_as_long_as_a_quorum_could_decide_without_us(
    count: int, heard: dict[str, float], expected: float
) -> None:
    assert unheard(count, heard) == expected


def test_a_host_without_a_seat_counts_all_members() -> None:
    assert unheard(4, {"a": 50.0}, host="z") == 100.0
    assert unheard(4, {"a": 50.0, "b": 60.0}, host="z") == 50.0
    assert unheard(1, {}, host="z") == 100.0 and unheard(1, {"a": 99.0}, host="z") == 1.0
    assert currency(members(1), "a", 3, {}, {}, 0.0, 1e9) == Currency(0, 0.0)

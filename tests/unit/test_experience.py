"""The experience with a destination, and what an attacker can do to it (services.eds.experience)."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Misuse
from services.eds.experience import (
    FIXED_MS,
    HALF_LIFE_S,
    MOST_EVIDENCE,
    SLOWEST,
    Record,
    after,
    expected_ms,
    value,
)

T0 = 1_700_000_000.0
outcome = st.tuples(st.booleans(), st.floats(0, 1e9), st.floats(1e-3, 1e6), st.floats(-1e4, 1e5))


def moves(record: Record, *came: bool, now: float = T0) -> Record:
    for each in came:
        record = after(record, came=each, now=now)
    return record


def test_a_host_where_nothing_went_is_neutral() -> None:
    assert value(Record(), T0) == 0.5


def test_one_failure_poisons_nobody() -> None:
    assert value(moves(Record(), False), T0) > 0.35  # a stranger
    proven = moves(Record(), *[True] * 50)
    assert 0.8 < value(proven, T0) < 0.9
    assert 0.65 < value(moves(proven, False), T0) < value(proven, T0)


def test_failures_in_a_row_sink_a_host_but_never_to_nothing() -> None:
    record, seen = Record(), [0.5]
    for _ in range(10):
        record = after(record, came=False, now=T0)
        seen.append(value(record, T0))
    assert all(later < earlier for earlier, later in itertools.pairwise(seen)) and seen[-1] < 0.2
    assert value(moves(Record(), *[False] * 1000), T0) > 0.1


def test_a_host_that_earns_trust_and_then_fails_has_bought_only_a_few_failures() -> None:
    """However long it was good before: the thousandth good move buys no more than the fiftieth."""
    for good in (50, 1000):
        record = moves(Record(), *[True] * good)
        assert value(moves(record, *[False] * 3), T0) > 0.5
        assert value(moves(record, *[False] * 4), T0) < 0.5


def test_a_plain_mean_would_let_it_fail_a_hundred_times() -> None:
    """The broken twin: without a bound on evidence, a thousand good moves hide a hundred failures."""
    good, failed = 1000, 100
    assert good / (good + failed) > 0.9
    assert value(moves(Record(), *[True] * good, *[False] * failed), T0) < 0.2


def test_a_host_that_fails_every_other_time_is_worse_than_a_stranger() -> None:
    record = moves(Record(), *[True, False] * 100)
    assert value(record, T0) < 0.45
    assert value(moves(record, True), T0) < 0.5


def test_after_a_thousand_failures_good_moves_bring_a_host_back() -> None:
    record = moves(Record(), *[False] * 1000)
    assert value(moves(record, *[True] * 5), T0) < 0.5
    assert value(moves(record, *[True] * 20), T0) > 0.6


def test_time_alone_brings_every_host_back_to_neutral() -> None:
    for came in (False, True):
        record = moves(Record(), *[came] * 1000)
        distances = [abs(value(record, T0 + age * HALF_LIFE_S) - 0.5) for age in range(12)]
        assert all(later < earlier for earlier, later in itertools.pairwise(distances))
        assert distances[-1] < 0.01 < distances[3]


def test_a_clock_that_is_set_back_makes_nothing_younger() -> None:
    record = moves(Record(), *[False] * 5)
    assert value(record, T0 - 1e6) == value(record, T0)
    assert after(record, came=False, now=T0 - 1e6).at == T0


def test_a_slow_move_counts_less_than_one_in_time_and_more_than_none() -> None:
    def one(downtime: float | None) -> float:
        return value(after(Record(), came=True, now=T0, downtime_ms=downtime, expected_ms=50.0), T0)

    assert one(None) == one(0.0) == one(50.0) > one(60.0) > one(150.0) > one(1e6)
    assert one(1e6) == one(math.inf) == value(Record(SLOWEST, 1.0, T0), T0)
    assert one(1e6) > value(after(Record(), came=False, now=T0), T0)


@given(st.lists(outcome, max_size=40))
def test_whatever_comes_the_value_stays_inside_its_bounds(sequence: list[tuple[bool, float, float, float]]) -> None:
    record, now = Record(), T0
    for came, downtime, expected, later in sequence:
        now += later
        better = after(record, came=True, now=now)
        record = after(record, came=came, now=now, downtime_ms=downtime, expected_ms=expected)
        assert 0.0 <= record.good <= record.evidence <= MOST_EVIDENCE + 1e-9
        assert 0.1 < value(record, now) < 0.9
        assert value(record, now) <= value(better, now) + 1e-12


def test_what_is_expected_rises_with_distance_and_size_and_falls_with_bandwidth() -> None:
    assert expected_ms(0.0) == FIXED_MS
    assert expected_ms(10.0) == FIXED_MS + 15.0
    assert expected_ms(0.0, 1_000_000, 8.0) == FIXED_MS + 1000.0
    assert expected_ms(0.0, 1_000_000) < expected_ms(0.0, 1_000_000, 8.0)


def test_what_cannot_be_is_misuse() -> None:
    for link in ((math.nan, 0, 1.0), (-1.0, 0, 1.0), (1.0, -1, 1.0), (1.0, 0, 0.0), (1.0, 0, math.nan)):
        with pytest.raises(Misuse):
            expected_ms(*link)
    for downtime, expected in ((-1.0, 1.0), (math.nan, 1.0), (1.0, 0.0)):
        with pytest.raises(Misuse):
            after(Record(), came=True, now=T0, downtime_ms=downtime, expected_ms=expected)
    with pytest.raises(Misuse):
        value(Record(), math.nan)


def test_a_record_is_kept_as_plain_data() -> None:
    record = moves(Record(), True, False)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Record) == record

"""Falcon's equations 1 to 4, corrected (services.eds.weights, docs/decisions.md)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Misuse
from services.eds.weights import (
    REFERENCE_RTT_MS,
    Terms,
    Weights,
    impulse,
    link_distance,
    link_quality,
    merit,
    migration_weight,
    node_distance,
)

EVEN = Weights(0.25, 0.25, 0.25, 0.25)
fractions = st.floats(0, 1)
rtts = st.floats(0, 1e6)


def test_equation_1_weighs_each_term_by_its_own_weight() -> None:
    weights = Weights(network=0.1, cpu=0.2, memory=0.3, experience=0.4)
    terms = Terms(network=1.0, cpu=0.5, memory=0.25, experience=0.125)
    assert merit(terms, weights) == pytest.approx(0.1 + 0.1 + 0.075 + 0.05)


@given(st.lists(fractions, min_size=5, max_size=5), st.lists(fractions, min_size=5, max_size=5))
def test_a_term_that_gets_better_never_makes_a_host_worth_less(values: list[float], others: list[float]) -> None:
    weights = Weights(0.3, 0.2, 0.2, 0.1, {"gpu": 0.2})
    worse, better = (
        Terms(*four, {"gpu": gpu}) for *four, gpu in (values, [max(pair) for pair in zip(values, others, strict=True)])
    )
    assert 0.0 <= merit(worse, weights) <= merit(better, weights) + 1e-12 <= 1.0 + 1e-9


def test_further_terms_have_weights_of_their_own() -> None:
    weights = Weights(0.25, 0.25, 0.0, 0.0, {"gpu": 0.3, "shade": 0.2})
    assert merit(Terms(0, 0, 1, 1, {"gpu": 1.0, "shade": 0.5, "rain": 1.0}), weights) == pytest.approx(0.4)
    assert merit(Terms(1, 1, 0, 0), weights) == 0.5  # what a host does not have counts 0
    with pytest.raises(Misuse, match=r"sum to 1\.3"):
        Weights(more={"gpu": 0.3})
    for kind in (Terms, Weights):
        with pytest.raises(Misuse, match="gpu is nan"):
            kind(1, 0, 0, 0, {"gpu": math.nan})


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan, math.inf])
@pytest.mark.parametrize("kind", [Terms, Weights])
def test_terms_and_weights_outside_0_to_1_are_misuse(kind: type, bad: float) -> None:
    with pytest.raises(Misuse, match=r"cpu is .* between 0 and 1"):
        kind(network=0.5, cpu=bad, memory=0.25, experience=0.25)


def test_weights_must_sum_to_one() -> None:
    with pytest.raises(Misuse, match=r"sum to 0\.9"):
        Weights(0.5, 0.2, 0.1, 0.1)
    Weights(0.1, 0.2, 0.3, 0.4 + 5e-10)  # as floating point gives it
    with pytest.raises(Misuse):
        Weights(0.1, 0.2, 0.3, 0.4 + 5e-9)


@given(rtts, rtts, st.floats(0, 0.99), st.floats(0, 0.99))
def test_link_distance_rises_in_both_and_stays_above_zero(rtt: float, rtt2: float, loss: float, loss2: float) -> None:
    assert link_distance(rtt, loss) >= 1.0
    if rtt2 - rtt > 1e-3:
        assert link_distance(rtt2, loss) > link_distance(rtt, loss)
    if loss2 - loss > 1e-9:
        assert link_distance(rtt, loss2) > link_distance(rtt, loss)


def test_link_quality_is_the_inverse_and_a_dead_link_has_none() -> None:
    assert link_quality(0.0, 0.0) == 1.0
    assert link_quality(REFERENCE_RTT_MS, 0.0) == 0.5
    assert link_distance(5.0, 1.0) == math.inf
    assert link_quality(5.0, 1.0) == 0.0


@pytest.mark.parametrize(("rtt", "loss"), [(-1, 0), (math.nan, 0), (math.inf, 0), (1, -0.1), (1, 1.1), (1, math.nan)])
def test_a_link_that_cannot_be_is_misuse(rtt: float, loss: float) -> None:
    with pytest.raises(Misuse):
        link_distance(rtt, loss)


def test_equation_2() -> None:
    assert node_distance(100.0, 50.0, 150.0, 3.0) == pytest.approx(1.5)
    assert node_distance(100.0, 100.0, 400.0, 3.0) < node_distance(100.0, 100.0, 200.0, 3.0)
    assert node_distance(100.0, 100.0, 100.0, math.inf) == math.inf


@pytest.mark.parametrize(
    "arguments", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, -1, 1), (1, math.nan, 1, 1), (1, 1, 1, 0), (1, 1, 1, math.nan)]
)
def test_equation_2_refuses_what_cannot_be(arguments: tuple[float, float, float, float]) -> None:
    with pytest.raises(Misuse):
        node_distance(*arguments)


def test_equation_3_adds_at_the_threshold_and_subtracts_below_it() -> None:
    assert impulse(task_weight_sum=3.0, node_weight=2.0, threshold=2.0) == 5.0
    assert impulse(task_weight_sum=3.0, node_weight=2.0, threshold=2.1) == 1.0


def test_equation_3_is_never_below_zero() -> None:
    assert impulse(task_weight_sum=1.0, node_weight=1.5, threshold=2.0) == 0.0


@pytest.mark.parametrize("arguments", [(-1, 1, 1), (1, -1, 1), (1, 1, math.nan), (math.inf, 1, 1)])
def test_equation_3_refuses_what_cannot_be(arguments: tuple[float, float, float]) -> None:
    with pytest.raises(Misuse):
        impulse(*arguments)


def test_equation_4_is_equation_1_times_mu() -> None:
    worth = merit(Terms(1.0, 0.5, 0.5, 0.0), EVEN)
    assert migration_weight(worth, 6.0, 2.0) == pytest.approx(1.5)
    assert migration_weight(worth, 0.0, 2.0) == 0.0
    assert migration_weight(worth, 6.0, math.inf) == 0.0


@given(fractions, st.floats(0, 1e6), st.floats(1e-6, 1e9), st.floats(0, 1e6), st.floats(0, 1e9))
def test_equation_4_rises_with_merit_and_impulse_and_falls_with_distance(
    worth: float, force: float, distance: float, more: float, further: float
) -> None:
    q = migration_weight(worth, force, distance)
    assert 0.0 <= q <= migration_weight(worth, force + more, distance)
    assert q <= migration_weight(min(1.0, worth + more), force, distance)
    assert q >= migration_weight(worth, force, distance + further)


@pytest.mark.parametrize("arguments", [(-1, 1, 1), (1, -1, 1), (math.nan, 1, 1), (1, 1, 0), (1, 1, math.nan)])
def test_equation_4_refuses_what_cannot_be(arguments: tuple[float, float, float]) -> None:
    with pytest.raises(Misuse):
        migration_weight(*arguments)

"""The terms of equation 1 as one agent sees a host (services.eds.terms)."""

import math

import msgspec
import pytest

from services.eds.snapshot import Access
from services.eds.terms import access_quality, network, terms_of
from services.eds.weights import REFERENCE_RTT_MS, Terms
from services.rms.resources import Minima, Resources
from tests.helpers.edge_scenes import GIB, host, resources

HALF = resources(cpu_free=0.5, memory_free=2 * GIB)  # of 4 cores and 8 GiB
GPUS = msgspec.structs.replace(HALF, gpus=2, gpu_free=0.75, gpu_memory_free=4 * GIB, gpu_memory_total=8 * GIB)


def terms(has: Resources = HALF, prefers: Minima | None = None, *more: str, **facts: float) -> Terms:
    where = msgspec.structs.replace(host("a", advert=has, experience=0.7), facts=facts)
    return terms_of(where, has, 0.25, prefers or Minima(), more)


def test_without_a_wish_the_terms_are_what_is_free() -> None:
    assert terms() == Terms(0.25, 0.5, 0.25, 0.7)


def test_with_a_wish_they_are_the_part_of_it_that_is_free_and_no_more_than_all() -> None:
    assert terms(HALF, Minima(cpu_cores=4.0, memory=8 * GIB)) == Terms(0.25, 0.5, 0.25, 0.7)
    assert terms(HALF, Minima(cpu_cores=2.5, memory=4 * GIB)) == Terms(0.25, 0.8, 0.5, 0.7)
    assert terms(HALF, Minima(cpu_cores=0.1, memory=1)) == Terms(0.25, 1.0, 1.0, 0.7)


def test_a_wish_for_bandwidth_cuts_the_network_term() -> None:
    assert network(0.5, 100.0, Minima()) == 0.5
    assert network(0.5, 100.0, Minima(bandwidth=400.0)) == 0.125
    assert network(0.5, 100.0, Minima(bandwidth=50.0)) == 0.5


def test_a_gpu_counts_what_is_free_of_it() -> None:
    assert terms(HALF, None, "gpu").more == {"gpu": 0.0}
    assert terms(GPUS, None, "gpu").more == {"gpu": 0.75}
    assert terms(GPUS, Minima(gpus=1), "gpu").more == {"gpu": 1.0}
    assert terms(GPUS, Minima(gpus=1, gpu_memory=16 * GIB), "gpu").more == {"gpu": 0.25}


def test_disk_counts_where_it_is_wished_for() -> None:
    assert terms(HALF, None, "disk").more == {"disk": 1.0}
    assert terms(HALF, Minima(disk=400 * GIB), "disk").more == {"disk": 0.25}


@pytest.mark.parametrize(
    ("stated", "counts"), [(0.3, 0.3), (1e9, 1.0), (math.inf, 1.0), (-5.0, 0.0), (math.nan, 0.0), (-math.inf, 0.0)]
)
def test_what_an_operator_states_is_cut_to_what_a_term_may_be(stated: float, counts: float) -> None:
    assert terms(HALF, None, "solar", solar=stated).more == {"solar": counts}


def test_what_an_operator_does_not_state_is_nothing_and_what_nobody_weighs_is_left_out() -> None:
    assert terms(HALF, None, "solar").more == {"solar": 0.0}
    assert terms(HALF, None, solar=1.0).more == {}


def test_no_operator_states_what_is_measured() -> None:
    assert terms(HALF, None, "gpu", gpu=1.0).more == {"gpu": 0.0}


def test_a_host_that_the_access_point_did_not_measure_serves_worst() -> None:
    assert access_quality(None) == 0.0
    assert access_quality(Access("a", REFERENCE_RTT_MS, 0.5, "measured")) == 0.25
    assert access_quality(Access("a", 20.0, 1.0, "measured")) == 0.0

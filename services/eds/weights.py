"""Falcon's equations 1 to 4 (section 3.3), corrected. Pure; docs/decisions.md gives the reason of each correction.

Words: *quality* is better when larger and lies in [0, 1]; *distance* is worse when larger and stays above zero.
"""

import math

import msgspec

from ledger.errors import Misuse

WEIGHTS_TOLERANCE = 1e-9
# The round-trip time (ms) at which a link that loses nothing has the quality 1/2. Falcon names no unit; chosen with the
# default weights (docs/decisions.md): about where people begin to notice that they wait.
REFERENCE_RTT_MS = 100.0


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What equation 1 weighs of one host; each in [0, 1] and larger when better (free, not loaded)."""

    network: float  # alpha: quality of the link that matters, see link_quality
    cpu: float  # beta: the part of the processors that is free
    memory: float  # lambda in the text, c in Algorithm 2: the part of the memory that is free
    experience: float  # gamma in the text, lambda in Algorithm 2: how well moves to this host went
    more: dict[str, float] = {}  # "gpu", "disk", and what operators say of their hosts, by name

    def __post_init__(self) -> None:
        for name, value in _named(self):
            _fraction("the term", name, value)


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """s1 to s4 of equation 1, by name, and those of further terms (services.eds.terms). All of them sum to 1."""

    network: float = 0.5
    cpu: float = 0.3
    memory: float = 0.1
    experience: float = 0.1
    more: dict[str, float] = {}  # a name of Terms.more -> its weight; a name that is not here weighs nothing

    def __post_init__(self) -> None:
        for name, value in _named(self):
            _fraction("the weight", name, value)
        total = math.fsum(value for _, value in _named(self))
        if abs(total - 1.0) > WEIGHTS_TOLERANCE:
            raise Misuse(f"the weights sum to {total:g}; change them until they sum to 1")


def link_distance(rtt_ms: float, loss: float) -> float:
    """netStat of equation 2, which the paper leaves open: 1 for a perfect link, rising in both arguments.

    `rtt_ms` in milliseconds, `loss` in [0, 1]. A message over a link that loses a part p is sent 1/(1-p) times on
    average, so the loss multiplies what the round trip costs. A link that loses everything is infinitely far.
    """
    if not (0.0 <= rtt_ms < math.inf and 0.0 <= loss <= 1.0):  # also true for NaN
        raise Misuse(f"a link of {rtt_ms} ms with a loss of {loss} cannot be; measure it again")
    if loss == 1.0:
        return math.inf
    return (1.0 + rtt_ms / REFERENCE_RTT_MS) / (1.0 - loss)


def link_quality(rtt_ms: float, loss: float) -> float:
    """The network term of equation 1: 1 for a perfect link, falling towards 0 as the link gets worse."""
    return 1.0 / link_distance(rtt_ms, loss)


def node_distance(mean_bandwidth: float, bandwidth_i: float, bandwidth_j: float, distance: float) -> float:
    """Equation 2: (mean bandwidth / (b_i + b_j)) * link distance. Bandwidths in one unit, above zero."""
    if not (0.0 < mean_bandwidth < math.inf and 0.0 < bandwidth_i < math.inf and 0.0 < bandwidth_j < math.inf):
        given = f"{mean_bandwidth}, {bandwidth_i} and {bandwidth_j}"
        raise Misuse(f"bandwidths of {given} cannot be; leave hosts out that cannot be reached")
    if not distance > 0.0:
        raise Misuse(f"the link distance is {distance}; it must be above zero")
    return mean_bandwidth / (bandwidth_i + bandwidth_j) * distance


def merit(terms: Terms, weights: Weights) -> float:
    """Equation 1: what a host is worth by itself, in [0, 1]. A further term that a host does not have counts 0."""
    return (
        terms.network * weights.network
        + terms.cpu * weights.cpu
        + terms.memory * weights.memory
        + terms.experience * weights.experience
        + sum(terms.more.get(name, 0.0) * weight for name, weight in weights.more.items())
    )


def impulse(task_weight_sum: float, node_weight: float, threshold: float) -> float:
    """The numerator of equation 3: sum + w if w >= WT else sum - w, never below zero.

    `task_weight_sum` starts at the agent's own task weight and is fixed for a snapshot; `node_weight` is w, the
    task weight of the node that the agent leaves; `threshold` is WT. All three in the same unit, not negative.
    """
    _not_negative("the sum of task weights", task_weight_sum)
    _not_negative("the node's task weight", node_weight)
    _not_negative("the task threshold", threshold)
    return max(0.0, task_weight_sum + (node_weight if node_weight >= threshold else -node_weight))


def migration_weight(worth: float, force: float, distance: float) -> float:
    """Q of equation 4: merit * mu, where mu (equation 3) is impulse / node distance. Q = 0: there is no edge."""
    if not (worth >= 0.0 and force >= 0.0 and distance > 0.0):  # also true for NaN
        raise Misuse(f"a merit of {worth}, an impulse of {force} and a distance of {distance} cannot be")
    return worth * (force / distance)


def _named(values: Terms | Weights) -> list[tuple[str, float]]:
    four = (("network", values.network), ("cpu", values.cpu), ("memory", values.memory))
    return [*four, ("experience", values.experience), *values.more.items()]


def _fraction(what: str, name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:  # also true for NaN
        raise Misuse(f"{what} {name} is {value}; it must be between 0 and 1")


def _not_negative(name: str, value: float) -> None:
    if not 0.0 <= value < math.inf:
        raise Misuse(f"{name} is {value}; it must be a finite number, 0 or more")

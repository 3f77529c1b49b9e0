"""The experience with a destination: how well moves there went, earned and forgotten. Pure.

Only what this host saw itself counts: whether the agents came, and for how long they stood still by its own clock.
Nothing that a destination says of itself is asked for. What a record can do is bounded on every side: each outcome
adds a fixed evidence, all evidence together is at most MOST_EVIDENCE, and it halves with every HALF_LIFE_S. So one
failure ruins nobody, a thousand good moves buy no more than a few failures, and every host is asked again one day.
"""

import math

import msgspec

from ledger.errors import Misuse
from services.eds.snapshot import NEUTRAL_EXPERIENCE

PRIOR = 6.0  # evidence for the neutral value, which every host has from the start
KEPT = 0.9  # of the evidence until now, when a new outcome comes
FAILURE = 2.0  # evidence of a failure; a success has 1. So a host that fails every other time is below neutral
MOST_EVIDENCE = FAILURE / (1 - KEPT)
SLOWEST = 0.25  # what a move is worth that came, however late
HALF_LIFE_S = 3600.0  # in which evidence halves, so that a value goes back to neutral

FIXED_MS = 20.0  # of a hop without distance or size: durable steps, a worker that opens the parcel
ROUND_TRIPS = 1.5  # from OFFER to NOTICE (docs/custody.md)
ASSUMED_MBITS = 100.0  # of a link whose bandwidth was not measured


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of one destination. Kept in the DMS."""

    good: float = 0.0  # the part of the evidence that speaks for it
    evidence: float = 0.0
    at: float = 0.0  # seconds since 1970 at which both were true


def value(record: Record, now: float) -> float:
    """The term of equation 1, in [0, 1]; `now` in seconds since 1970. Neutral where nothing went yet."""
    aged = _aged(record, now)
    return (PRIOR * NEUTRAL_EXPERIENCE + aged.good) / (PRIOR + aged.evidence)


def after(
    record: Record, *, came: bool, now: float, downtime_ms: float | None = None, expected_ms: float | None = None
) -> Record:
    """The record with one more outcome: that of all agents that one plan sent to this destination.

    A group is one outcome, else a large one would count as many failures. `downtime_ms`: for how long they stood still,
    by the clock of this host; `expected_ms`: see there. Where one of both is not known, a move that came counts fully.
    """
    aged = _aged(record, now)
    weight, worth = (1.0, _worth(downtime_ms, expected_ms)) if came else (FAILURE, 0.0)
    return Record(aged.good * KEPT + weight * worth, aged.evidence * KEPT + weight, max(record.at, now))


def expected_ms(rtt_ms: float, size: int = 0, bandwidth: float | None = None) -> float:
    """For how long a hop should make its agents stand still, in ms, by what this host measured of the link.

    `size` of their states in bytes; `bandwidth` in Mbit/s as measured, never as the destination says.
    """
    bandwidth = ASSUMED_MBITS if bandwidth is None else bandwidth
    if not 0.0 <= rtt_ms < math.inf or size < 0 or not bandwidth > 0.0:
        raise Misuse(f"a link of {rtt_ms} ms and {bandwidth} Mbit/s, or {size} bytes, cannot be; measure it again")
    return FIXED_MS + ROUND_TRIPS * rtt_ms + size * 8 / (bandwidth * 1000)


def _worth(downtime_ms: float | None, expected: float | None) -> float:
    """1 for what came in time, falling with the time that it took beyond that, never below SLOWEST."""
    if downtime_ms is None or expected is None:
        return 1.0
    if not downtime_ms >= 0.0 or not expected > 0.0:
        raise Misuse(f"a downtime of {downtime_ms} ms where {expected} ms were expected cannot be")
    return 1.0 if downtime_ms <= expected else max(SLOWEST, expected / downtime_ms)


def _aged(record: Record, now: float) -> Record:
    """A clock that was set back makes nothing younger."""
    if not math.isfinite(now):
        raise Misuse(f"the time is {now}; it must be a finite number of seconds")
    kept = 0.5 ** (max(0.0, now - record.at) / HALF_LIFE_S)
    return Record(record.good * kept, record.evidence * kept, record.at)

"""How long requests took, in the few numbers that travel with an agent."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

# Upper ends, in milliseconds; beyond the last there is one bucket more. Each about twice the one before.
BOUNDS_MS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)


class Histogram:
    """Counts times by buckets of fixed bounds, so that two histograms add up bucket by bucket."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0

    def observe(self, seconds: float) -> None:
        ms = max(0.0, seconds * 1000)
        self.counts[bisect_left(BOUNDS_MS, ms)] += 1
        self.sum_ms += ms

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Milliseconds within which that share of the requests (0 to 1) ended: the upper end of the bucket, and for
        those beyond all bounds the last of them. None when there were no requests."""
        left = share * self.count
        for bound, count in zip(BOUNDS_MS, self.counts, strict=False):
            left -= count
            if left <= 0 < self.count:
                return bound
        return BOUNDS_MS[-1] if self.count else None

    def as_data(self) -> dict[str, Any]:
        """Plain data: `buckets` has the count up to each bound, as Prometheus counts, without the last (+Inf)."""
        below, buckets = 0, []
        for bound, count in zip(BOUNDS_MS, self.counts, strict=False):
            below += count
            buckets.append([bound, below])
        return {"count": self.count, "sum_ms": self.sum_ms, "buckets": buckets}


def told(histograms: Mapping[str, Histogram]) -> dict[str, Any]:
    return {name: each.as_data() for name, each in sorted(histograms.items())}

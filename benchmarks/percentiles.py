"""The percentiles of figures."""

import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], of: int) -> float:
    """Between the two nearest values, and no more than the largest. `of`: 1 to 99; there are two values at least."""
    return min(statistics.quantiles(values, n=100)[of - 1], max(values))

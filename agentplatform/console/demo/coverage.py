"""The user's walk through the coverage of four hosts. EMULATED: nobody walks on one machine.

Each host has an access point on a compass rose, one unit from the middle. What the user's device would measure of a
host is computed from the distance, and what this machine really measures between the hosts is added. The sum is
labelled "emulated" wherever it is shown.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Position = tuple[float, float]

ACCESS_POINTS: dict[str, Position] = {
    "north": (0.0, 1.0),
    "east": (1.0, 0.0),
    "south": (0.0, -1.0),
    "west": (-1.0, 0.0),
}
NEARLY_WEST: Position = (-0.7, 0.4)  # west is the nearest, north comes next, south is far
RTT_THERE_MS = 2.0  # round trip right at the access point
RTT_PER_UNIT_MS = 10.0
REACH = 0.8  # units without loss
LOSS_PER_UNIT = 1.0  # beyond that
MOST_LOSS = 0.9
_STEPS = 4  # places on the way at which the device measures


def distance(position: Position, host: str) -> float:
    return math.dist(position, ACCESS_POINTS[host])


def nearest(position: Position) -> str:
    return min(ACCESS_POINTS, key=lambda host: distance(position, host))


def access(position: Position, between: Mapping[str, float]) -> list[dict[str, Any]]:
    """What the device reports of each host: round trip (ms) and loss (0 to 1).

    `between` is the measured round trip (ms) from the nearest access point's host to each other one.
    """
    return [_link(host, distance(position, host), between.get(host, 0.0)) for host in ACCESS_POINTS]


def _link(host: str, units: float, between_ms: float) -> dict[str, Any]:
    rtt_ms = RTT_THERE_MS + RTT_PER_UNIT_MS * units + between_ms
    loss = min(MOST_LOSS, max(0.0, units - REACH) * LOSS_PER_UNIT)
    return {"host": host, "rtt_ms": round(rtt_ms, 2), "loss": round(loss, 3), "source": "emulated"}


def way(start: Position, end: Position) -> Iterator[Position]:
    """The places at which the device measures, the last one is `end`."""
    for step in range(1, _STEPS + 1):
        part = step / _STEPS
        yield (start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part)


def event(user: str, position: Position, between: Mapping[str, float]) -> dict[str, Any]:
    """What the EDS is told."""
    return {"type": "user-moved", "user": user, "access": access(position, between), "position": position}

"""The best plan of who knows the whole trace: the shortest path through (step, host). Pure.

Between two steps nothing changes, so what a move brings is linear in its time: the best plan moves only right after a
step or right before the next. At both it may take any chain of hops. So no policy does better, whenever it moves.
"""

import math

from benchmarks.regret import cost
from benchmarks.regret.trace import Trace, World


def best(trace: Trace) -> tuple[float, int]:
    """The cost of the best plan, and how often it moves."""
    hosts = trace.head.hosts
    # host -> cost until now, moves until now
    ends = {host: (0.0 if host == trace.head.start else math.inf, 0) for host in hosts}
    for world in trace.worlds():
        hops = _hops(trace, world)
        ends = _moved(ends, hops)
        ends = {
            host: (paid + cost.of_service(world, host) * (world.until - world.at), n)
            for host, (paid, n) in ends.items()
        }
        ends = _moved(ends, hops)
    return min(ends.values())


def _hops(trace: Trace, world: World) -> dict[tuple[str, str], float]:
    found = {}
    for pair in world.links:
        downtime, succeeds = cost.downtime_ms(trace.head, world, *pair)
        if succeeds and pair[0] != pair[1]:
            found[pair] = cost.of_move(trace.head, downtime, True)
    return found


def _moved(ends: dict[str, tuple[float, int]], hops: dict[tuple[str, str], float]) -> dict[str, tuple[float, int]]:
    """After any chain of hops, none included."""
    changed = True
    while changed:
        changed = False
        for (source, destination), price in hops.items():
            paid, moves = ends[source]
            if (paid + price, moves + 1) < ends[destination]:
                ends = ends | {destination: (paid + price, moves + 1)}
                changed = True
    return ends

"""The links of a snapshot as Falcon's graph: who is next to whom, and how far (equation 2); and the best paths. Pure.

What is here is the same for all agents, so one graph serves a whole decision. Distances are computed when they are
asked for: most decisions look at the links of a few hosts alone.
"""

import math
from collections.abc import Callable, Iterable
from statistics import fmean

from services.eds.snapshot import Link, Snapshot
from services.eds.weights import link_distance, node_distance

Hop = tuple[str, float, float]  # destination, distance of equation 2, quality of the link


class Graph:
    def __init__(self, snapshot: Snapshot) -> None:
        self._links: dict[str, list[Link]] = {}
        for link in snapshot.links:
            self._links.setdefault(link.source, []).append(link)
        self._hops: dict[str, list[Hop]] = {}
        self.bandwidth = _bandwidths(snapshot)  # Mbit/s, by host
        trusted = [self.bandwidth[host.host] for host in snapshot.hosts if host.verdict.trusted and host.resources]
        self._mean = fmean(trusted) if trusted else 1.0

    def hops(self, source: str) -> list[Hop]:
        """One for each link from `source`. A link that carries nothing is none."""
        known = self._hops.get(source)
        if known is None:
            known = self._hops[source] = [hop for link in self._links.get(source, ()) if (hop := self._hop(link))]
        return known

    def at_home(self, host: str) -> float:
        """The distance from a host to itself: a perfect link."""
        bandwidth = self.bandwidth.get(host, self._mean)
        return node_distance(self._mean, bandwidth, bandwidth, link_distance(0.0, 0.0))

    def _hop(self, link: Link) -> Hop | None:
        destination = self.bandwidth.get(link.destination)
        if destination is None or link.source == link.destination:
            return None
        far = link_distance(link.rtt_ms, link.loss)
        if far == math.inf:
            return None
        near = node_distance(self._mean, self.bandwidth.get(link.source, self._mean), destination, far)
        if link.bandwidth is not None:
            if not link.bandwidth > 0.0:
                return None
            # Never nearer than its ends' bandwidths make it: else hosts between which the links are faster than they
            # themselves would send their agents to and fro, each hop nearer than staying.
            near = max(near, node_distance(self._mean, link.bandwidth, link.bandwidth, far))
        return link.destination, near, 1.0 / far


def best_paths(
    start: str, neighbours: Callable[[str], Iterable[tuple[str, float]]], steps: int
) -> dict[str, tuple[float, tuple[str, ...]]]:
    """The cheapest path of at most `steps` hops to each host: its cost, and its hosts from `start` on.

    `neighbours(host)` gives hosts and the cost of the hop there, above zero. These are `steps` rounds of Bellman and
    Ford's algorithm. Dijkstra's finds the cheapest path of any length; where that is too long it hides a shorter one.
    Of equal costs the path that is first in alphabetical order is taken, so that equal pictures give equal paths.
    """
    best: dict[str, tuple[float, tuple[str, ...]]] = {start: (0.0, (start,))}
    newest = best
    for _ in range(steps):
        reached: dict[str, tuple[float, tuple[str, ...]]] = {}
        for host, (cost, path) in newest.items():
            for neighbour, more in neighbours(host):
                total = cost + more
                known = reached.get(neighbour) or best.get(neighbour)
                if known is None or total < known[0] or (total == known[0] and (*path, neighbour) < known[1]):
                    reached[neighbour] = (total, (*path, neighbour))
        best = best | reached
        newest = reached
    return best


def _bandwidths(snapshot: Snapshot) -> dict[str, float]:
    """The bandwidth of each host that a trusted one measured, or that states one.

    What others measured of a host goes before what it states. Where anything was measured, a host that nobody measured
    counts no more than the mean of the others: a large number in an advert attracts nobody.
    """
    trusted = {host.host for host in snapshot.hosts if host.verdict.trusted}
    samples: dict[str, list[float]] = {}
    for link in snapshot.links:
        if link.bandwidth and link.bandwidth > 0.0 and link.source in trusted:
            samples.setdefault(link.destination, []).append(link.bandwidth)
    measured = {host: fmean(found) for host, found in samples.items()}
    most = fmean(measured.values()) if measured else math.inf
    found = {}
    for host in snapshot.hosts:
        if host.host in measured:
            found[host.host] = measured[host.host]
        elif host.resources is not None:
            found[host.host] = min(host.resources.bandwidth, most)
    return found

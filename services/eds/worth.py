"""What hosts and hops are worth (equations 1, 3 and 4) to agents of equal weight, needs and user. Pure."""

from typing import NamedTuple

import msgspec

from services.eds.graph import Graph
from services.eds.snapshot import Resident, Snapshot
from services.eds.terms import access_quality, network, terms_of
from services.eds.weights import Terms, Weights, impulse, merit, migration_weight

ELSEWHERE = ""  # no host has this name: where to ask from whether a newcomer fits


class _Known(NamedTuple):
    """Of one host."""

    terms: Terms
    merit: float
    slope: float  # by how much the merit rises with the quality of the hop that leads there


class Worth:
    """With a user the network term is the user's link to the host, whatever hop leads there. Else it is the hop's."""

    def __init__(
        self,
        snapshot: Snapshot,
        graph: Graph,
        resident: Resident,
        weights: Weights,
        task_threshold: float,
        weight_threshold: float,
    ) -> None:
        """`resident`: any of the agents. `task_threshold` is WT and `weight_threshold` QT."""
        self._graph, self._resident, self._weights = graph, resident, weights
        self._wt, self.qt = task_threshold, weight_threshold
        self._hosts = {host.host: host for host in snapshot.hosts}
        newcomer = msgspec.structs.replace(resident, host=ELSEWHERE)
        self.unfit = {host.host: snapshot.unfit(newcomer, host) for host in snapshot.hosts}  # reason, None: it is fit
        self._access = {access.host: access for access in snapshot.access_of(resident.agent)}
        self._known: dict[str, _Known] = {}
        self._impulses: dict[str, float] = {}
        self._edges: dict[str, list[tuple[str, float]]] = {}

    def neighbours(self, source: str) -> list[tuple[str, float]]:
        """The hosts that a hop with Q > QT leads to, with its cost 1/Q.

        Algorithms for paths find the smallest sum of costs that are not negative, but Q is a benefit. 1/Q is positive
        and falls as Q rises; a negative or subtracted Q would be no cost at all. No hop leads to an unfit host, so no
        path leads through one; but the agent may leave one that it is on.
        """
        known = self._edges.get(source)
        if known is None:
            known = self._edges[source] = []
            for name, distance, quality in self._graph.hops(source):
                if self.unfit[name] is None:
                    q = self.q(source, name, distance, quality)
                    if q > self.qt:
                        known.append((name, 1.0 / q))
        return known

    def q(self, source: str, destination: str, distance: float, quality: float) -> float:
        """Equation 4 for one hop, or for staying."""
        known = self._of(destination)
        return migration_weight(known.merit + known.slope * quality, self._impulse(source), distance)

    def terms(self, name: str, quality: float) -> Terms:
        """Equation 1's terms of a host to which a link of this quality leads."""
        terms = self._of(name).terms
        if self._access:
            return terms
        wished = network(quality, self._graph.bandwidth[name], self._resident.needs.prefers)
        return msgspec.structs.replace(terms, network=wished)

    def _of(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            host, weights, prefers = self._hosts[name], self._weights, self._resident.needs.prefers
            assert host.resources is not None  # else it is unfit, and staying there is not weighed
            per_quality = network(1.0, self._graph.bandwidth[name], prefers)
            quality = access_quality(self._access.get(name)) if self._access else 0.0
            terms = terms_of(host, host.resources, quality * per_quality, prefers, weights.more)
            slope = 0.0 if self._access else weights.network * per_quality
            known = self._known[name] = _Known(terms, merit(terms, weights), slope)
        return known

    def _impulse(self, source: str) -> float:
        # The sum starts at the agent's own task weight, and one snapshot is one start: nothing is added to it.
        known = self._impulses.get(source)
        if known is None:
            leaves = self._hosts.get(source)
            weight = leaves.task_weight if leaves else 0.0
            known = self._impulses[source] = impulse(self._resident.task_weight, weight, self._wt)
        return known

"""What hosts and hops are worth (equations 1, 3 and 4) to agents that are alike. Pure."""

from typing import NamedTuple

import msgspec

from services.eds.graph import Graph
from services.eds.snapshot import Resident, Snapshot
from services.eds.terms import access_quality, network, terms_of
from services.eds.weights import Terms, Weights, impulse, merit, migration_weight

ELSEWHERE = ""  # no host has this name: where to ask from whether a newcomer fits


class Merit(NamedTuple):
    """Of one host, as equation 1 has it."""

    terms: Terms
    value: float
    slope: float  # by how much it rises with the quality of the hop that leads there


class Merits:
    """Of all hosts, to agents that follow one user and prefer the same.

    With a user the network term is the user's link to the host, whatever hop leads there. Else it is the hop's.
    """

    def __init__(self, snapshot: Snapshot, graph: Graph, resident: Resident, weights: Weights) -> None:
        """`resident`: any of the agents."""
        self._bandwidth, self._weights, self._prefers = graph.bandwidth, weights, resident.needs.prefers
        self._hosts = {host.host: host for host in snapshot.hosts}
        self._access = {access.host: access for access in snapshot.access_of(resident.agent)}
        self._known: dict[str, Merit] = {}

    def of(self, name: str) -> Merit:
        return self._known.get(name) or self._weighed(name)

    def terms(self, name: str, quality: float) -> Terms:
        """Those of a host to which a link of this quality leads."""
        terms = self.of(name).terms
        if self._access:
            return terms
        return msgspec.structs.replace(terms, network=network(quality, self._bandwidth[name], self._prefers))

    def _weighed(self, name: str) -> Merit:
        host, weights, prefers = self._hosts[name], self._weights, self._prefers
        assert host.resources is not None  # else it is unfit, and staying there is not weighed
        per_quality = network(1.0, self._bandwidth[name], prefers)
        quality = access_quality(self._access.get(name)) if self._access else 0.0
        terms = terms_of(host, host.resources, quality * per_quality, prefers, weights.more)
        slope = 0.0 if self._access else weights.network * per_quality
        self._known[name] = Merit(terms, merit(terms, weights), slope)
        return self._known[name]


class Worth:
    """What hops are worth to agents of equal weight and needs."""

    def __init__(
        self,
        snapshot: Snapshot,
        graph: Graph,
        merits: Merits,
        resident: Resident,
        task_threshold: float,
        weight_threshold: float,
    ) -> None:
        """`resident`: any of the agents. `task_threshold` is WT and `weight_threshold` QT."""
        self.merits, self._graph, self._task_weight = merits, graph, resident.task_weight
        self._wt, self.qt = task_threshold, weight_threshold
        self._weight = {host.host: host.task_weight for host in snapshot.hosts}
        newcomer = msgspec.structs.replace(resident, host=ELSEWHERE)
        self.unfit = {host.host: snapshot.unfit(newcomer, host) for host in snapshot.hosts}  # reason, None: it is fit
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
            force, merit_of, unfit, qt = self._impulse(source), self.merits.of, self.unfit, self.qt
            for name, distance, quality in self._graph.hops(source):
                if unfit[name] is None:
                    _, value, slope = merit_of(name)
                    q = migration_weight(value + slope * quality, force, distance)
                    if q > qt:
                        known.append((name, 1.0 / q))
        return known

    def q(self, source: str, destination: str, distance: float, quality: float) -> float:
        """Equation 4 for one hop, or for staying."""
        _, value, slope = self.merits.of(destination)
        return migration_weight(value + slope * quality, self._impulse(source), distance)

    def _impulse(self, source: str) -> float:
        # The sum starts at the agent's own task weight, and one snapshot is one start: nothing is added to it.
        return impulse(self._task_weight, self._weight.get(source, 0.0), self._wt)

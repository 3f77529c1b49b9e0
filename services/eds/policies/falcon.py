"""Falcon's migration decision (section 3.3, Algorithm 2), corrected. Pure; the reasons are in docs/decisions.md.

Algorithm 2 uses one variable for two loops and returns after the first pass; here agents are the outer loop. It
offers a direct hop below the threshold QT where the text says above; here it is above.
"""

from itertools import pairwise

import msgspec
import networkx as nx

from ledger.errors import Misuse
from services.eds.offers import Candidate, Offers, Rejection
from services.eds.snapshot import Host, Resident, Snapshot
from services.eds.weights import (
    Terms,
    Weights,
    link_distance,
    link_quality,
    migration_weight,
    node_distance,
    update_factor,
)


class Falcon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The policy and its settings."""

    weights: Weights = Weights()
    task_threshold: float = 1.0  # WT: a node with less task weight than this holds its agents back
    weight_threshold: float = 0.1  # QT: a hop is worth it only when its Q is above this
    max_steps: int = 3  # StepT: hops of the longest path
    gain: float = 1.1  # staying counts this many times its Q, so that near-equal hosts do not play ping-pong
    minimum_stay: float = 2.0  # seconds on a trusted host before an agent may move on

    def __post_init__(self) -> None:
        # `not a >= b` is also true when a is NaN.
        if not self.task_threshold >= 0 or not self.weight_threshold >= 0 or not self.minimum_stay >= 0:
            raise Misuse("WT, QT and the minimum stay cannot be negative")
        if not self.gain >= 1 or self.max_steps < 1:
            raise Misuse("the gain must be at least 1, and a path has at least one step")

    def offers(self, snapshot: Snapshot) -> Offers:
        candidates: dict[str, tuple[Candidate, ...]] = {}
        rejected: list[Rejection] = []
        again_at: list[float] = []
        for resident in snapshot.residents:
            view = _View(self, snapshot, resident)
            free_at = resident.since + self.minimum_stay
            held = free_at > snapshot.at and view.may_stay and not view.closed
            if held:
                again_at.append(free_at)
            open_places: list[Candidate] = []
            for host in snapshot.hosts:
                place = view.place(host)
                if isinstance(place, Candidate) and held and host.host != resident.host:
                    stayed = snapshot.at - resident.since
                    reason = f"it stays at least {self.minimum_stay:g} s; it has been there for {stayed:.1f} s"
                    place = Rejection(resident.agent, host.host, reason)
                if isinstance(place, Candidate):
                    open_places.append(place)
                else:
                    rejected.append(place)
            candidates[resident.agent] = tuple(sorted(open_places, key=lambda place: (-place.score, place.host)))
        return Offers(candidates, tuple(rejected), min(again_at, default=None))


class _View:
    """The graph as one agent sees it: an edge for each hop with Q > QT over hosts that it may use."""

    def __init__(self, policy: Falcon, snapshot: Snapshot, resident: Resident) -> None:
        self._policy = policy
        self._snapshot = snapshot
        self._resident = resident
        self._unfit = {host.host: snapshot.unfit(resident, host) for host in snapshot.hosts}
        self.may_stay = resident.host in self._unfit and self._unfit[resident.host] is None
        self.closed = any(host.closed for host in snapshot.hosts if host.host == resident.host)
        known = [host.resources.bandwidth for host in snapshot.hosts if host.resources and host.verdict.trusted]
        self._mean_bandwidth = sum(known) / len(known) if known else 1.0
        self._access = {access.host: access for access in snapshot.access_of(resident.agent)}
        self._graph = nx.DiGraph()
        self._weak: dict[str, float] = {}  # direct neighbours with a Q that is too small
        self._add_hops()
        self._cost: dict[str, float] = {}
        self._path: dict[str, list[str]] = {}
        if resident.host in self._graph:
            self._cost, self._path = nx.single_source_dijkstra(self._graph, resident.host, weight="cost")

    def place(self, host: Host) -> Candidate | Rejection:
        """What `host` is worth to the agent, or why it is out of the question."""
        name, here = host.host, self._resident.host
        unfit = self._unfit[name]
        if unfit is not None:
            return Rejection(self._resident.agent, name, unfit)
        if name == here:
            return self._stay(host)
        if self._graph.has_edge(here, name):
            return self._candidate(host, self._graph[here][name]["q"], [here, name])
        if name in self._path:
            steps = len(self._path[name]) - 1
            if steps > self._policy.max_steps:
                reason = f"the best path takes {steps} steps; at most StepT = {self._policy.max_steps} are taken"
                return Rejection(self._resident.agent, name, reason)
            # One hop costs 1/Q, so 1/cost is a path's Q: that of its only hop, or less than its worst hop's.
            return self._candidate(host, 1.0 / self._cost[name], self._path[name])
        if name in self._weak:
            reason = f"Q = {self._weak[name]:.4g} is not above QT = {self._policy.weight_threshold:g}, and no path is"
        else:
            reason = "no link to it was measured, and no path leads there"
        return Rejection(self._resident.agent, name, reason)

    def _stay(self, host: Host) -> Candidate:
        """Staying is a hop over a perfect link to itself. The paper compares no move with staying."""
        terms = self._terms(host, from_quality=1.0)
        if host.resources is None or terms is None:
            nothing = Terms(0.0, 0.0, 0.0, host.experience)
            note = "it stays; no fresh advert, so nothing is known of what it is worth"
            return Candidate(self._resident.agent, host.host, 0.0, nothing, 0.0, (host.host,), note)
        if host.closed:
            note = f"it stays, which is the last choice: {host.closed}"
            return Candidate(self._resident.agent, host.host, 0.0, terms, 0.0, (host.host,), note)
        distance = self._distance(host, host, 0.0, 0.0)
        q = migration_weight(terms, self._policy.weights, self._mu(host, distance))
        note = f"it stays; Q = {q:.4g} counts {self._policy.gain:g} times"
        return Candidate(self._resident.agent, host.host, q * self._policy.gain, terms, 0.0, (host.host,), note)

    def _candidate(self, host: Host, q: float, path: list[str]) -> Candidate:
        hops = [self._graph[a][b] for a, b in pairwise(path)]
        distance = sum(hop["distance"] for hop in hops)
        note = "" if len(hops) == 1 else "by the best path"
        return Candidate(self._resident.agent, host.host, q, hops[-1]["terms"], distance, tuple(path), note)

    def _add_hops(self) -> None:
        hosts = {host.host: host for host in self._snapshot.hosts}
        for link in self._snapshot.links:
            source, destination = hosts.get(link.source), hosts.get(link.destination)
            if source is None or destination is None or source is destination:
                continue
            # No hop leads to an unfit host, so no path leads through one; but the agent may leave one that it is on.
            if self._unfit[destination.host] is not None:
                continue
            terms = self._terms(destination, from_quality=link_quality(link.rtt_ms, link.loss))
            if terms is None:
                continue
            distance = self._distance(source, destination, link.rtt_ms, link.loss)
            q = migration_weight(terms, self._policy.weights, self._mu(source, distance))
            if q > self._policy.weight_threshold:
                # Dijkstra's algorithm finds the smallest sum of costs that are not negative, but Q is a benefit.
                # 1/Q is positive and falls as Q rises; a negative or subtracted Q would be no cost at all.
                self._graph.add_edge(source.host, destination.host, cost=1.0 / q, q=q, distance=distance, terms=terms)
            elif source.host == self._resident.host:
                self._weak[destination.host] = q

    def _terms(self, host: Host, from_quality: float) -> Terms | None:
        """Equation 1's terms. The network's is the user's link to `host` where there is a user, else the hop's own."""
        if host.resources is None:
            return None
        network = from_quality
        if self._access:
            access = self._access.get(host.host)
            # A host that the access point did not reach serves this user worst of all.
            network = link_quality(access.rtt_ms, access.loss) if access else 0.0
        return Terms(network, host.resources.cpu_free, host.resources.memory_free_part, host.experience)

    def _distance(self, source: Host, destination: Host, rtt_ms: float, loss: float) -> float:
        b_i, b_j = (
            host.resources.bandwidth if host.resources else self._mean_bandwidth for host in (source, destination)
        )
        return node_distance(self._mean_bandwidth, b_i, b_j, link_distance(rtt_ms, loss))

    def _mu(self, source: Host, distance: float) -> float:
        # The sum starts at the agent's own task weight, and one snapshot is one start: nothing is added to it.
        return update_factor(self._resident.task_weight, source.task_weight, self._policy.task_threshold, distance)

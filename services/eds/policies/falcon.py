"""Falcon's migration decision (section 3.3, Algorithm 2), corrected. Pure; the reasons are in docs/decisions.md.

Algorithm 2 uses one variable for two loops and returns after the first pass; here agents are the outer loop. It
offers a direct hop below the threshold QT where the text says above; here it is above.
"""

from itertools import pairwise

import msgspec

from ledger.errors import Misuse
from services.eds.graph import Graph, best_paths
from services.eds.offers import Candidate, Offers, Rejection
from services.eds.snapshot import Host, Resident, Snapshot
from services.eds.weights import Terms, Weights
from services.eds.worth import Merits, Worth


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
        graph = Graph(snapshot)
        users = {agent: group.user for group in snapshot.groups for agent in group.agents}
        hosts = {host.host: host for host in snapshot.hosts}
        # What is alike is worked out once: for one user, for one weight and needs, in one place.
        merits: dict[object, Merits] = {}
        worths: dict[object, Worth] = {}
        views: dict[object, _View] = {}
        candidates: dict[str, tuple[Candidate, ...]] = {}
        rejected: list[Rejection] = []
        again_at: dict[str, float] = {}
        for resident in snapshot.residents:
            agent = resident.agent
            must_leave = _must_leave(hosts.get(resident.host))
            alike = (must_leave, resident.task_weight, resident.needs, users.get(agent))
            wishes = (resident.needs.prefers, users.get(agent))
            if wishes not in merits:
                merits[wishes] = Merits(snapshot, graph, resident, self.weights)
            if alike not in worths:
                # Nothing holds an agent on a host that it must leave: no minimum stay, no QT, no WT.
                wt, qt = (0.0, 0.0) if must_leave else (self.task_threshold, self.weight_threshold)
                worths[alike] = Worth(snapshot, graph, merits[wishes], resident, wt, qt)
            view = views.get((resident.host, alike))
            if view is None:
                view = views[resident.host, alike] = _View(self, graph, worths[alike], hosts, resident)
            rejected += [Rejection(agent, host, reason) for host, reason in view.rejected]
            places = view.places(agent)
            free_at = resident.since + self.minimum_stay
            if free_at > snapshot.at and not must_leave:
                again_at[agent] = free_at
                stayed = snapshot.at - resident.since
                reason = f"it stays at least {self.minimum_stay:g} s; it has been there for {stayed:.1f} s"
                rejected += [Rejection(agent, place.host, reason) for place in places if place.host != resident.host]
                places = tuple(place for place in places if place.host == resident.host)
            candidates[agent] = places
        return Offers(candidates, tuple(rejected), again_at)


def _must_leave(here: Host | None) -> bool:
    """Of a host that the ledger does not trust or know, or that is closed."""
    return here is None or bool(here.closed) or not here.verdict.trusted


class _View:
    """What the places are worth to `resident`, and to those who are alike in the same place."""

    def __init__(self, policy: Falcon, graph: Graph, worth: Worth, hosts: dict[str, Host], resident: Resident) -> None:
        self._policy, self._graph, self._worth, self._hosts = policy, graph, worth, hosts
        self._agent, self._here = resident.agent, resident.host
        self.rejected: list[tuple[str, str]] = []  # host and reason
        self._places = tuple(sorted(self._judged(), key=lambda place: (-place.score, place.host)))

    def places(self, agent: str) -> tuple[Candidate, ...]:
        if agent == self._agent:
            return self._places
        return tuple(msgspec.structs.replace(place, agent=agent) for place in self._places)

    def _judged(self) -> list[Candidate]:
        here, worth = self._here, self._worth
        hops = {name: (distance, quality) for name, distance, quality in self._graph.hops(here)}
        direct = {name: 1.0 / cost for name, cost in worth.neighbours(here)}
        others = [name for name, unfit in worth.unfit.items() if unfit is None and name != here]
        # Where every host is next to this one, there is no need to look for paths.
        paths = {}
        if any(name not in direct for name in others):
            paths = best_paths(here, worth.neighbours, self._policy.max_steps)
        places = []
        for name, host in self._hosts.items():
            if name == here:
                if host.verdict.trusted:
                    places.append(self._stay(host))
                else:
                    self.rejected.append((name, f"not trusted: {host.verdict.reason}"))
            elif (unfit := worth.unfit[name]) is not None:
                self.rejected.append((name, unfit))
            elif name in direct:
                distance, quality = hops[name]
                places.append(
                    Candidate(
                        self._agent, name, direct[name], worth.merits.terms(name, quality), distance, (here, name), ""
                    )
                )
            elif name in paths:
                places.append(self._by_path(name, *paths[name]))
            elif name in hops:
                reason = f"Q = {worth.q(here, name, *hops[name]):.4g} is not above QT = {worth.qt:g}, and no path is"
                self.rejected.append((name, reason))
            else:
                most = self._policy.max_steps
                reason = f"no link to it was measured, and no path of at most StepT = {most} hops leads there"
                self.rejected.append((name, reason))
        return places

    def _stay(self, host: Host) -> Candidate:
        """Staying is a hop over a perfect link to itself. The paper compares no move with staying."""
        if host.resources is None:
            nothing = Terms(0.0, 0.0, 0.0, host.experience)
            note = "no fresh advert: nothing is known of what staying is worth"
            return Candidate(self._agent, host.host, 0.0, nothing, 0.0, (host.host,), note)
        terms = self._worth.merits.terms(host.host, 1.0)
        if host.closed:
            note = f"it stays, which is the last choice: {host.closed}"
            return Candidate(self._agent, host.host, 0.0, terms, 0.0, (host.host,), note)
        q = self._worth.q(host.host, host.host, self._graph.at_home(host.host), 1.0)
        note = f"staying counts {self._policy.gain:g} times its Q, which is {q:.4g}"
        return Candidate(self._agent, host.host, q * self._policy.gain, terms, 0.0, (host.host,), note)

    def _by_path(self, name: str, cost: float, path: tuple[str, ...]) -> Candidate:
        """One hop costs 1/Q, so 1/cost is a path's Q: that of its only hop, or less than its worst hop's."""
        hops = [
            next((distance, quality) for after, distance, quality in self._graph.hops(before) if after == follower)
            for before, follower in pairwise(path)
        ]
        distance = sum(distance for distance, _ in hops)
        return Candidate(
            self._agent,
            name,
            1.0 / cost,
            self._worth.merits.terms(name, hops[-1][1]),
            distance,
            path,
            "by the best path",
        )

"""Why a decision came out as it did: everything it rested on, as plain data, and as rows of a table. Pure."""

from typing import Any

import msgspec

from services.eds.offers import Candidate, Offers, Rejection
from services.eds.plan import Search
from services.eds.snapshot import Snapshot

COLUMNS = ("agent", "host", "decision", "Q", "network", "cpu", "memory", "experience", "distance", "remark")


class Outcome(msgspec.Struct, frozen=True):
    """What became of a plan. Agents of the plan's moves that are not in `failed` are where they should be."""

    failed: dict[str, str] = {}  # agent -> reason
    downtime_ms: dict[str, float] = {}  # agent that moved -> for how long it stood still, by its source's clock


class Explanation(msgspec.Struct, frozen=True):
    """One decision. It is kept before the plan is carried out; `outcome` is known afterwards."""

    decision: str  # its id
    groups: tuple[str, ...]  # that were decided together
    at: float  # seconds since 1970
    why: str  # what set it off
    policy: dict[str, Any]  # name and settings
    inputs: dict[str, Any]  # the snapshot, as plain data
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    present: dict[str, str]  # agent -> host, before
    chosen: dict[str, str]  # agent -> host, after; equals `present` when nobody moves
    benefit: float
    bound: float  # no plan brings more than this
    stuck: dict[str, tuple[str, ...]]  # group for which there is no plan, and that stays -> what stood in the way
    steps: int
    remark: str  # what a person should know of the search
    outcome: Outcome | None = None

    def rows(self) -> list[tuple[str, ...]]:
        """One row under COLUMNS for each candidate and each rejection."""
        rows = []
        for place in self.candidates:
            four = (place.terms.network, place.terms.cpu, place.terms.memory, place.terms.experience)
            numbers = [f"{place.score:.4g}", *(f"{value:.2f}" for value in four)]
            remark = place.note if len(place.path) < 3 else f"{place.note}: {' > '.join(place.path)}"
            more = (f"{name} {value:.2f}" for name, value in place.terms.more.items())
            remark = ", ".join(part for part in (remark, *more) if part)
            decision = self._decision(place.agent, place.host)
            rows.append((place.agent, place.host, decision, *numbers, f"{place.distance:.3f}", remark))
        empty = [""] * 6
        rows += [(place.agent, place.host, "rejected", *empty, place.reason) for place in self.rejected]
        order = {"stays": 0, "goes": 0, "candidate": 1, "rejected": 2}
        return sorted(rows, key=lambda row: (row[0], order[row[2]]))  # within these, as the policy ordered them

    def _decision(self, agent: str, host: str) -> str:
        if self.chosen.get(agent) != host:
            return "candidate"
        return "stays" if self.present.get(agent) == host else "goes"


def explain(
    decision: str, why: str, policy: dict[str, Any], snapshot: Snapshot, offers: Offers, found: Search
) -> Explanation:
    present = {resident.agent: resident.host for resident in snapshot.residents}
    return Explanation(
        decision=decision,
        groups=tuple(group.name for group in snapshot.groups),
        at=snapshot.at,
        why=why,
        policy=policy,
        inputs=msgspec.to_builtins(snapshot),
        candidates=tuple(place for places in offers.candidates.values() for place in places),
        rejected=offers.rejected,
        present=present,
        chosen=present | found.plan.hosts,
        benefit=found.plan.benefit,
        bound=found.bound,
        stuck=found.stuck,
        steps=found.steps,
        remark=_remark(found),
    )


def _remark(found: Search) -> str:
    parts = []
    for group, reasons in found.stuck.items():
        why = "no plan keeps all rules" if found.complete else "no plan was found within the limit of work"
        parts.append(f"{group} stays where it is, {why}: {'; '.join(reasons)}")
    if not found.plan.moves and not found.stuck:
        parts.append("staying is best")
    if not found.complete:
        parts.append(
            f"the search stopped at its limit of {found.steps} steps: "
            f"a better plan may exist, and this one is at most {found.gap:.2%} short of the best"
        )
    if found.obstacles and not found.stuck:
        parts.append("cut off: " + "; ".join(found.obstacles))
    return ". ".join(parts)

"""Why a decision came out as it did: everything it rested on, as plain data, and as rows of a table. Pure."""

from typing import Any

import msgspec

from ledger.errors import Misuse
from services.eds.offers import Candidate, Offers, Rejection
from services.eds.plan import Search
from services.eds.snapshot import Snapshot
from services.eds.weights import Terms

SHORT = 5  # candidates, and rejections, of each agent in an explanation that would be too large otherwise


class Outcome(msgspec.Struct, frozen=True):
    """What became of a plan. Agents of the plan's moves that are not in `failed` are where they should be."""

    failed: dict[str, str] = {}  # agent -> reason
    downtime_ms: dict[str, float] = {}  # agent that moved -> for how long it stood still, by its source's clock
    sizes: dict[str, int] = {}  # agent that moved -> bytes that it took: its share of its handoff
    excused: tuple[str, ...] = ()  # those in `failed` of which the destination is not to blame: a veto, say


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
    follows: str = ""  # the decision whose plan failed, and after which this one was taken at once
    attempt: int = 1  # with that, and those that it followed

    @property
    def ending(self) -> str:
        """What became of it, in words."""
        if self.chosen == self.present:
            return "nobody was moved"
        if self.outcome is None:
            return "no outcome is known: its moves are under way, or this host was ended before they were done"
        if not self.outcome.failed:
            return "all came"
        return "; ".join(f"{agent} did not go: {reason}" for agent, reason in sorted(self.outcome.failed.items()))

    def shortened(self) -> "Explanation":
        """For one that is too large to be kept whole: of each agent the first few places, and what was chosen."""
        remark = "it is too large to be kept whole: its inputs and most of the places are left out"
        shown: dict[tuple[str, bool], int] = {}

        def few(place: Candidate | Rejection) -> bool:
            key = place.agent, isinstance(place, Candidate)
            shown[key] = shown.get(key, 0) + 1
            return shown[key] <= SHORT or (key[1] and self.chosen.get(place.agent) == place.host)

        return msgspec.structs.replace(
            self,
            inputs={},
            candidates=tuple(filter(few, self.candidates)),
            rejected=tuple(filter(few, self.rejected)),
            remark=f"{self.remark}. {remark}" if self.remark else remark,
        )

    def snapshot(self) -> Snapshot:
        """What it rested on. Raises Misuse for one that another version wrote, or that was too large to be kept."""
        if not self.inputs:
            raise Misuse(f"what decision {self.decision} rested on was too large to be kept; try: agentplatform decide")
        try:
            return msgspec.convert(self.inputs, Snapshot)
        except (msgspec.ValidationError, Misuse) as error:
            message = f"the snapshot of decision {self.decision} cannot be read by this version: {error}"
            raise Misuse(f"{message}; `agentplatform why` shows what else it rested on") from None

    @property
    def columns(self) -> tuple[str, ...]:
        """Of `rows`: with the terms that the policy weighs; one that weighs nothing would only be in the way."""
        return ("agent", "host", "decision", "Q", *self._terms(), "distance", "remark")

    def rows(self) -> list[tuple[str, ...]]:
        """One row under `columns` for each candidate and each rejection."""
        rows, terms = [], self._terms()
        for place in self.candidates:
            known = values(place.terms)
            numbers = [f"{place.score:.4g}", *(f"{known[name]:.2f}" if name in known else "" for name in terms)]
            remark = place.note if len(place.path) < 3 else f"{place.note}: {' > '.join(place.path)}"
            decision = self._decision(place.agent, place.host)
            rows.append((place.agent, place.host, decision, *numbers, f"{place.distance:.3f}", remark))
        empty = [""] * (len(terms) + 2)
        rows += [(place.agent, place.host, "rejected", *empty, place.reason) for place in self.rejected]
        order = {"stays": 0, "goes": 0, "leaves": 1, "candidate": 1, "rejected": 2}
        return sorted(rows, key=lambda row: (row[0], order[row[2]]))  # within these, as the policy ordered them

    def weights(self) -> dict[str, float]:
        """What the policy says that each term weighs; empty when it says nothing of that."""
        return numbers(self.policy.get("settings", {}).get("weights", {}))

    def _terms(self) -> tuple[str, ...]:
        weights = self.weights()
        unsaid = 0.0 if weights else 1.0
        names = dict.fromkeys(name for place in self.candidates for name in values(place.terms))
        return tuple(name for name in names if weights.get(name, unsaid) != 0.0)

    def _decision(self, agent: str, host: str) -> str:
        here = self.present.get(agent) == host
        if self.chosen.get(agent) == host:
            return "stays" if here else "goes"
        return "leaves" if here else "candidate"


def values(terms: Terms) -> dict[str, float]:
    """All terms by name, those too that a policy adds of its own."""
    return numbers(msgspec.to_builtins(terms))


def numbers(data: dict[str, Any]) -> dict[str, float]:
    """The numbers of plain data by name; a table in it counts as if its rows stood there."""
    found: dict[str, float] = {}
    for name, value in data.items():
        found |= numbers(value) if isinstance(value, dict) else {name: value}
    return found


def explain(
    decision: str,
    why: str,
    policy: dict[str, Any],
    snapshot: Snapshot,
    offers: Offers,
    found: Search,
    follows: str = "",
    attempt: int = 1,
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
        follows=follows,
        attempt=attempt,
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
            f"after {found.steps} steps it is not certain that no plan is better: "
            f"this one is at most {found.gap:.2%} short of the best"
        )
    if found.obstacles and not found.stuck:
        parts.append("not everybody can have the best place: " + "; ".join(found.obstacles))
    return ". ".join(parts)

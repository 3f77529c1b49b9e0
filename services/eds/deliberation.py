"""One decision from a picture: scores, lowered where moves failed lately, then a plan, and why. Pure, but long for one
turn of an event loop."""

from collections.abc import Callable

import msgspec

from services.eds.explain import Explanation, explain
from services.eds.offers import Offers, Policy
from services.eds.plan import Plan, Search
from services.eds.planner import search
from services.eds.refusals import lowered
from services.eds.snapshot import Snapshot

Solve = Callable[[Snapshot, Offers], Search]


class Deliberation(msgspec.Struct, frozen=True):
    plan: Plan
    explanation: Explanation
    again_at: dict[str, float]  # by agent: see offers.Offers


def deliberate(
    snapshot: Snapshot,
    policy: Policy,
    why: str,
    decision: str,
    follows: Explanation | None = None,
    solve: Solve = search,
) -> Deliberation:
    """`decision` is its id; `follows` the one whose plan failed."""
    offers = lowered(policy.offers(snapshot), snapshot)
    found = solve(snapshot, offers)
    data = {"name": type(policy).__name__, "settings": msgspec.to_builtins(policy)}
    chain = ("", 1) if follows is None else (follows.decision, follows.attempt + 1)
    return Deliberation(found.plan, explain(decision, why, data, snapshot, offers, found, *chain), offers.again_at)

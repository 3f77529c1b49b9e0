"""One decision from a picture: scores, lowered where moves failed lately, then a plan, and why. Pure, but long for one
turn of an event loop."""

from collections.abc import Collection

import msgspec

from services.eds import planner
from services.eds.explain import Explanation, explain
from services.eds.offers import Policy
from services.eds.plan import Plan
from services.eds.refusals import Refusals
from services.eds.snapshot import Snapshot


class Deliberation(msgspec.Struct, frozen=True):
    plan: Plan
    explanation: Explanation
    again_at: float | None  # seconds since 1970: see offers.Offers


def deliberate(
    decision: str,
    why: str,
    policy: Policy,
    snapshot: Snapshot,
    refusals: Refusals,
    follows: Explanation | None = None,
    moved: Collection[str] = (),
) -> Deliberation:
    """`decision` is its id; `follows` the one whose plan failed, after which agents have `moved` already."""
    offers = refusals.lowered(policy.offers(snapshot), snapshot, moved)
    found = planner.search(snapshot, offers)
    data = {"name": type(policy).__name__, "settings": msgspec.to_builtins(policy)}
    chain = ("", 1) if follows is None else (follows.decision, follows.attempt + 1)
    return Deliberation(found.plan, explain(decision, why, data, snapshot, offers, found, *chain), offers.again_at)

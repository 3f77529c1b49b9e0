"""The path of an agent, from what hosts and the ledger say of its hops: what is proved, and where it breaks. Pure.

A hop can be known in three ways, the stronger first. *Ledger*: a record, which only source or destination could make
while they were trusted. *Pass*: the source signed that it had handed the agent over (agentplatform.passes). *Word*: the
host that it left says so in its own book. Who lies can leave hops out, and add some of its own; it cannot sign for
others.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

MAX_HOPS = 256  # of one agent that are looked at: the newest
Proof = Literal["ledger", "pass", "word"]
_RANK: dict[Proof, int] = {"ledger": 0, "pass": 1, "word": 2}


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something says that the agent came from `source` to `destination`, where it was at `epoch`."""

    epoch: int
    source: str
    destination: str
    proof: Proof
    by: str  # who recorded, signed, or says it
    height: int | None = None  # of the record
    at: float | None = None  # seconds since 1970, by the source's clock


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a host's organisation on the ledger."""

    status: str
    since: int  # height
    trusted: bool


class Hop(msgspec.Struct, frozen=True):
    epoch: int
    source: str
    destination: str
    proved: tuple[str, ...]  # "ledger: recorded by north at height 7", the strongest first
    sure: bool  # not by words alone
    then: str  # how source and destination stood when the hop was recorded; "" when it was not
    now: str  # how they stand
    at: float | None
    breaks: tuple[str, ...]  # what does not fit


def path(claims: Iterable[Claim], standings: Mapping[str, Standing], here: tuple[str, int] | None) -> list[Hop]:
    """The hops, the oldest first. `here` is where the agent is believed to be, and its epoch (None: it ended)."""
    by_epoch: dict[int, list[Claim]] = {}
    for claim in claims:
        if claim not in (told := by_epoch.setdefault(claim.epoch, [])):
            told.append(claim)
    hops: list[Hop] = []
    for epoch in sorted(by_epoch)[-MAX_HOPS:]:
        told = sorted(by_epoch[epoch], key=lambda claim: (_RANK[claim.proof], claim.by, claim.destination))
        hops.append(_hop(told, standings, hops[-1] if hops else None))
    if here is not None and hops and here[1] >= hops[-1].epoch:
        hops[-1] = _ended(hops[-1], *here)
    return hops


def _hop(told: list[Claim], standings: Mapping[str, Standing], before: Hop | None) -> Hop:
    best = told[0]
    same = [claim for claim in told if (claim.source, claim.destination) == (best.source, best.destination)]
    breaks = [
        f"contradiction: {_by(claim)} says that it went from {claim.source} to {claim.destination}"
        for claim in told
        if claim not in same
    ]
    if before is not None and before.destination != best.source:
        missing = best.epoch - before.epoch - 1
        said = f"it had come to {before.destination} at epoch {before.epoch}, and left from {best.source}"
        breaks.append(f"{'gap' if missing else 'break'}: {said}; {_missing(missing)}")
    elif before is None and best.epoch > 1:
        breaks.append(f"the way to {best.source} is not known here: nothing is said of the epochs before")
    height = next((claim.height for claim in same if claim.height is not None), None)
    ends = (best.source, best.destination)
    if height is not None:
        breaks += [
            f"{host} was {standing.status} since height {standing.since}, when this was recorded"
            for host in ends
            if (standing := standings.get(host)) is not None and not standing.trusted and standing.since <= height
        ]
    return Hop(
        best.epoch,
        *ends,
        proved=tuple(dict.fromkeys(_by(claim) for claim in same)),
        sure=best.proof != "word",
        then="" if height is None else _words(ends, {host: _then(standings.get(host), height) for host in ends}),
        now=_words(ends, {host: _now(standings.get(host)) for host in ends}),
        at=next((claim.at for claim in same if claim.at is not None), None),
        breaks=tuple(breaks),
    )


def _missing(epochs: int) -> str:
    if epochs == 0:
        return "one of the two is false"
    return f"nothing is known of the {epochs} epoch{'s' if epochs > 1 else ''} between"


def _ended(last: Hop, host: str, epoch: int) -> Hop:
    if host == last.destination:
        return last
    said = f"it is believed to be on {host} at epoch {epoch}, and this hop led to {last.destination}"
    kind = "break" if epoch == last.epoch else "gap"
    return msgspec.structs.replace(last, breaks=(*last.breaks, f"{kind}: {said}"))


def _by(claim: Claim) -> str:
    if claim.proof == "ledger":
        return f"ledger: recorded by {claim.by} at height {claim.height}"
    return f"pass: signed by {claim.by}" if claim.proof == "pass" else f"word of {claim.by}"


def _words(ends: tuple[str, str], words: Mapping[str, str]) -> str:
    """One word where both stand alike."""
    one, other = (words[host] for host in ends)
    return one if one == other else f"{ends[0]} {one}, {ends[1]} {other}"


def _now(standing: Standing | None) -> str:
    return "not on the ledger" if standing is None else standing.status


def _then(standing: Standing | None, height: int) -> str:
    """As far as the last change of its standing tells."""
    if standing is None:
        return "not on the ledger"
    if standing.since <= height:
        return standing.status
    return "not known" if standing.trusted else "trusted"

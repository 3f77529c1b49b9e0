"""A decision that is taken again, from what was saved of it, with or without a change: nothing moves. Pure.

A saved decision is one JSON object (Saved). It is somebody's file: it is read strictly, and within limits.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from ledger.errors import Misuse
from services.eds.deliberation import Solve, deliberate
from services.eds.explain import Explanation
from services.eds.offers import Policy
from services.eds.planner import PLANNERS, search
from services.eds.refusals import MAX_REFUSALS
from services.eds.snapshot import Snapshot

FORMAT: Final = "agentplatform-decision-1"
MAX_BYTES = 64 << 20  # of a file
MAX_HOSTS = 10_000
MAX_LINKS = 1_000_000
MAX_AGENTS = 10_000
MAX_AT = 1e11  # seconds since 1970: some year that a calendar has

_MADE_BY = "one that can be read is made by: agentplatform why AGENT --save FILE"


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a decision rested on, and what was decided: enough to take it again."""

    format: Literal["agentplatform-decision-1"]
    decision: str
    why: str
    policy: dict[str, Any]  # name and settings
    snapshot: Snapshot
    chosen: dict[str, str]  # agent -> host, as it was decided


def save(explained: Explanation) -> bytes:
    """As readable JSON. Raises Misuse for an explanation that another version wrote."""
    saved = Saved(
        FORMAT, explained.decision, explained.why, explained.policy, explained.snapshot(), dict(explained.chosen)
    )
    return msgspec.json.format(msgspec.json.encode(saved), indent=1) + b"\n"


def read(raw: bytes, file: str) -> Saved:
    """Raises Misuse that says what is wrong with the file, and where."""
    if len(raw) > MAX_BYTES:
        raise Misuse(f"{file} has {len(raw)} bytes; a saved decision has at most {MAX_BYTES}")
    try:
        plain = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Misuse(f"{file} is no JSON: {error}; {_MADE_BY}") from None
    said = plain.get("format") if isinstance(plain, dict) else None
    if said != FORMAT:
        kind = "no saved decision" if said is None else f"a decision of the format {str(said)!r:.60}, not {FORMAT!r}"
        raise Misuse(f"{file} is {kind}; {_MADE_BY}")
    try:
        saved = msgspec.convert(plain, Saved)
        check(saved.snapshot)
    except (ValueError, Misuse) as error:  # a ValidationError is a ValueError; Misuse comes from groups
        raise Misuse(f"{file} is a damaged decision: {error}; {_MADE_BY}") from None
    return saved


def policy_of(name: str, settings: Mapping[str, Any], policies: Mapping[str, type[Policy]]) -> Policy:
    """A policy by its name in the table, or that of its class. Raises Misuse for another, or settings not its own."""
    kind = policies.get(name) or next((each for each in policies.values() if each.__name__ == name), None)
    if kind is None:
        raise Misuse(f"there is no policy {name!r}; there are: {', '.join(policies)}")
    try:
        return msgspec.convert(settings, kind)
    except (msgspec.ValidationError, Misuse) as error:
        fields = ", ".join(field.name for field in msgspec.structs.fields(kind))  # type: ignore[arg-type]
        raise Misuse(f"{name} has no such settings: {error}; it has {fields}") from None


def planner_of(name: str) -> Solve:
    """Raises Misuse for a name that is not in the table."""
    if name not in PLANNERS:
        raise Misuse(f"there is no planner {name!r}; there are: {', '.join(PLANNERS)}")
    return PLANNERS[name]


def decide(
    snapshot: Snapshot, policy: Policy, why: str, decision: str = "what-if", solve: Solve = search
) -> Explanation:
    """The decision, as the EDS takes it; nobody is told."""
    return deliberate(snapshot, policy, why, decision, solve=solve).explanation


def differences(before: Explanation, after: Explanation) -> list[dict[str, Any]]:
    """What is not as it was: the host of an agent (first), then what a place is worth, or that it is open at all."""
    agents = [
        {"agent": agent, "what": "host", "before": host, "after": after.chosen.get(agent, host)}
        for agent, host in sorted(before.chosen.items())
        if after.chosen.get(agent, host) != host
    ]
    was, now = _worth(before), _worth(after)
    places = [
        {
            "agent": agent,
            "what": f"Q on {host}",
            "before": was.get((agent, host), ""),
            "after": now.get((agent, host), ""),
        }
        for agent, host in sorted(was.keys() | now.keys())
        if was.get((agent, host)) != now.get((agent, host))
    ]
    return agents + places


def _worth(explained: Explanation) -> dict[tuple[str, str], str]:
    worth = {(place.agent, place.host): f"{place.score:.4g}" for place in explained.candidates}
    return worth | {(place.agent, place.host): f"no: {place.reason}" for place in explained.rejected}


# What a file may say


def check(snapshot: Snapshot) -> None:
    """Raises ValueError for a picture that no host takes, before a policy works on it."""
    if not 0 <= snapshot.at <= MAX_AT:
        raise ValueError(f"it was taken at {snapshot.at} seconds since 1970")
    for what, there, most in (
        ("hosts", snapshot.hosts, MAX_HOSTS),
        ("links", snapshot.links, MAX_LINKS),
        ("agents", snapshot.residents, MAX_AGENTS),
        ("failed moves", snapshot.refused, MAX_REFUSALS),
    ):
        if len(there) > most:
            raise ValueError(f"it has {len(there)} {what}; at most {most} are taken")
    hosts = _once("host", (host.host for host in snapshot.hosts))
    agents = _once("agent", (resident.agent for resident in snapshot.residents))
    _once("agent of a group", (agent for group in snapshot.groups for agent in group.agents))
    if absent := sorted({agent for group in snapshot.groups for agent in group.agents} - agents):
        raise ValueError(f"nobody says where {absent[0]!r} is")
    for host in snapshot.hosts:
        for name in ("task_weight", "experience"):
            _check_number(name, getattr(host, name))
        if not 0 <= host.experience <= 1:
            raise ValueError(f"the experience with {host.host} is {host.experience}; it is between 0 and 1")
    for link in snapshot.links:
        if not {link.source, link.destination} <= hosts:
            raise ValueError(f"a link leads from {link.source!r} to {link.destination!r}, and one of them is no host")
        _check_number("rtt_ms", link.rtt_ms)
        if not 0 <= link.loss <= 1:
            raise ValueError(f"the loss of a link is {link.loss}; it is between 0 and 1")
    for resident in snapshot.residents:
        _check_number("task_weight", resident.task_weight)


def _once(what: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"it has the {what} {name!r} twice")
        seen.add(name)
    return seen


def _check_number(name: str, value: object) -> None:
    if isinstance(value, float) and not 0.0 <= value < 1e15:  # also true for NaN
        raise ValueError(f"{name} is {value}; it is a number, and not below 0")

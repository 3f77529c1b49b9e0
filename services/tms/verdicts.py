"""From what the ledger says of organisations and hosts to a verdict on each host. Pure."""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from ledger.contracts import claims, membership
from ledger.contracts.state import View
from ledger.contracts.trust import LEFT, REVOKED, SUSPENDED, TRUSTED, Standing
from ledger.currency import Currency
from ledger.links.base import Passport
from services.tms.claims import Required

# Of the host's organisation; "removed": it is its organisation's no more; "disputed": the ledger contradicts itself.
Word = Literal["member", "suspended", "revoked", "left", "removed", "disputed", "unknown"]
_WORDS: dict[str, Word] = {TRUSTED: "member", SUSPENDED: "suspended", REVOKED: "revoked", LEFT: "left"}

_NOTHING = Required()

MAX_BEHIND = 50  # blocks; a replica that keeps up lacks those that are being sent
MAX_UNHEARD = 120.0  # seconds; replicas tell each other their heights every thirty


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether agents may go to `host`, by the ledger's state at `height`."""

    host: str
    trusted: bool
    reason: str  # for people: why, or why not
    height: int
    standing: Word = "unknown"
    rotated: int | None = None  # the height from which its present key counts; None: it has its first one
    behind: int = 0  # blocks that the ledger of this host lacks, by the word of more members than may lie
    claims: dict[str, str] = {}  # what it says of itself on the ledger: words, and no proof (services.tms.claims)
    lacking: str = ""  # which of them is not what this host asks for; "" when all are
    outdated: str = ""  # why nothing new is to rest on this verdict, and what to do; "" when it may


def verdicts(
    registry: Mapping[str, Passport],
    standings: Iterable[Standing],
    height: int,
    state: View | None = None,
    current: Currency | None = None,
    required: Required = _NOTHING,
) -> dict[str, Verdict]:
    """A verdict on every host that the ledger names. `registry` has the hosts that are trusted now; `state` tells of
    keys and claims, `current` how far all of it is behind, `required` what this host asks of others.

    Where registry and standings disagree the host is not trusted: a refused move can be tried again, a lost agent
    cannot.
    """
    behind, late = (0, "") if current is None else (current.behind, outdated(current))
    found: dict[str, Verdict] = {}
    for standing in standings:
        name = standing.organisation.name
        for passport in standing.organisation.hosts:
            word, trusted = _WORDS[standing.status], standing.status == TRUSTED
            reason = f"{name} is {standing.status} since height {standing.since}: {standing.reason}"
            if trusted and registry.get(passport.host) != passport:
                word, trusted, reason = "disputed", False, f"the registry does not have it as {name} registered it"
            rotated = None if state is None else membership.rotated(state, passport.host)
            claimed = None if state is None else claims.of(state, passport.host)
            facts = dict(claimed.facts) if claimed is not None else {}
            if rotated is not None:
                reason = f"{reason}; its key was changed at height {rotated}"
            found[passport.host] = Verdict(
                passport.host,
                trusted,
                reason,
                height,
                word,
                rotated,
                behind,
                claims=facts,
                lacking=required.lacking(facts),
                outdated=late,
            )
    for host, passport in registry.items():
        if host not in found:
            reason = f"the ledger knows no organisation {passport.organisation} with this host"
            found[host] = Verdict(host, False, reason, height, "disputed", None, behind, outdated=late)
    return dict(sorted(found.items()))


def unknown(host: str, height: int, state: View | None = None) -> Verdict:
    """The verdict on a host that is no organisation's now."""
    removal = None if state is None else membership.removal(state, host)
    if removal is not None:
        reason = f"{removal.organisation} removed it at height {removal.height}: {removal.reason}"
        return Verdict(host, False, reason, height, "removed")
    return Verdict(host, False, f"the ledger names no host {host!r} at height {height}", height)


def outdated(current: Currency) -> str:
    """Why nothing new is to rest on the ledger of this host, and what to do; "" when it may."""
    if current.behind > MAX_BEHIND:
        return (
            f"this host's ledger is {current.behind} blocks behind the other members (at most {MAX_BEHIND} are taken):"
            " wait until it has caught up, and see its height in: agentplatform status"
        )
    if current.unheard > MAX_UNHEARD:
        return (
            f"this host's ledger has not heard a quorum of the members for {current.unheard:.0f} s (at most"
            f" {MAX_UNHEARD:.0f} are taken): who may have been revoked is not known here; see that its links are up:"
            " agentplatform status"
        )
    return ""

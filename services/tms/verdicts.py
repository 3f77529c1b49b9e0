"""From what the ledger says of organisations and hosts to a verdict on each host. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from ledger.contracts.trust import TRUSTED, Standing
from ledger.links.base import Passport


class Verdict(msgspec.Struct, frozen=True):
    """Whether agents may go to `host`, by the ledger's state at `height`."""

    host: str
    trusted: bool
    reason: str  # for people: why, or why not
    height: int


def verdicts(registry: Mapping[str, Passport], standings: Iterable[Standing], height: int) -> dict[str, Verdict]:
    """A verdict on every host that the ledger names. `registry` has the hosts that are trusted now.

    Where the two disagree the host is not trusted: a refused move can be tried again, a lost agent cannot.
    """
    found: dict[str, Verdict] = {}
    for standing in standings:
        name = standing.organisation.name
        for passport in standing.organisation.hosts:
            trusted = standing.status == TRUSTED
            reason = f"{name} is {standing.status} since height {standing.since}: {standing.reason}"
            if trusted and registry.get(passport.host) != passport:
                trusted, reason = False, f"the registry does not have it as {name} registered it"
            found[passport.host] = Verdict(passport.host, trusted, reason, height)
    for host, passport in registry.items():
        if host not in found:
            reason = f"the ledger knows no organisation {passport.organisation} with this host"
            found[host] = Verdict(host, False, reason, height)
    return dict(sorted(found.items()))


def unknown(host: str, height: int) -> Verdict:
    """The verdict on a host that the ledger does not name."""
    return Verdict(host, False, f"the ledger names no host {host!r} at height {height}", height)

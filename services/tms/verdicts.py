"""From what the ledger says of organisations and hosts to a verdict on each host. Pure."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from ledger.links.base import Passport


class OrganisationRecord(Protocol):
    """What the ledger's trust contract keeps of an organisation."""

    @property
    def name(self) -> str: ...

    @property
    def status(self) -> str:
        """ "trusted" or "revoked"."""

    @property
    def reason(self) -> str:
        """Why it has this status, as the vote gave it."""

    @property
    def since(self) -> int:
        """The height of the block that gave it this status."""

    @property
    def hosts(self) -> Iterable[str]:
        """The names of its hosts, also when it is revoked."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether agents may go to `host`, by the ledger's state at `height`."""

    host: str
    trusted: bool
    reason: str  # for people: why, or why not
    height: int


def verdicts(
    registry: Mapping[str, Passport], organisations: Iterable[OrganisationRecord], height: int
) -> dict[str, Verdict]:
    """A verdict on every host that the ledger names. `registry` has the hosts that are trusted now.

    Where the two disagree the host is not trusted: a refused move can be tried again, a lost agent cannot.
    """
    found: dict[str, Verdict] = {}
    trusted_organisations = set()
    for organisation in organisations:
        if organisation.status == "trusted":
            trusted_organisations.add(organisation.name)
        for host in organisation.hosts:
            if organisation.status != "trusted":
                why = f"{organisation.name} was {organisation.status} at height {organisation.since}"
                found[host] = Verdict(host, False, f"{why}: {organisation.reason}", height)
            elif host not in registry:
                found[host] = Verdict(host, False, f"{organisation.name} no longer registers it", height)
    for host, passport in registry.items():
        if host in found:
            continue
        if passport.organisation in trusted_organisations:
            found[host] = Verdict(host, True, f"{passport.organisation} is trusted", height)
        else:
            found[host] = Verdict(host, False, f"{passport.organisation} is no trusted organisation", height)
    return dict(sorted(found.items()))


def unknown(host: str, height: int) -> Verdict:
    """The verdict on a host that the ledger does not name."""
    return Verdict(host, False, f"the ledger names no host {host!r} at height {height}", height)

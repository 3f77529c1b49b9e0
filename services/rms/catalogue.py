"""What the hosts say of themselves: the newest advert of each, for as long as it lives. Pure: time is an argument.

A link keeps the order of messages, so the advert that came last is the newest. Who sent it is what the link says,
never what the advert says: so an advert names no host.
"""

import msgspec

from services.rms.link_probe import LinkMeasure
from services.rms.resources import Resources

LIFETIME_S = 5.0  # five rounds of adverts: one that is late does not make its host vanish
MAX_OFFERS = 250
MAX_OFFER = 40  # characters
MAX_REASON = 80  # characters
MAX_LINKS = 512  # so that an advert of hosts with long names fits into its message


class Advert(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="advert"):
    """One host about itself."""

    resources: Resources
    task_weight: float = 0.0  # sum of the task weights of the agents that it runs
    links: dict[str, LinkMeasure] = {}  # its own links, by the host at the other end
    offers: frozenset[str] = frozenset()  # Python modules and devices that agents find there, by name
    closed: str = ""  # why it takes no agents, if it takes none: "being drained"

    def __post_init__(self) -> None:
        if not 0.0 <= self.task_weight <= 1e12:
            raise ValueError(f"the task weight is {self.task_weight}; it must be 0 or more")
        if len(self.offers) > MAX_OFFERS or any(len(name) > MAX_OFFER for name in self.offers):
            raise ValueError(f"an advert offers at most {MAX_OFFERS} things, with names of at most {MAX_OFFER}")
        if len(self.closed) > MAX_REASON:
            raise ValueError(f"an advert says in at most {MAX_REASON} characters why its host is closed")
        if len(self.links) > MAX_LINKS:
            raise ValueError(f"the advert lists {len(self.links)} links; at most {MAX_LINKS} are taken")


class Catalogue:
    """The newest advert of each host. Times are seconds of any steady clock of this host."""

    def __init__(self, lifetime: float = LIFETIME_S) -> None:
        self._lifetime = lifetime
        self._adverts: dict[str, tuple[Advert, float]] = {}

    def take(self, host: str, advert: Advert, now: float) -> None:
        self._adverts[host] = (advert, now)

    def fresh(self, now: float) -> dict[str, Advert]:
        """The adverts that still live, by host. Those that do not are forgotten."""
        self._adverts = {
            host: (advert, taken) for host, (advert, taken) in self._adverts.items() if now - taken <= self._lifetime
        }
        return {host: advert for host, (advert, _) in sorted(self._adverts.items())}

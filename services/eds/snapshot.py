"""What a decision rests on: one immutable picture of hosts, links, agents and the users' access. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from services.eds.rules import Group
from services.rms.adverts import Advert
from services.rms.link_probe import LinkMeasure
from services.rms.resources import Needs, Resources
from services.tms.verdicts import Verdict

NEUTRAL_EXPERIENCE = 0.5  # of a host where nothing went yet: neither sought nor shunned


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the user's access point measured of one host. `source` is shown wherever the number is."""

    host: str
    rtt_ms: float
    loss: float
    source: Literal["measured", "emulated"]

    def __post_init__(self) -> None:
        if not (0.0 <= self.rtt_ms <= 1e6 and 0.0 <= self.loss <= 1.0):
            raise ValueError(f"a link to {self.host} with {self.rtt_ms} ms and a loss of {self.loss} cannot be")


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One host. `resources` is None when it sent no advert lately; then nothing may be moved there."""

    host: str
    verdict: Verdict
    resources: Resources | None
    task_weight: float  # sum of the task weights of the agents that run there: w of equation 3
    experience: float  # how well moves there went, 0 to 1
    closed: str = ""  # why nothing new may land there, as "it is being drained"; staying there is the last choice
    offers: frozenset[str] = frozenset()  # modules and devices that it has, of those that the residents need
    facts: dict[str, float] = {}  # terms that its operator adds, by name; each in [0, 1] and larger when better


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link with the numbers that `source` measured."""

    source: str
    destination: str
    rtt_ms: float  # milliseconds, there and back
    loss: float  # 0 to 1
    bandwidth: float | None = None  # Mbit/s, where it was measured


class Resident(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One agent of the groups, where it is now."""

    agent: str
    host: str
    since: float  # seconds since 1970 at which it came to this host
    task_weight: float = 1.0  # how much work it is, above zero; in the unit of the threshold WT
    needs: Needs = Needs()


class Refused(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Moves of a group to a host that failed: `times` of them, the last `at` seconds since 1970."""

    group: str
    host: str
    times: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    at: float


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one decision is about: groups of agents, decided together, since they want the same hosts. Hosts, residents
    and access are sorted by name, so that equal pictures give equal decisions."""

    groups: tuple[Group, ...]  # no agent is in two of them
    at: float  # seconds since 1970 when the picture was taken
    hosts: tuple[Host, ...]
    links: tuple[Link, ...]
    residents: tuple[Resident, ...]
    access: dict[str, tuple[Access, ...]] = {}  # user -> what the access point measured; absent: not heard yet
    refused: tuple[Refused, ...] = ()  # moves of these groups that failed lately
    moved: tuple[str, ...] = ()  # agents that have moved for the same event already: they stay, if they may

    def access_of(self, agent: str) -> tuple[Access, ...]:
        """What the user of the agent's group has; empty when it follows nobody, or the user was not heard yet."""
        user = next((group.user for group in self.groups if agent in group.agents), None)
        return self.access.get(user, ()) if user is not None else ()

    def unfit(self, resident: Resident, host: Host) -> str | None:
        """Why `resident` cannot be on `host` whatever a policy thinks of it (None: it can). Staying needs trust."""
        if not host.verdict.trusted:
            return f"not trusted: {host.verdict.reason}"
        if host.host == resident.host:
            return None
        if host.verdict.lacking:
            return host.verdict.lacking
        if host.verdict.outdated:
            return host.verdict.outdated
        if host.closed:
            return host.closed
        if host.resources is None:
            return "no fresh advert of its resources"
        short = host.resources.shortages(resident.needs.least)
        if not short and not resident.needs.has:
            return None
        lacking = tuple(f"no {name}" for name in resident.needs.has if name not in host.offers)
        return "; ".join((*lacking, *short)) or None


def assemble(
    groups: Sequence[Group],
    at: float,
    verdicts: Mapping[str, Verdict],
    adverts: Mapping[str, Advert],
    links: Mapping[tuple[str, str], LinkMeasure],
    residents: Mapping[str, Resident],
) -> Snapshot:
    """The picture from what TMS and RMS answer. Experience and access are added by the EDS, which keeps them.

    Only hosts that the ledger names are in it, the revoked ones too: so that a decision can say why not them.
    """
    wanted = frozenset(name for resident in residents.values() for name in resident.needs.has)
    hosts = []
    for name, verdict in sorted(verdicts.items()):
        advert = adverts.get(name)
        if advert is None:
            hosts.append(Host(name, verdict, None, 0.0, NEUTRAL_EXPERIENCE))
        else:
            offers = advert.offers & wanted
            closed = f"it is {advert.closed}" if advert.closed else ""
            weight, facts = advert.task_weight, advert.facts
            hosts.append(Host(name, verdict, advert.resources, weight, NEUTRAL_EXPERIENCE, closed, offers, facts))
    return Snapshot(
        tuple(groups),
        at,
        tuple(hosts),
        tuple(Link(a, b, each.rtt_ms, each.loss, each.bandwidth) for (a, b), each in sorted(links.items())),
        tuple(resident for _, resident in sorted(residents.items())),
    )

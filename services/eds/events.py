"""What the EDS hears of: plain values, bounded where they come from outside. `why` says it in words, for explanations.
Pure."""

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec

from services.eds.rules import Group
from services.eds.snapshot import Access

MAX_NAME = 128  # characters
MAX_REPORT = 1e15  # of a value that an agent tells, on either side of zero
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]  # of a host, a user, an agent, a kind
Reason = Annotated[str, msgspec.Meta(max_length=256)]
Amount = Annotated[float, msgspec.Meta(ge=0.0, le=1e15)]
Coordinate = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class UserMoved(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="user-moved"):
    """A user is at another access point now, which measured these hosts, or elsewhere near it."""

    user: Name
    access: Annotated[tuple[Access, ...], msgspec.Meta(max_length=1_000)]
    position: tuple[Coordinate, Coordinate] | None = None  # where the user is, if told, on a map that the hosts share

    def __post_init__(self) -> None:
        if len({access.host for access in self.access}) != len(self.access):
            raise ValueError(f"the access of {self.user} names a host twice")
        if any(len(access.host) > MAX_NAME for access in self.access):
            raise ValueError(f"the access of {self.user} names a host with more than {MAX_NAME} characters")

    @property
    def why(self) -> str:
        return f"{self.user} moved"

    @property
    def nearest(self) -> str:
        """The host that answered the access point best; "" when it measured none."""
        return min(((access.rtt_ms, access.host) for access in self.access), default=(0.0, ""))[1]


class LinkChanged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="link-changed"):
    """A link is not as it was, as far as that matters to somebody."""

    host: Name  # who measured
    peer: Name
    what: Literal["rtt_ms", "loss", "bandwidth"]
    now: Amount  # milliseconds, a part of 1, Mbit/s

    @property
    def why(self) -> str:
        return f"the link from {self.host} to {self.peer} has {self.what} {self.now:g}"


class Overload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="overload"):
    """A host has too little left of something."""

    host: Name
    resource: Name
    seconds: Amount = 0.0  # for so long already

    @property
    def why(self) -> str:
        lasting = f" for {self.seconds:g} s" if self.seconds else ""
        return f"{self.host} runs short of {self.resource}{lasting}"


class HostRevoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="host-revoked"):
    """The ledger trusts a host no longer."""

    host: Name
    reason: Reason

    @property
    def why(self) -> str:
        return f"{self.host} was revoked: {self.reason}"


class HostSuspected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="host-suspected"):
    """Something speaks against a host that the ledger trusts still."""

    host: Name
    reason: Reason

    @property
    def why(self) -> str:
        return f"{self.host} is suspected: {self.reason}"


class HostJoined(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="host-joined"):
    """The ledger trusts a host that it did not trust before."""

    host: Name

    @property
    def why(self) -> str:
        return f"{self.host} joined"


class HostDraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="host-draining"):
    """A host takes nothing new, and sends away what it has."""

    host: Name
    reason: Reason

    @property
    def why(self) -> str:
        return f"{self.host} is drained: {self.reason}"


class HostOpened(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="host-opened"):
    """A host that was drained, or offline, takes agents again."""

    host: Name

    @property
    def why(self) -> str:
        return f"{self.host} takes agents again"


class HostOffline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="host-offline"):
    """A host has not been heard. It may live on: what it has is started nowhere else until the fence allows."""

    host: Name
    seconds: Amount  # for so long

    @property
    def why(self) -> str:
        return f"{self.host} was not heard for {self.seconds:g} s"


class AgentAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="agent-asked"):
    """An agent asks whether its group would be better off elsewhere."""

    agent: Name
    reason: Reason

    @property
    def why(self) -> str:
        return f"{self.agent} asked: {self.reason}"


class AgentTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="agent-told"):
    """An agent's own event, of a kind that its own group's triggers know: "frames-dropped", 12.0."""

    agent: Name
    kind: Name
    value: Annotated[float, msgspec.Meta(ge=-MAX_REPORT, le=MAX_REPORT)] = 1.0

    @property
    def why(self) -> str:
        return f"{self.agent} tells {self.kind} {self.value:g}"


Event = (
    LinkChanged
    | Overload
    | UserMoved
    | HostSuspected
    | HostRevoked
    | HostJoined
    | HostDraining
    | HostOpened
    | HostOffline
    | AgentAsked
    | AgentTold
)


Whom = Literal["there", "all"] | tuple[str, ...]
"""Which groups are decided about: those that it `concerns`, all, or those of these names."""


def concerns(event: Event, group: Group, hosts: Collection[str]) -> bool:
    """Whether it can change where the agents of `group`, which are on `hosts`, should be."""
    match event:
        case UserMoved():
            return event.user == group.user
        case AgentAsked() | AgentTold():
            return event.agent in group.agents
        case LinkChanged():
            return event.host in hosts or event.peer in hosts
        case HostJoined() | HostOpened():
            return True  # a better place than before, perhaps, for everybody
    return event.host in hosts  # what a host loses is no reason to come to it

"""What the EDS hears of: plain values. `why` says it in words, for explanations."""

import msgspec

from services.eds.snapshot import Access


class UserMoved(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="user-moved"):
    """A user is at another access point now, which measured these hosts."""

    user: str
    access: tuple[Access, ...]

    def __post_init__(self) -> None:
        if len({access.host for access in self.access}) != len(self.access):
            raise ValueError(f"the access of {self.user} names a host twice")

    @property
    def why(self) -> str:
        return f"{self.user} moved"

    @property
    def nearest(self) -> str:
        """The host that answered the access point best; "" when it measured none."""
        return min(((access.rtt_ms, access.host) for access in self.access), default=(0.0, ""))[1]


class Overload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="overload"):
    """A host has too little left of something."""

    host: str
    resource: str

    @property
    def why(self) -> str:
        return f"{self.host} runs short of {self.resource}"


class HostRevoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="host-revoked"):
    """The ledger trusts a host no longer."""

    host: str
    reason: str

    @property
    def why(self) -> str:
        return f"{self.host} was revoked: {self.reason}"


class HostJoined(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="host-joined"):
    """The ledger trusts a host that it did not trust before."""

    host: str

    @property
    def why(self) -> str:
        return f"{self.host} joined"


class AgentAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="agent-asked"):
    """An agent asks whether its group would be better off elsewhere."""

    agent: str
    reason: str

    @property
    def why(self) -> str:
        return f"{self.agent} asked: {self.reason}"


Event = UserMoved | Overload | HostRevoked | HostJoined | AgentAsked

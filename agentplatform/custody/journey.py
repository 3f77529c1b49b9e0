"""What the edge keeps of a transfer that leaves this host."""

import asyncio

import msgspec

from agentplatform.custody.messages import Cargo
from agentplatform.custody.surroundings import Hop
from agentplatform.messages import Move
from agentplatform.parcel.manifest import Parcel
from agentplatform.passes import Pass


class Journey(msgspec.Struct):
    to: str
    cargo: tuple[Cargo, ...]
    parcels: tuple[Parcel, ...]
    move: Move
    frozen_at: float
    outcome: "asyncio.Future[Hop | None]"  # None: its custody was changed
    files: dict[str, str]  # where large states lie in the spool, by agent
    patience: float  # seconds from the offer on: then it is off, whatever its destination says
    size: int = 0  # bytes of the offer, and of what followed
    latest: float = 0.0  # when that is, by the loop's clock
    late: asyncio.TimerHandle | None = None  # when it is off, unless the destination says more
    dead: set[str] = msgspec.field(default_factory=set)  # agents whose worker ended while they were frozen
    passes: tuple[Pass, ...] = ()  # of its cargo, signed when COMMIT was handed to the log
    mail: tuple[bytes, ...] | None = None  # of its notice; the same in every repeat [L6]
    reasons: list[str] = msgspec.field(default_factory=list)  # why some of its agents do not go, or none

    def drop(self, agent: str, reason: str) -> None:
        """Held: the ledger left this agent here, or gave it away."""
        going = [pair for pair in zip(self.cargo, self.parcels, strict=True) if pair[0].agent != agent]
        self.cargo, self.parcels = tuple(load for load, _ in going), tuple(parcel for _, parcel in going)
        self.reasons.append(reason)

"""What the edge of the handoff asks of the rest of its host (agentplatform.surroundings is it)."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from agentplatform.custody.messages import Cargo
from agentplatform.passes import Trail
from services.rms.resources import Needs
from services.tms.verdicts import Verdict


class Hop(msgspec.Struct, frozen=True):
    """One completed handoff, as its source saw it."""

    transfer: bytes
    cargo: tuple[Cargo, ...]
    manifests: tuple[bytes, ...]  # signed, in the order of the cargo: what the ledger's record is a digest of
    source: str
    destination: str
    why: str
    bytes: int  # of the offer
    downtime_ms: float  # from the freeze to the destination's word that they run: an upper bound
    at: float  # seconds since 1970


class Asked(msgspec.Struct, frozen=True):
    """What arrivals take of their destination."""

    owner: str
    needs: dict[str, Needs]  # by agent
    inline: int  # bytes of states that lie in memory three times while they are opened
    spooled: int  # bytes of states that do once
    seconds: float  # in which they are here, or not any more to come


class Surroundings(Protocol):
    def send(self, host: str, message: bytes) -> bool:
        """Over the link; False when there is none now."""

    def linked(self, host: str) -> bool:
        """Whether there is a link to it now."""

    def stream(self, host: str, message: bytes) -> bool:
        """The same for pieces of large states, which nothing else waits behind. False, too, when much waits already."""

    def verdict(self, host: str) -> Verdict:
        """The TMS's."""

    def key_of(self, host: str) -> bytes | None:
        """The registry's."""

    def was_key_of(self, host: str, key: bytes) -> bool:
        """Whether the ledger has, or ever had, this key for this host."""

    def closed(self) -> str | None:
        """Why this host takes no agents now, in whole words, or None."""

    def shortage(self) -> str | None:
        """Why this host can take nothing at all, as when its disk is full, or None."""

    def lacks(self, host: str, needs: Sequence[Needs]) -> str | None:
        """What agents need that `host`, by its own advert, does not have; None when nothing, or it has not said."""

    def reserve(self, transfer: bytes, asked: Asked) -> str | None:
        """Keeps here what arrivals take, until they have `settled`, or it is `release`d, or their time is over. What
        this host lacks for them, or None."""

    def settled(self, transfer: bytes) -> None:
        """They are here."""

    def release(self, transfer: bytes) -> None:
        """They do not come."""

    def transferred(self, source: str, size: int, seconds: float) -> None:
        """A large state of so many bytes came from `source`."""

    def located(self, agent: str, epoch: int, host: str, trail: Trail = ()) -> None:
        """An agent is on `host` now, where `trail` leads; "" means that it ended here."""

    def arrived(self, agent: str, epoch: int, source: str) -> None:
        """An agent came here from another host."""

    def hopped(self, hop: Hop) -> None:
        """A handoff from here was completed."""

    def printed(self, agent: str, stream: str, text: str) -> None:
        """For its owner (runners.base.Upcalls)."""

    def broken(self, reason: str) -> None:
        """What was decided is not on disk, and never will be: nothing may leave this host any more."""

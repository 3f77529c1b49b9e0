"""What the edge of the handoff asks of the rest of its host (agentplatform.surroundings is it)."""

from typing import Protocol

import msgspec

from agentplatform.custody.messages import Cargo
from agentplatform.passes import Trail
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

    def shortage(self, inline: int, spooled: int) -> str | None:
        """What this host lacks to take states of so many bytes (the RMS's word, or that its disk is full), or None.
        Those that are spooled lie in memory once."""

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

"""What custody asks of the rest of its host, and tells it (custody.surroundings, custody.copies.replication.Around)."""

from collections.abc import Callable, Sequence

from agentplatform.custody.copies.holders import Candidate
from agentplatform.custody.surroundings import Asked, Hop
from agentplatform.hops import HopBook
from agentplatform.logbook import Logbook
from agentplatform.passes import Trail
from agentplatform.registry import Registry
from ledger.links.base import Channel, Links
from ledger.room import Room
from services.rms.needs import lacking
from services.rms.resources import Minima, Needs
from services.rms.service import Rms
from services.tms.service import Tms
from services.tms.verdicts import Verdict

COPY_DISK_BYTES = 1 << 30  # that a host has free, by its own advert, to be asked to hold copies


class HostSurroundings:
    def __init__(
        self,
        host: str,
        links: Links,
        registry: Registry,
        tms: Tms,
        rms: Rms,
        hops: HopBook,
        logbook: Logbook,
        located: Callable[[str, int, str, Trail], None],
        broken: Callable[[str], None],
        room: Room,
        arrived: Callable[[str, int, str], None],
    ) -> None:
        """`located(agent, epoch, host, trail)` tells everyone where an agent is; `broken(reason)` ends this host;
        `arrived` is that of custody.surroundings."""
        self._host, self._links, self._registry, self._tms, self._rms = host, links, registry, tms, rms
        self._hops, self._logbook, self._located, self._broken = hops, logbook, located, broken
        self._room = room
        self.arrived = arrived

    def send(self, host: str, message: bytes) -> bool:
        return self._links.send(host, Channel.HANDOFF, message)

    def stream(self, host: str, message: bytes) -> bool:
        return self._links.send(host, Channel.BULK, message)

    def send_copy(self, host: str, message: bytes) -> bool:
        return self._links.send(host, Channel.COPY, message)

    def candidates(self) -> list[Candidate]:
        adverts, up = self._rms.adverts(), self._links.up()
        full = {host for host, advert in adverts.items() if advert.resources.disk_free < COPY_DISK_BYTES}
        full |= self._rms.closed_hosts().keys()
        return [
            Candidate(host, passport.organisation)
            for host, passport in sorted(self._registry.hosts.items())
            if host in up and host in adverts and host not in full and self.trusted(host)
            if not self.verdict(host).lacking
        ]

    def answers(self, host: str) -> bool:
        return self.linked(host) and host in self._rms.adverts()

    def trusted(self, host: str) -> bool:
        return self._tms.verdict(host).trusted

    def linked(self, host: str) -> bool:
        return host in self._links.up()

    def verdict(self, host: str) -> Verdict:
        return self._tms.verdict(host)

    def key_of(self, host: str) -> bytes | None:
        return self._registry.key_of(host)

    def was_key_of(self, host: str, key: bytes) -> bool:
        return self._registry.was_key_of(host, key)

    def closed(self) -> str | None:
        return f"{self._host} is {self._rms.closed}" if self._rms.closed else None

    def takes(self, host: str) -> bool:
        return host not in self._rms.closed_hosts()

    def shortage(self) -> str | None:
        return None if self._room.full is None else str(self._room.full)

    def lacks(self, host: str, needs: Sequence[Needs]) -> str | None:
        advert = self._rms.adverts().get(host)
        return None if advert is None else "; ".join(lacking(needs, advert.offers, advert.resources)) or None

    def reserve(self, transfer: bytes, asked: Asked) -> str | None:
        """A state lies in memory three times while it is opened: as received, in the worker, and as the live agent; one
        that is spooled in the agent alone."""
        states = Minima(memory=3 * asked.inline + asked.spooled, disk=asked.inline + asked.spooled)
        return self.shortage() or self._rms.reserve(transfer, asked.owner, asked.needs, states, asked.seconds)

    def settled(self, transfer: bytes) -> None:
        self._rms.settled(transfer)

    def release(self, transfer: bytes) -> None:
        self._rms.release(transfer)

    def transferred(self, source: str, size: int, seconds: float) -> None:
        self._rms.transferred(source, size, seconds)

    def located(self, agent: str, epoch: int, host: str, trail: Trail = ()) -> None:
        self._located(agent, epoch, host, trail)

    def hopped(self, hop: Hop) -> None:
        for load in hop.cargo:
            self.printed(load.agent, "note", f"went to {hop.destination} in {hop.downtime_ms:.1f} ms: {hop.why}")
        self._hops.add(hop)

    def printed(self, agent: str, stream: str, text: str) -> None:
        self._logbook.write(agent, stream, text)

    def broken(self, reason: str) -> None:
        self._broken(reason)

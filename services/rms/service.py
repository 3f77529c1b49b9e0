"""The edge of the RMS: probes this host every second, tells the others, and keeps what they tell."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Annotated, Any

import msgspec

from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.identity import Identity
from services.rms.adverts import (
    LIFETIME_ROUNDS,
    LONGEST_ROUND_S,
    MAX_LINKS,
    Advert,
    Offers,
    Statement,
    Told,
    proven,
    read,
    tell,
)
from services.rms.bandwidth import NONCE_BYTES, PART_BYTES, PARTS, Bandwidths
from services.rms.catalogue import Catalogue
from services.rms.link_probe import LinkMeasure, LinkProbe
from services.rms.needs import absent
from services.rms.probes import Probe
from services.rms.reservations import Reservation, Reservations
from services.rms.resources import Minima, Needs, Resources

MAX_MESSAGE_BYTES = 64 * 1024
ROUND_S = 1.0
PINGED_AT_ONCE = 8  # hosts in one round, those that were not for longest: of more, each has its turn every few rounds

log = logging.getLogger(__name__)
Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


class Ping(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ping"):
    number: int


class Pong(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="pong"):
    number: int


class Ask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ask"):
    """What does the digest of your offers stand for? Offers is the answer, once a round."""


class Draw(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="draw"):
    """Send a burst (services.rms.bandwidth)."""

    nonce: Nonce


class Burst(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="burst"):
    """One of its PARTS."""

    nonce: Nonce
    filling: bytes


Message = Told | Offers | Ping | Pong | Ask | Draw | Burst
_MESSAGE: Any = Message


class Rms:
    """What this host and the others have free, and the links between them. Everything runs on the event loop, but for
    the probe."""

    def __init__(
        self,
        host: str,
        identity: Identity,
        probe: Probe,
        send: Callable[[str, bytes], bool],
        peers: Callable[[], Iterable[str]],
        key_of: Callable[[str], bytes | None],
        *,
        every: float = ROUND_S,
        offers: frozenset[str] = frozenset(),
        facts: Mapping[str, float] = MappingProxyType({}),
        task_weight: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`send(host, message)` queues a message to a linked host and says whether it could; `peers()` names the linked
        hosts; `key_of` is the registry's; a round takes `every` seconds; `offers` names what agents find here; `facts`
        are what the operator states of this host; `task_weight()` sums the task weights of the agents that run here;
        `wall` gives seconds since 1970."""
        if not 0.1 <= every <= LONGEST_ROUND_S:
            raise Misuse(f"adverts come every 0.1 to {LONGEST_ROUND_S:g} s, not {every!r}: mend advert_every")
        self.host, self._every = host, every
        self.closed = ""  # why this host takes no agents, if it takes none
        self._identity, self._key_of = identity, key_of
        self._probe, self._send, self._peers = probe, send, peers
        self._facts = dict(facts)
        self._offers, self._task_weight = Offers(tuple(sorted(offers))), task_weight
        self._clock, self._wall = clock, wall
        self._catalogue = Catalogue()
        self._reservations = Reservations()
        self._probes: dict[str, LinkProbe] = {}
        self._bandwidths = Bandwidths()
        self._reading: Resources | None = None  # the probe's last
        self._number = 0  # of the last advert
        self._filling = os.urandom(PART_BYTES)  # what cannot be compressed on the way
        self._checked = ""  # whose next advert has its signature checked
        self._unread: dict[str, tuple[Told, float]] = {}  # and when it came
        self._faults: dict[str, PeerFault] = {}  # of adverts that were read late
        self._told: set[str] = set()  # who was told our offers in this round

    async def run(self) -> None:
        """Rounds, until cancelled. The probe may take milliseconds: it has a thread.

        All but the first begin at multiples of their length by the wall clock, at all hosts together: adverts that come
        in a row cost their receiver half of what they cost one by one. Links are measured in between, when it is quiet.
        """
        while True:
            try:
                self.advertise(await asyncio.to_thread(self._probe.read))
            except Unavailable as error:
                log.warning("%s", error)
            except Exception:  # a host that falls silent looks dead to all others
                log.exception("a round of the RMS failed; the next one comes")
            await asyncio.sleep(self._every / 2)
            self.measure_links()
            await asyncio.sleep(self._every - self._wall() % self._every)

    def advertise(self, reading: Resources | None = None) -> None:
        """Tells every linked host of `reading`, the probe's (None: as it was last). Raises Unavailable when nothing was
        ever read."""
        self._reading = reading or self._reading or self._probe.read()
        self._read()
        now = self._clock()
        peers = sorted(self._peers())
        self._faults = {peer: fault for peer, fault in self._faults.items() if peer in peers}
        self._follow(peers)
        self._told.clear()
        self._checked = next((peer for peer in peers if peer > self._checked), peers[0] if peers else "")
        message = codec.encode(self._advertise(self._reading, now))
        for peer in peers:
            self._send(peer, message)

    def measure_links(self) -> None:
        """Sends some of the linked hosts a ping, and asks one for a burst at times."""
        now = self._clock()
        peers = sorted(self._peers())
        self._follow(peers)
        message = codec.encode(Ping(self._number))
        for peer in sorted(peers, key=lambda peer: self._probes[peer].pinged)[:PINGED_AT_ONCE]:
            if self._probes[peer].ping(self._number, now):
                self._send(peer, message)
        nonce = os.urandom(NONCE_BYTES)
        answering = [peer for peer in peers if self._probes[peer].least_s < math.inf]
        if (asked := self._bandwidths.ask(answering, nonce, now)) is not None:
            self._send(asked, codec.encode(Draw(nonce)))

    def _follow(self, peers: list[str]) -> None:
        """A link that came back is another link: its old numbers would mislead."""
        self._probes = {peer: self._probes.get(peer) or LinkProbe() for peer in peers}
        self._bandwidths.keep(set(peers))

    def _advertise(self, reading: Resources, now: float) -> Told:
        links = dict(islice(self._own_links(reading.bandwidth, now).items(), MAX_LINKS))
        left = self._reservations.left(reading, now)
        advert = Advert(left, self._task_weight(), links, closed=self.closed, facts=self._facts)
        self._number = max(self._number + 1, int(self._wall() * 1000))
        statement = Statement(self.host, self._number, LIFETIME_ROUNDS * self._every, self._offers.digest(), advert)
        told = tell(self._identity, statement)
        if not self._catalogue.take(told, statement, now):
            self._catalogue.offered(self.host, self._offers)
        return told

    def received(self, sender: str, raw: bytes) -> None:
        """A message that the link says came from `sender`. Raises PeerFault for one that must not be sent."""
        if len(raw) > MAX_MESSAGE_BYTES:
            raise PeerFault(sender, f"sent {len(raw)} bytes about its resources; at most {MAX_MESSAGE_BYTES} are taken")
        if (fault := self._faults.pop(sender, None)) is not None:
            raise fault
        message: Message = codec.decode(raw, _MESSAGE, sender)
        now = self._clock()
        match message:
            case Told():
                self._heard(sender, message, now)
            case Ping(number):
                self._send(sender, codec.encode(Pong(number)))
            case Pong(number):
                if sender in self._probes:
                    self._probes[sender].pong(number, now)
            case Ask():
                if sender not in self._told:
                    self._told.add(sender)
                    self._send(sender, codec.encode(self._offers))
            case Offers():
                self._catalogue.offered(sender, message)
            case Draw(nonce):
                if self._bandwidths.may_answer(sender, now):
                    part = codec.encode(Burst(nonce, self._filling))
                    for _ in range(PARTS):
                        self._send(sender, part)
            case Burst(nonce, filling):
                if sender in self._probes:
                    self._bandwidths.part(sender, nonce, len(filling), self._probes[sender].least_s, now)

    def _heard(self, sender: str, told: Told, now: float) -> None:
        if sender == self._checked or not self._catalogue.knows(sender, now):
            self._unread.pop(sender, None)
            self._take(told, proven(told, sender, self._key_of(sender)), now)
        else:
            self._unread[sender] = told, now

    def _read(self) -> None:
        """Adverts that came one by one are decoded together, when somebody asks or a round begins: it costs a fraction.
        For what is wrong with one, its sender is blamed with its next message."""
        unread, self._unread = self._unread, {}
        for sender, (told, now) in unread.items():
            try:
                self._take(told, read(told, sender), now)
            except PeerFault as fault:
                self._faults[sender] = fault

    def _take(self, told: Told, statement: Statement, now: float) -> None:
        if not self._catalogue.take(told, statement, now):
            self._send(statement.host, codec.encode(Ask()))

    def reserve(
        self, transfer: bytes, owner: str, needs: Mapping[str, Needs], states: Minima, seconds: float
    ) -> str | None:
        """Keeps free here, for `seconds` at most, what agents on their way need at least, and what their states take.
        `needs`: by agent; `owner`: whose they are. What is lacking, in words, or None. By the probe's last word, which
        is not older than a round."""
        if self._reading is None:
            return None  # the host has just begun
        now = self._clock()
        if lacks := absent(needs.values(), self._offers.names):
            return "; ".join(lacks)
        least = sum((each.least for each in needs.values()), states)
        asked = Reservation(owner, tuple(needs), least, now + seconds)
        return "; ".join(self._reservations.take(transfer, asked, self._reading, now)) or None

    def settled(self, transfer: bytes) -> None:
        """The agents of a reservation are here."""
        self._reservations.settled(transfer, self._clock())

    def release(self, transfer: bytes) -> None:
        """The agents of a reservation do not come."""
        self._reservations.release(transfer)

    def transferred(self, peer: str, size: int, seconds: float) -> None:
        """A large state of `size` bytes came from `peer` within `seconds`."""
        self._bandwidths.transferred(peer, size, seconds, self._clock())

    def adverts(self) -> dict[str, Advert]:
        """The newest advert of each host that still lives, this host's own among them."""
        self._read()
        return self._catalogue.fresh(self._clock())

    def proof(self, host: str) -> Told | None:
        """The newest advert of a host as it signed it, to show to others (services.rms.adverts.proven); None when none
        lives. Raises PeerFault when the signature is not its own."""
        self._read()
        told = self._catalogue.told(host, self._clock())
        if told is not None:
            proven(told, host, self._identity.public if host == self.host else self._key_of(host))
        return told

    def closed_hosts(self) -> dict[str, str]:
        """The hosts that say that they take no agents, with the reason; this host's own word among them."""
        closed = {host: advert.closed for host, advert in self.adverts().items() if advert.closed}
        return closed | ({self.host: self.closed} if self.closed else {})

    def links(self) -> dict[tuple[str, str], LinkMeasure]:
        """Every link that a host with a living advert measured: (who measured, other end) -> measure. What a host says
        of its links is only its word: where both speak, the worse word counts, so that neither can praise a link."""
        adverts = self.adverts()
        found = {}
        for host, advert in adverts.items():
            for peer, measure in advert.links.items():
                back = adverts[peer].links.get(host) if peer in adverts else None
                found[host, peer] = measure if back is None else _worse(measure, back)
        return found

    def _own_links(self, own: float, now: float) -> dict[str, LinkMeasure]:
        measures = {
            peer: probe.measure(now, self._bandwidths.of(peer, own, now)) for peer, probe in self._probes.items()
        }
        return {peer: measure for peer, measure in measures.items() if measure is not None}


def _worse(one: LinkMeasure, other: LinkMeasure) -> LinkMeasure:
    bandwidth = min((each for each in (one.bandwidth, other.bandwidth) if each is not None), default=None)
    return LinkMeasure(max(one.rtt_ms, other.rtt_ms), max(one.loss, other.loss), bandwidth)

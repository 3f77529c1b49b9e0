"""The edge of the RMS: probes this host every second, tells the others, and keeps what they tell."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from itertools import islice

import msgspec

from ledger import codec
from ledger.errors import PeerFault, Unavailable
from services.rms.catalogue import MAX_LINKS, Advert, Catalogue
from services.rms.link_probe import LinkMeasure, LinkProbe
from services.rms.probes import Probe

MAX_MESSAGE_BYTES = 64 * 1024
ROUND_S = 1.0

log = logging.getLogger(__name__)


class Ping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ping"):
    number: int


class Pong(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="pong"):
    number: int


Message = Advert | Ping | Pong


class Rms:
    """What this host and the others have free, and the links between them.

    `send(host, message)` queues a message to a linked host and says whether it could; `peers()` names the linked
    hosts; `offers` names what agents find here; `task_weight()` sums the task weights of the agents that run here.
    Everything runs on the event loop.
    """

    def __init__(
        self,
        host: str,
        probe: Probe,
        send: Callable[[str, bytes], bool],
        peers: Callable[[], Iterable[str]],
        *,
        offers: frozenset[str] = frozenset(),
        task_weight: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._probe = probe
        self._send = send
        self._peers = peers
        self._offers, self._task_weight = offers, task_weight
        self._clock = clock
        self.closed = ""  # why this host takes no agents, if it takes none
        self._catalogue = Catalogue()
        self._probes: dict[str, LinkProbe] = {}

    async def run(self) -> None:
        """Rounds, one a second, until cancelled."""
        while True:
            try:
                self.round()
            except Unavailable as error:
                log.warning("%s", error)
            await asyncio.sleep(ROUND_S)

    def round(self) -> None:
        """Probes, advertises to every linked host, and sends each a ping. Raises Unavailable."""
        now = self._clock()
        peers = sorted(self._peers())
        # A link that came back is another link: its old numbers would mislead.
        self._probes = {peer: self._probes.get(peer) or LinkProbe() for peer in peers}
        links = dict(islice(self._own_links(now).items(), MAX_LINKS))
        advert = Advert(self._probe.read(), self._task_weight(), links, self._offers, self.closed)
        self._catalogue.take(self._host, advert, now)
        message = codec.encode(advert)
        for peer, probe in self._probes.items():
            self._send(peer, message)
            number = probe.ping(now)
            if number is not None:
                self._send(peer, codec.encode(Ping(number)))

    def received(self, sender: str, raw: bytes) -> None:
        """A message that the link says came from `sender`. Raises PeerFault for one that must not be sent."""
        if len(raw) > MAX_MESSAGE_BYTES:
            raise PeerFault(
                sender, f"sent {len(raw)} bytes about its resources; at most {MAX_MESSAGE_BYTES} are taken"
            )
        message: Message = codec.decode(raw, Message, sender)  # type: ignore[arg-type]
        now = self._clock()
        if isinstance(message, Advert):
            self._catalogue.take(sender, message, now)
        elif isinstance(message, Ping):
            self._send(sender, codec.encode(Pong(message.number)))
        elif sender in self._probes:
            self._probes[sender].pong(message.number, now)

    def adverts(self) -> dict[str, Advert]:
        """The newest advert of each host that still lives, this host's own among them."""
        return self._catalogue.fresh(self._clock())

    def closed_hosts(self) -> dict[str, str]:
        """The hosts that say that they take no agents, with the reason; this host's own word among them."""
        closed = {host: advert.closed for host, advert in self.adverts().items() if advert.closed}
        return closed | ({self._host: self.closed} if self.closed else {})

    def links(self) -> dict[tuple[str, str], LinkMeasure]:
        """Every link that a host with a living advert measured: (who measured, other end) -> measure."""
        return {
            (host, peer): measure for host, advert in self.adverts().items() for peer, measure in advert.links.items()
        }

    def _own_links(self, now: float) -> dict[str, LinkMeasure]:
        measures = {peer: probe.measure(now) for peer, probe in self._probes.items()}
        return {peer: measure for peer, measure in measures.items() if measure is not None}

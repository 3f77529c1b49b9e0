"""The twin of the links: hosts of one process, on one hub that can cut, delay and drop.

Same contract as `tls`: a link is up between two started hosts that admit each other with the keys they have, on one
chain; messages come by the event loop, in order within a channel, and are lost with their link.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from ledger.errors import PeerFault
from ledger.links.base import Channel, Passport, Receiver
from ledger.links.frames import check_size

logger = logging.getLogger(__name__)


class Hub:
    """The network between MemoryLinks. What is under way on a link when it is cut is lost, as with a socket."""

    def __init__(self) -> None:
        self.delay = 0.0  # seconds that each message takes
        self.drops: Callable[[str, str, Channel, bytes], bool] = lambda source, target, channel, message: False
        self.hosts: dict[str, MemoryLinks] = {}
        self.pipes: dict[tuple[str, str], deque[tuple[Channel, bytes]]] = {}  # two for each link that is up
        self._cut: set[frozenset[str]] = set()

    def cut(self, one: str, other: str) -> None:
        self._cut.add(frozenset((one, other)))
        self.review()

    def heal(self, one: str, other: str) -> None:
        self._cut.discard(frozenset((one, other)))
        self.review()

    def reset(self, one: str, other: str) -> None:
        """The link breaks; a new one takes its place."""
        self._take_down([(one, other), (other, one)])

    def review(self) -> None:
        """Takes down the links that may not be any more, at once; brings up those that may, at the loop's next turn."""
        self._take_down([ends for ends in self.pipes if not self._may(*ends)])

    def _take_down(self, pipes: list[tuple[str, str]]) -> None:
        for source, target in pipes:
            if self.pipes.pop((source, target), None) is not None and source in self.hosts:
                self.hosts[source].tell(target, False)
        asyncio.get_running_loop().call_soon(self._raise)

    def carry(self, source: str, target: str, channel: Channel, message: bytes) -> None:
        if self.drops(source, target, channel, message):
            return
        pipe = self.pipes[source, target]
        pipe.append((channel, message))
        loop = asyncio.get_running_loop()
        # Not this message but the next one of the pipe: so order is kept, however the timers fire.
        if self.delay:
            loop.call_later(self.delay, self._deliver, source, target, pipe)
        else:
            loop.call_soon(self._deliver, source, target, pipe)

    def _deliver(self, source: str, target: str, pipe: deque[tuple[Channel, bytes]]) -> None:
        if self.pipes.get((source, target)) is pipe:
            self.hosts[target].receive(source, *pipe.popleft())

    def _raise(self) -> None:
        new = [ends for ends in self._all_ends() if ends not in self.pipes and self._may(*ends)]
        self.pipes.update({ends: deque() for ends in new})
        for source, target in new:
            if (source, target) in self.pipes:  # an observer may have taken it down again
                self.hosts[source].tell(target, True)

    def _all_ends(self) -> Iterator[tuple[str, str]]:
        return ((one, other) for one in self.hosts for other in self.hosts if one != other)

    def _may(self, one: str, other: str) -> bool:
        first, second = self.hosts.get(one), self.hosts.get(other)
        if not first or not second or frozenset((one, other)) in self._cut:
            return False
        return first.admits(second) and second.admits(first)


class MemoryLinks:
    def __init__(self, hub: Hub, host: str, key: bytes, chain: bytes) -> None:
        self.host = host
        self.key = key
        self.chain = chain
        self._hub = hub
        self._registry: dict[str, Passport] = {}
        self._receivers: list[Receiver] = []
        self._observers: list[Callable[[str, bool], None]] = []

    def on_message(self, receiver: Receiver) -> None:
        self._receivers.append(receiver)

    def on_change(self, observer: Callable[[str, bool], None]) -> None:
        self._observers.append(observer)

    def send(self, host: str, channel: Channel, message: bytes) -> bool:
        check_size(message)
        if (self.host, host) not in self._hub.pipes:
            return False
        self._hub.carry(self.host, host, channel, message)
        return True

    def up(self) -> frozenset[str]:
        return frozenset(target for source, target in self._hub.pipes if source == self.host)

    def admit(self, registry: Mapping[str, Passport]) -> None:
        self._registry = dict(registry)
        if self._hub.hosts.get(self.host) is self:
            self._hub.review()

    async def start(self) -> None:
        self._hub.hosts[self.host] = self
        self._hub.review()

    async def stop(self) -> None:
        if self._hub.hosts.get(self.host) is not self:
            return
        gone = self.up()
        del self._hub.hosts[self.host]
        self._hub.review()
        for host in sorted(gone):
            self.tell(host, False)

    # Called by the hub.

    def admits(self, other: "MemoryLinks") -> bool:
        passport = self._registry.get(other.host)
        return passport is not None and passport.key == other.key and other.chain == self.chain

    def receive(self, source: str, channel: Channel, message: bytes) -> None:
        try:
            for receiver in self._receivers:
                receiver(source, channel, message)
        except PeerFault as fault:
            logger.info("the link to %s is closed: %s", source, fault)
            self._hub.reset(self.host, source)
        except Exception:  # as in production: a receiver's bug does not cost the link
            logger.exception("a message from %s on %s could not be handled", source, channel.name)

    def tell(self, host: str, up: bool) -> None:
        for observer in self._observers:
            observer(host, up)

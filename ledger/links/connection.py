"""One connection between two hosts, after its TLS handshake: hello, then frames both ways."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import cast

import msgspec

from ledger import codec
from ledger.errors import PeerFault
from ledger.links.base import MAX_MESSAGE_BYTES, Channel, Passport, Receiver
from ledger.links.certificates import holder
from ledger.links.frames import FRAME_BYTES, Inbox, Outbox

logger = logging.getLogger(__name__)

VERSION = 1
MAX_HELLO_BYTES = 1024
HELLO_SECONDS = 5.0
MAX_WAITING_BYTES = 128 * 1024 * 1024  # queued for one peer; more is not taken
RECEIVE_BYTES = 256 * 1024
TURN_BYTES = 4 * FRAME_BYTES  # sent before the loop gets its turn: about 0.2 ms of encryption
# Bytes that may wait below the outbox, where a vote cannot overtake them.
BELOW_BYTES = FRAME_BYTES
# A peer that vanished without a word is noticed after about this many seconds, idle or not.
VANISHED_SECONDS = 6


class Hello(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The first message on the LEDGER channel, from both sides.

    With TLS 1.3 the side that dials believes the handshake done before the other has judged its certificate; so a
    link counts as up when the peer's hello is there.
    """

    version: int
    chain: bytes
    host: str


class Connection(asyncio.BufferedProtocol):
    """`peer` is None until the hello: then `on_up` is called, and `on_down` once in the end if `on_up` was.

    `admitted` gives the hosts that may be on the other end, as of now. `gone` is done when the socket is closed.
    """

    def __init__(
        self,
        hello: Hello,
        admitted: Callable[[], Mapping[str, Passport]],
        receive: Receiver,
        on_up: Callable[["Connection"], None],
        on_down: Callable[["Connection"], None],
    ) -> None:
        self.peer: Passport | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hello = hello
        self._admitted = admitted
        self._receive = receive
        self._on_up = on_up
        self._on_down = on_down
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._certified: Passport | None = None
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._inbox = Inbox("peer unknown", limit=MAX_HELLO_BYTES)
        self._outbox = Outbox()
        self._paused = False  # by the transport
        self._scheduled = False  # the next _pump
        self._ended = False
        self._deadline: asyncio.TimerHandle | None = None

    def send(self, channel: Channel, message: bytes) -> bool:
        """Queues a message; small ones leave in this turn of the loop. False when too much waits already."""
        if self.peer is None or self._outbox.bytes + len(message) > MAX_WAITING_BYTES:
            return False
        self._outbox.put(channel, message)
        if not self._scheduled:
            self._pump()
        return True

    def close(self, reason: str) -> None:
        """Ends the connection. What waits unsent is lost; what was handed to the system still goes out."""
        self._end(reason)
        if self._transport:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Ends the connection at once: nothing more goes to a peer that is no longer trusted."""
        self._end(reason)
        if self._transport:
            self._transport.abort()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BELOW_BYTES)
        self._deadline = self._loop.call_later(HELLO_SECONDS, self.abort, "it said no hello in time")
        _tune(transport.get_extra_info("socket"))
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        try:
            self._certified = holder(tls.getpeercert(binary_form=True), self._admitted())
        except PeerFault as fault:
            self.abort(str(fault))
            return
        self._inbox.peer = self._certified.host
        self._outbox.put(Channel.LEDGER, codec.encode(self._hello))
        self._pump()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for channel, message in self._inbox.feed(self._view[:nbytes]):
                if self._ended:
                    return
                if self.peer is None:
                    self._greet(message)
                else:
                    self._deliver(self.peer.host, channel, message)
        except PeerFault as fault:
            self.abort(str(fault))

    def eof_received(self) -> bool:
        return False  # close

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._scheduled:
            self._pump()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error) if error else "the peer closed it")
        if not self.gone.done():
            self.gone.set_result(None)

    # Within.

    def _greet(self, message: bytes) -> None:
        """Raises PeerFault unless `message` is the hello of the host that the certificate names."""
        certified = cast(Passport, self._certified)
        hello = codec.decode_canonical(message, Hello, certified.host)
        if hello.version != self._hello.version:
            raise PeerFault(certified.host, f"speaks version {hello.version} of the links; this is {VERSION}")
        if hello.chain != self._hello.chain:
            raise PeerFault(certified.host, f"is of another chain ({hello.chain.hex()[:8]}..)")
        if hello.host != certified.host:
            raise PeerFault(certified.host, f"says that it is {hello.host!r}")
        registered = self._admitted().get(certified.host)
        if registered is None or registered.key != certified.key:
            raise PeerFault(certified.host, "was taken from the registry during its hello")
        if self._deadline:
            self._deadline.cancel()
        self._inbox.limit = MAX_MESSAGE_BYTES
        self.peer = certified
        self._on_up(self)

    def _deliver(self, host: str, channel: Channel, message: bytes) -> None:
        try:
            self._receive(host, channel, message)
        except PeerFault:
            raise
        except Exception:  # a receiver's bug must not cost the link, which others use too
            logger.exception("a message from %s on %s could not be handled", host, channel.name)

    def _pump(self) -> None:
        self._scheduled = False
        transport, sent = self._transport, 0
        while transport and self._outbox and not self._paused and not self._ended:
            if sent >= TURN_BYTES:
                self._scheduled = True
                self._loop.call_soon(self._pump)
                return
            chunk = self._outbox.take()
            sent += len(chunk)
            transport.write(chunk)

    def _end(self, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        if self._deadline:
            self._deadline.cancel()
        self._outbox = Outbox()
        who = (self.peer or self._certified or Passport("an unknown peer", "", b"", "")).host
        logger.info("the link to %s is closed: %s", who, reason)
        if self.peer:
            self._on_down(self)


def _tune(connection: socket.socket) -> None:
    """Small messages at once; little waits in the system's queue; a peer that vanished is noticed."""
    options = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", BELOW_BYTES),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", VANISHED_SECONDS // 2),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", VANISHED_SECONDS // 2),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", VANISHED_SECONDS * 1000),
    ]
    for level, name, value in options:
        if hasattr(socket, name):  # some are of Linux only
            connection.setsockopt(level, getattr(socket, name), value)

"""Links in production: mutual TLS 1.3, pinned to the registered keys.

Of each pair the host with the smaller name dials, again and again; the other accepts. A new link from the same peer
replaces the old one, which is most likely dead without knowing it.
"""

import asyncio
import errno
import logging
import random
import socket
from collections.abc import Callable, Mapping

from ledger.errors import Misuse
from ledger.identity import Identity
from ledger.links.base import Channel, Passport, Receiver
from ledger.links.certificates import Leaf, contexts
from ledger.links.connection import VERSION, Connection, Hello
from ledger.links.frames import check_size

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 5.0
MAX_HANDSHAKES = 64  # at a time, of those who dial us; more are turned away, whoever they are
FIRST_BACKOFF = 0.05  # seconds; doubles up to LAST_BACKOFF
LAST_BACKOFF = 2.0
BACKLOG = 128
GOODBYE_SECONDS = 1.0  # for what was handed to the system when this host stops


class TlsLinks:
    """All links of `host`, which listens on `listen` ("127.0.0.1:7001"; port 0 takes a free one, see `address`)."""

    def __init__(self, host: str, identity: Identity, chain: bytes, listen: str) -> None:
        self.host = host
        self._hello = Hello(VERSION, chain, host)
        self._listen = split_address(listen)
        self._leaf = Leaf.make(host, identity)
        self._registry: dict[str, Passport] = {}
        self._keys: set[bytes] = set()  # of the peers; the contexts are made for exactly these
        self._dial_context, self._accept_context = contexts(self._leaf, ())
        self._receivers: list[Receiver] = []
        self._observers: list[Callable[[str, bool], None]] = []
        self._links: dict[str, Connection] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}  # each task owns the connection that it made
        self._accepted: set[asyncio.Task[None]] = set()
        self._handshakes = 0  # among the accepted
        self._accepting: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    @property
    def address(self) -> str:
        """Where this host listens; known after `start`."""
        if self._socket is None:
            raise Misuse(f"the links of {self.host} are not started; start them first")
        return join_address(*self._socket.getsockname()[:2])

    def on_message(self, receiver: Receiver) -> None:
        self._receivers.append(receiver)

    def on_change(self, observer: Callable[[str, bool], None]) -> None:
        self._observers.append(observer)

    def send(self, host: str, channel: Channel, message: bytes) -> bool:
        check_size(message)
        link = self._links.get(host)
        return link is not None and link.send(channel, message)

    def up(self) -> frozenset[str]:
        return frozenset(self._links)

    def admit(self, registry: Mapping[str, Passport]) -> None:
        self._registry = dict(registry)
        keys = {passport.key for host, passport in registry.items() if host != self.host}
        if keys != self._keys:  # it takes milliseconds
            self._keys = keys
            self._dial_context, self._accept_context = contexts(self._leaf, sorted(keys))
        for host, link in list(self._links.items()):
            if host not in registry or (link.peer and registry[host].key != link.peer.key):
                link.abort("it was revoked, or changed its key")
        for host in self._dialling.keys() - registry.keys():
            self._dialling.pop(host).cancel()
        self._dial_all()

    async def start(self) -> None:
        host, port = self._listen
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Misuse(
                    f"port {port} on {host} is in use; stop the program that listens there, or give {self.host} "
                    "another address"
                ) from None
            raise Misuse(f"{self.host} cannot listen on {host} port {port}: {error.strerror}; name another") from None
        self._socket.setblocking(False)
        self._accepting = asyncio.create_task(self._accept_all(self._socket), name=f"links-{self.host}-accept")
        self._dial_all()

    async def stop(self) -> None:
        if self._socket is None:
            return
        tasks = [*self._dialling.values(), *self._accepted, *([self._accepting] if self._accepting else [])]
        self._dialling.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()
        self._socket = None

    # Dialling.

    def _dial_all(self) -> None:
        if self._socket is None:  # not started, or stopped
            return
        for host in self._registry:
            if self.host < host and host not in self._dialling:
                self._dialling[host] = asyncio.create_task(self._dial(host), name=f"links-{self.host}-{host}")

    async def _dial(self, peer: str) -> None:
        loop = asyncio.get_running_loop()
        backoff = FIRST_BACKOFF
        while True:
            address = self._registry[peer].address
            try:
                host, port = split_address(address)
                connection = self._connection(lambda other: other == peer)
                await loop.create_connection(
                    lambda: connection,  # noqa: B023  called before the next round
                    host,
                    port,
                    ssl=self._dial_context,
                    server_hostname="",
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                )
                await self._hold(connection)
                if connection.peer:
                    backoff = FIRST_BACKOFF
            except (OSError, Misuse) as error:
                logger.debug("%s does not reach %s at %s: %s", self.host, peer, address, error)
            # Jitter, so that a host that comes back is not met by all others at one moment.
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311  no secret depends on it
            backoff = min(2 * backoff, LAST_BACKOFF)

    # Accepting.

    async def _accept_all(self, listening: socket.socket) -> None:
        """Not asyncio's server: that one would keep the context that it was made with."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:  # no file descriptors left, or the peer was gone again
                logger.warning("%s cannot accept a link: %s", self.host, error)
                await asyncio.sleep(FIRST_BACKOFF)
                continue
            if self._handshakes >= MAX_HANDSHAKES:
                accepted.close()
                continue
            task = asyncio.create_task(self._take(accepted), name=f"links-{self.host}-accepted")
            self._accepted.add(task)
            task.add_done_callback(self._accepted.discard)

    async def _take(self, accepted: socket.socket) -> None:
        connection = self._connection(lambda other: other < self.host)
        self._handshakes += 1
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._accept_context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except OSError as error:
            logger.info("%s refused a connection at its handshake: %s", self.host, error)
            return
        finally:
            self._handshakes -= 1
        await self._hold(connection)

    # Connections.

    def _connection(self, may: Callable[[str], bool]) -> Connection:
        """`may` says who can be on the other end: whom we dialled, or those whose part it is to dial us."""

        def admitted() -> dict[str, Passport]:
            return {host: passport for host, passport in self._registry.items() if may(host)}

        return Connection(self._hello, admitted, self._received, self._came_up, self._went_down)

    async def _hold(self, connection: Connection) -> None:
        """Returns when the connection is gone. Cancelled, it ends the connection."""
        try:
            await asyncio.wait([connection.gone])
        finally:
            if not connection.gone.done():
                connection.close("this host ends it")
                await asyncio.wait([connection.gone], timeout=GOODBYE_SECONDS)
                connection.abort("this host ends it")

    def _received(self, host: str, channel: Channel, message: bytes) -> None:
        for receiver in self._receivers:
            receiver(host, channel, message)

    def _came_up(self, connection: Connection) -> None:
        assert connection.peer
        host = connection.peer.host
        if host in self._links:
            self._links[host].abort("a new link took its place")
        self._links[host] = connection
        self._tell(host, True)

    def _went_down(self, connection: Connection) -> None:
        assert connection.peer
        del self._links[connection.peer.host]
        self._tell(connection.peer.host, False)

    def _tell(self, host: str, up: bool) -> None:
        for observer in self._observers:
            observer(host, up)


def split_address(address: str) -> tuple[str, int]:
    """("127.0.0.1", 7001) of "127.0.0.1:7001"; ("::1", 7001) of "[::1]:7001". Raises Misuse."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Misuse(f"{address!r} is no address; write HOST:PORT, for example 127.0.0.1:7001 or [::1]:7001")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""HTTP/1.1 for requests to agents, in the daemon's event loop (aiohttp). It bounds what whoever connects may take:
connections, heads, bodies, and time for each of them.
"""

import asyncio
import errno
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

from agentplatform import addresses
from agentplatform.endpoint import bodies, outcome
from agentplatform.endpoint.asked import MAX_PATH, Asked, read
from agentplatform.endpoint.desk import RequestDesk
from agentplatform.endpoint.door import Door, load_or_create
from agentplatform.endpoint.metrics import CONTENT_TYPE, Metrics
from agentplatform.endpoint.outcome import Outcome, Refused
from agentplatform.endpoint.repeats import Repeats
from agentplatform.endpoint.room import Room
from agentplatform.environment import Environment
from agentplatform.faults import printable
from ledger import codec
from ledger.errors import Misuse, PlatformError

log = logging.getLogger(__name__)
HEAD_SECONDS = 10.0  # for the head of a request; and a connection that asks nothing is closed after so long
BODY_SECONDS = 60.0  # for its body
WRITE_SECONDS = 60.0  # for the answer to be taken
LINGER_SECONDS = 1.0  # in which what a refused request still says is thrown away
STOP_SECONDS = 2.0  # that requests have left when the host stops
MAX_HEADERS = 64
MAX_HEADER = 8190  # bytes of one
HEADERS = {"Server": "agentplatform", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Endpoint:
    def __init__(self, environment: Environment) -> None:
        """Raises Misuse for a token that is none. The environment runs already."""
        here, self._settings = environment, environment.settings.http
        self._door = Door(load_or_create(here.home.http_token), self._settings.public, self._settings.names)
        self._desk = RequestDesk(here, time.time)
        self._metrics = Metrics(lambda: len(here.carrier.residents.known))
        self._metrics.in_flight.set_function(lambda: self._desk.in_flight)
        here.hops.added = lambda hop: self._metrics.hopped(hop.downtime_ms / 1000)
        loop = asyncio.get_running_loop()
        self._repeats = {trusted: Repeats(loop.time) for trusted in (True, False)}
        self._room = Room(self._settings.memory)
        self._headers = {**HEADERS, "Incarnation": secrets.token_hex(8)}
        quiet = logging.getLogger(f"{__name__}.http")  # what strangers send wrongly is no line in our log
        quiet.setLevel(logging.CRITICAL)
        self._server = web.Server(
            self._handle,
            keepalive_timeout=HEAD_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=2 * MAX_PATH,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
            access_log=None,
            logger=quiet,
        )
        self._busy: set[object] = set()  # connections whose request an agent has: no more than there is room for
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises Misuse when it cannot listen there."""
        host, port = addresses.split(self._settings.listen)
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(self._connected, host, port, backlog=128)
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise Misuse(f"port {port} on {host} {why}; give the endpoint another one: http.listen") from None
        log.info("requests are taken on %s", self._settings.listen)
        if not addresses.is_loopback(host):
            log.warning(
                "the token and all that is asked cross the network in the clear: put a proxy with TLS before it"
            )

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._server.pre_shutdown()
            await self._server.shutdown(STOP_SECONDS)

    def _connected(self) -> asyncio.Protocol:
        """For a new connection. When there are too many, those that have asked nothing for longest make room: some may
        have come at once with the last one."""
        connections = [each for each in self._server.connections if each.transport is not None]  # not closed already
        surplus = len(connections) + 1 - self._settings.connections
        idle = [each for each in connections if each not in self._busy][: max(0, surplus)]
        for each in idle:
            each.force_close()
        return self._server() if len(idle) >= surplus else _TurnedAway()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            made = await self._outcome(request)
        except PlatformError as error:
            made = outcome.of_endpoint(error)
        except Exception:
            log.exception("a request failed")
            made = outcome.of_endpoint(Refused(500, "failed", "the request failed inside the host; its log says why"))
        return await self._write(request, made)

    async def _write(self, request: web.BaseRequest, made: Outcome) -> web.StreamResponse:
        headers = {**self._headers, **made.headers, "Content-Type": made.type}
        response = web.Response(status=made.status, body=made.body, headers=headers)
        if not request.content.is_eof():
            response.force_close()  # what else it says is not read
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # it is gone, and so is the answer: with an Idempotency-Key it is given again
        return response

    async def _outcome(self, request: web.BaseRequest) -> Outcome:
        self._door.check_origin(request.headers)
        target = request.raw_path
        if request.method == "GET" and target == "/healthz":
            return Outcome(200, "answered", b'{"status":"ok"}')
        trusted = self._door.has_token(request.headers)
        if request.method == "GET" and target == "/metrics":
            self._door.check(trusted, None, "")
            return Outcome(200, "answered", self._metrics.told(), CONTENT_TYPE)
        if request.method != "POST":
            raise Refused(405, "misuse", "agents are asked by POST", Allow="POST")
        began = time.monotonic()
        service, kind, label = "", "", "failed"
        try:
            asked = read(target, request.headers, self._settings)
            offers = self._desk.service_of(asked)
            self._door.check(trusted, offers, asked.kind)
            service, kind = offers or "", asked.kind
            made = await self._asked(request, asked, trusted)
            label = made.label
            return made
        except PlatformError as error:
            made = outcome.of_endpoint(error)
            label = made.label
            return made
        finally:
            self._metrics.asked(service, kind, label, time.monotonic() - began)  # type: ignore[arg-type]

    async def _asked(self, request: web.BaseRequest, asked: Asked, trusted: bool) -> Outcome:
        if asked.incarnation not in (None, self._headers["Incarnation"]):
            raise Refused(
                409, "misuse", "this endpoint was started again since: nobody can know what it was asked before"
            )
        transfer = request.headers.get("Transfer-Encoding", "chunked").lower()
        if "Content-Encoding" in request.headers or transfer != "chunked":
            raise bodies.WrongType("bodies are taken as they are, without a Content-Encoding, and chunked at most")
        await self._invite(request)
        with self._room.share(trusted) as take:
            raw = await self._body(request, take)
            kind, accept = (printable(request.headers.get(name, "")) for name in ("Content-Type", "Accept"))
            body = bodies.taken(kind, raw)
            ask = lambda: self._ask(request.protocol, asked, trusted, body, accept)  # noqa: E731
            return await self._once(asked, trusted, (kind, accept, body), ask)

    async def _ask(self, connection: object, asked: Asked, trusted: bool, body: bytes, accept: str) -> Outcome:
        try:
            with self._desk.place(asked, trusted) as agent:
                self._busy.add(connection)
                try:
                    return await self._desk.ask(asked, agent, body, accept)
                finally:
                    self._busy.discard(connection)
        except PlatformError as error:
            return outcome.of_endpoint(error)

    async def _once(
        self, asked: Asked, trusted: bool, about: tuple[str, str, bytes], ask: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        if asked.key is None:
            return await ask()
        same = [asked.target, asked.name, asked.kind, asked.query, *about]
        digest = codec.digest("agentplatform/request", codec.encode(same))
        try:
            async with asyncio.timeout(asked.seconds + 1.0):  # of one that was made it is the ask's own
                made, again = await self._repeats[trusted].once(asked.key.encode(), digest, ask)
        except TimeoutError:
            return outcome.late("the first request with this Idempotency-Key is not answered yet")
        return made.repeated() if again else made

    async def _invite(self, request: web.BaseRequest) -> None:
        """Who asks first whether its body is wanted hears so, when all else is right."""
        expected = request.headers.get("Expect")
        if expected is not None and request.version >= HttpVersion11:
            if expected.lower() != "100-continue":
                raise Refused(417, "misuse", "what is expected is 100-continue, or nothing")
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0

    async def _body(self, request: web.BaseRequest, take: Callable[[int], None]) -> bytes:
        most = self._settings.body
        said = request.content_length
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while (said is None or said <= most) and len(body) <= most:
                    part = await request.content.readany()
                    if not part:
                        return bytes(body)
                    take(len(part))
                    body += part
        except TimeoutError:
            raise Refused(408, "late", f"the body was not here within {BODY_SECONDS:g} s") from None
        except web.RequestPayloadError:
            raise Refused(400, "misuse", "the body is broken off, or no HTTP") from None
        raise Refused(413, "too-large", f"a request has at most {most} bytes (http.body)")


class _TurnedAway(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()

"""An endpoint on a real port whose host is written down instead of running: what its agents answer is a function."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agentplatform.consortium import free_ports
from agentplatform.directory import Directory
from agentplatform.endpoint.server import Endpoint
from agentplatform.faults import error_body
from agentplatform.hops import HopBook
from agentplatform.kinds import Found, Service
from agentplatform.mail import Reply
from agentplatform.settings import Home, Http
from agentplatform.whereabouts import Located, Whereabouts
from ledger import codec
from ledger.errors import PlatformError, Unavailable

AGENT = "face-0123456789abcdef"
OTHER = "face-fedcba9876543210"  # offers nothing
TOKEN = "t" * 40
SERVICE = "faces"
Handler = Callable[[str, Any], Awaitable[Any]]


async def echo(kind: str, body: Any) -> Any:
    return [kind, body]


class HostTwin:
    """What the endpoint knows of its host."""

    def __init__(self, folder: Path, http: Http, handler: Handler) -> None:
        self.host, self.started_at = "north", 0.0
        self.home = Home(folder)
        self.home.http_token.write_text(TOKEN)
        self.home.http_token.chmod(0o600)
        self.settings = SimpleNamespace(http=http)
        self.whereabouts = Whereabouts()
        for agent in (AGENT, OTHER):
            self.whereabouts.learn(Located(agent, 1, "north"))
        directory = Directory("north")
        directory.add(AGENT, Service(SERVICE, "1.0"), bytes(32), "north")
        self.exchange = SimpleNamespace(endpoints={}, directory=directory)
        self.trusted = {"north", "south"}
        self.tms = SimpleNamespace(verdict=lambda host: SimpleNamespace(trusted=host in self.trusted))
        self.machine = SimpleNamespace(arriving_by={})
        self.carrier = SimpleNamespace(machine=self.machine, residents=SimpleNamespace(known={AGENT: None}))
        self.box = SimpleNamespace(open=True)
        self.mailroom = SimpleNamespace(boxes={AGENT: self.box}, clients=self, settled=None)
        self.hops = HopBook(None, None)  # type: ignore[arg-type]  # none is written
        self.asked: deque[tuple[str, str, Any]] = deque(maxlen=10_000)
        self.clients: set[str] = set()
        self._handler = handler

    def services(self, query: Any) -> list[Found]:
        return self.exchange.directory.find(query, self.whereabouts.host_of, lambda host: None)  # type: ignore[no-any-return]

    async def ask(self, client: str, agent: str, kind: str, body: bytes, patience: float) -> Reply:
        """As mailroom.clients does."""
        value = codec.decode(body, object)
        self.clients.add(client)
        self.asked.append((agent, kind, value))
        try:
            answer = await asyncio.wait_for(self._handler(kind, value), patience)
        except TimeoutError:
            raise Unavailable(f"{agent} did not answer", retry_after=patience) from None
        except PlatformError as error:
            return Reply(agent, client, 1, "north", False, error_body(error))
        return Reply(agent, client, 1, "north", True, codec.encode(answer))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of many conditions, none of which tells of itself
            await asyncio.sleep(0.001)


class Answer:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first else 0  # 0: hung up without a word
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def said(reader: asyncio.StreamReader) -> Answer:
    """All that comes until the other side hangs up; it may do so while we write."""
    try:
        return Answer(await asyncio.wait_for(reader.read(), 20))
    except ConnectionError:
        return Answer(b"")


class Scene:
    def __init__(self, host: HostTwin, endpoint: Endpoint, port: int) -> None:
        self.host, self.endpoint, self.port = host, endpoint, port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, raw: bytes) -> Answer:
        """All that comes back until the endpoint hangs up, which HTTP/1.0 has it do."""
        reader, writer = await self.connect()
        writer.write(raw)
        try:
            return await said(reader)
        finally:
            writer.close()

    async def ask(
        self,
        path: str = f"/agents/{AGENT}/look",
        body: bytes = b"null",
        *,
        method: str = "POST",
        token: str | None = TOKEN,
        **headers: str,
    ) -> Answer:
        head = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json", "Connection": "close"}
        head |= {"Content-Length": str(len(body))} | {name.replace("_", "-"): each for name, each in headers.items()}
        if token is not None:
            head.setdefault("Authorization", f"Bearer {token}")
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return await self.say(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)


@asynccontextmanager
async def endpoint(folder: Path, handler: Handler = echo, **settings: Any) -> AsyncIterator[Scene]:
    (port,) = free_ports(1)
    host = HostTwin(folder, Http(listen=f"127.0.0.1:{port}", **settings), handler)
    made = Endpoint(host)  # type: ignore[arg-type]  # a twin
    await made.start()
    try:
        yield Scene(host, made, port)
    finally:
        await made.stop()

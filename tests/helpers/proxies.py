"""TCP proxies between hosts, one for each pair: what they cut is cut for real sockets, without any privilege."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from itertools import combinations

CHUNK = 64 * 1024  # bytes


class Proxies:
    """Of each pair the host with the smaller name dials (see ledger.links.tls): it dials the pair's proxy."""

    def __init__(self) -> None:
        self.targets: dict[str, str] = {}  # host -> where it listens now
        self.slowness = 0.0  # seconds that each piece is held back, on all ways
        self._servers: dict[tuple[str, str], asyncio.Server] = {}
        self._ports: dict[tuple[str, str], int] = {}
        self._deaf: set[tuple[str, str]] = set()  # (from, to): bytes that are held back
        self._open: dict[tuple[str, str], set[asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()

    async def start(self, hosts: Iterable[str]) -> None:
        for pair in combinations(sorted(hosts), 2):
            self._open[pair] = set()

            async def accept(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: tuple[str, str] = pair
            ) -> None:
                task = asyncio.current_task()
                assert task
                self._open[pair].add(task)
                with suppress(OSError, asyncio.CancelledError):
                    await self._carry(pair, reader, writer)
                self._open[pair].discard(task)
                writer.transport.abort()

            self._servers[pair] = await asyncio.start_server(accept, "127.0.0.1", 0)
            self._ports[pair] = self._servers[pair].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for pair, server in self._servers.items():
            server.close()
            self._reset(pair)
        for tasks in self._open.values():
            await asyncio.gather(*tasks, return_exceptions=True)

    def via(self, host: str) -> dict[str, str]:
        """Where `host` finds those that it dials."""
        return {acceptor: f"127.0.0.1:{port}" for (dialler, acceptor), port in self._ports.items() if dialler == host}

    def cut(self, one: Iterable[str], others: Iterable[str]) -> None:
        """Both ways: connections between the two groups break, and none is made."""
        others = list(others)
        for a in one:
            for b in others:
                self._deaf |= {(a, b), (b, a)}
                self._reset((min(a, b), max(a, b)))

    def mute(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """One way: what `sources` send to `targets` is held back, while their connections stand."""
        targets = list(targets)
        self._deaf |= {(source, target) for source in sources for target in targets if source != target}

    def heal(self) -> None:
        self._deaf.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    def _reset(self, pair: tuple[str, str]) -> None:
        for task in self._open[pair]:
            task.cancel()

    async def _carry(self, pair: tuple[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialler, acceptor = pair
        if {pair, (acceptor, dialler)} <= self._deaf or acceptor not in self.targets:
            return
        host, port = self.targets[acceptor].rsplit(":", 1)
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        ways = [
            asyncio.ensure_future(self._pump((dialler, acceptor), reader, there_writer)),
            asyncio.ensure_future(self._pump((acceptor, dialler), there_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            there_writer.transport.abort()

    async def _pump(self, way: tuple[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(CHUNK):
                if self.slowness:
                    await asyncio.sleep(self.slowness)
                while way in self._deaf:
                    await self._changed.wait()
                writer.write(piece)
                await writer.drain()

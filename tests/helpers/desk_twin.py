"""Hosts without a daemon: a real front door, and behind it a desk that says what the test wants."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agentplatform.frontdoor.client import homes
from agentplatform.frontdoor.server import Server
from ledger.errors import Misuse

HELLO = {"organisation": "test-org", "version": "0", "pid": 1}


class DeskTwin:
    """`says`: verb -> the answer, an error to raise, or a function of the arguments. `asked`: what came, in order."""

    def __init__(self, host: str, says: dict[str, Any]) -> None:
        self.says = {"hello": HELLO | {"host": host, "chain": ""}} | says
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def perform(self, verb: str, arguments: dict[str, Any]) -> Any:
        if verb not in self.says:
            raise Misuse(f"there is no verb {verb!r}")
        self.asked.append((verb, arguments))
        answer = self.says[verb]
        if isinstance(answer, Exception):
            raise answer
        return answer(**arguments) if callable(answer) else answer


@contextlib.contextmanager
def answering(root: Path, *desks: DeskTwin) -> Iterator[None]:
    """The front doors of these hosts, which must have been founded under `root`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers = [Server(homes(root)[desk.says["hello"]["host"]], desk) for desk in desks]
    try:
        for server in servers:
            server.start(loop)
        yield
    finally:
        with ThreadPoolExecutor() as threads:  # each waits for long
            list(threads.map(Server.stop, servers))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

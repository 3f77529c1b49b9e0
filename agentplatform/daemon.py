"""The life of a host's process: from its folder to its end."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from agentplatform.desk.front import FrontDesk
from agentplatform.environment import Environment
from agentplatform.frontdoor.server import Server
from agentplatform.settings import Home
from ledger.errors import Misuse, PlatformError

if TYPE_CHECKING:
    from agentplatform.endpoint.server import Endpoint

log = logging.getLogger(__name__)


def run(folder: Path, history: Path | None = None) -> int:
    """Until the host ends. Returns the exit code: 2 for what is wrong with the folder, the data or the port.

    What happens is written to the folder `history`, if one is given (agentplatform.history)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        uvloop.run(serve(Home(folder), history))
    except PlatformError as error:
        print(f"mae: {error}", file=sys.stderr)
        return 2 if isinstance(error, Misuse) else 1
    return 0


def endpoint_of(environment: Environment) -> "Callable[[], Endpoint | None]":
    """Opens the endpoint for requests, if there is to be one. Raises Misuse when what it needs is not installed."""
    if not environment.settings.http.listen:
        return lambda: None
    try:
        from agentplatform.endpoint.server import Endpoint  # aiohttp, for who wants it
    except ImportError as error:
        file = environment.home.settings_file
        needs = f"[http] listen in {file} needs {error.name}: pip install agentplatform[http], or leave it out"
        raise Misuse(needs) from None
    return lambda: Endpoint(environment)


async def serve(home: Home, history: Path | None = None) -> None:
    """Runs the host until SIGTERM, SIGINT or the `stop` verb."""
    environment = Environment(home, history)
    open_endpoint = endpoint_of(environment)
    door = Server(home, FrontDesk(environment))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, environment.stopping.set)
    starting = asyncio.ensure_future(environment.start())
    stopping = asyncio.ensure_future(environment.stopping.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            endpoint = open_endpoint()
            if endpoint is not None:
                await endpoint.start()
            door.start(loop)
            log.info("%s listens on %s", environment.host, environment.settings.listen)
            await stopping
            if endpoint is not None:
                await endpoint.stop()
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await asyncio.to_thread(door.stop)  # it waits for its threads
        await environment.stop()

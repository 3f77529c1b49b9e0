"""The daemon of one host: `mae --home FOLDER`."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from agentplatform.desk import FrontDesk
from agentplatform.environment import Environment
from agentplatform.frontdoor.server import Server
from agentplatform.packages import check_packages
from agentplatform.settings import Home
from ledger.errors import Misuse, PlatformError

log = logging.getLogger("agentplatform.mae")


async def serve(home: Home) -> None:
    """Runs the host until SIGTERM, SIGINT or the `stop` verb."""
    environment = Environment(home)
    door = Server(home, FrontDesk(environment))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, environment.stopping.set)
    try:
        await environment.start()
        door.start(loop)
        log.info("%s listens on %s", environment.host, environment.settings.listen)
        await environment.stopping.wait()
    finally:
        door.stop()
        await environment.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mae", description="Runs one host of a consortium.")
    parser.add_argument("--home", type=Path, required=True, help="the host's folder, made by: agentplatform found")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        check_packages()
        uvloop.run(serve(Home(options.home)))
    except Misuse as error:
        print(f"mae: {error}", file=sys.stderr)
        return 2
    except PlatformError as error:
        print(f"mae: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""This host's claims on the ledger: what it says of itself, renewed when it has changed."""

import asyncio
import logging
import platform

from agentplatform.version import __version__
from ledger.client import Client
from ledger.contracts import claims
from ledger.contracts.claims import MAX_VALUE, Claim
from ledger.errors import PlatformError
from ledger.replica import Replica

log = logging.getLogger(__name__)
RETRY = 30.0  # seconds, while the ledger does not take it


def facts(jail: str) -> tuple[tuple[str, str], ...]:
    """Sorted by name. `jail` is as jail.close_in says."""
    said = {"jail": jail, "python": platform.python_version(), "version": __version__}
    return tuple((name, value[:MAX_VALUE]) for name, value in sorted(said.items()))


async def claim(host: str, replica: Replica, client: Client, said: tuple[tuple[str, str], ...]) -> None:
    """Until the ledger has it. A host that is not trusted now may claim nothing, and tries again."""
    while True:
        there = claims.of(replica.state, host)
        if there is not None and there.facts == said:
            return
        try:
            await client.call("claims", Claim(said))
        except PlatformError as error:
            log.info("the claims of %s are not on the ledger yet: %s", host, error)
            await asyncio.sleep(RETRY)

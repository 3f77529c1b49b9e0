"""The databases of custody, in which what is an agent's own is sealed for its owner (services.dms.sealing).

Statements mark it: a Secret among their parameters. No other database takes one, so nothing is left open by mistake.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import NamedTuple

from ledger.database import Database, Statement
from ledger.errors import Misuse
from services.dms.sealing import NOBODY, SALT_BYTES, Keyring

log = logging.getLogger(__name__)


class Secret(NamedTuple):
    """To be sealed for the owner of `agent`, and opened only for what it is bound to."""

    agent: str  # "": it is the host's own
    bound: str
    raw: bytes


class Seals:
    def __init__(self, keyring: Keyring, draw: Callable[[int], bytes] = os.urandom) -> None:
        self._keyring, self._draw = keyring, draw
        # Of all agents that were ever here since the start, as custody itself knows them for ever.
        self._owners: dict[str, bytes] = {}

    def owned(self, agent: str, owner: bytes) -> None:
        """From now on what is written of the agent is sealed for this owner; before, for the host."""
        self._owners[agent] = owner

    def seal(self, secret: Secret) -> bytes:
        owner = self._owners.get(secret.agent, NOBODY)
        return self._keyring.seal(owner, secret.bound.encode(), secret.raw, self._draw(SALT_BYTES))

    def open(self, agent: str, bound: str, sealed: bytes) -> bytes:
        """Raises Misuse, naming what it is."""
        try:
            owner, raw = self._keyring.open(bound.encode(), sealed)
        except Misuse as error:
            raise Misuse(f"what is kept under {bound!r:.120} cannot be opened: {error}") from None
        if agent and owner != NOBODY:
            self._owners.setdefault(agent, owner)
        return raw

    def reseal(self, before: str, bound: str, sealed: bytes) -> bytes:
        """For another place, for the same owner. What cannot be opened stays as it is: who reads it is told. May be
        called in any thread."""
        try:
            owner, raw = self._keyring.open(before.encode(), sealed)
        except Misuse as error:
            log.error("what is kept under %s was copied and cannot be opened: %s", before, error)
            return sealed
        return self._keyring.seal(owner, bound.encode(), raw, self._draw(SALT_BYTES))


class SealedDatabase:
    """A database whose statements may have Secrets, and call reseal(bound to before, bound to now, sealed)."""

    def __init__(self, database: Database, seals: Seals) -> None:
        self.seals = seals
        self._database = database
        database.define("reseal", 3, seals.reseal)

    def write(self, *statements: Statement) -> "asyncio.Future[None]":
        """As Database.write."""
        seal = self.seals.seal
        return self._database.write(
            *((sql, tuple(seal(each) if type(each) is Secret else each for each in rest)) for sql, rest in statements)
        )

    async def read(self, sql: str, parameters: tuple = ()) -> list[tuple]:
        """As Database.read; what is sealed comes so."""
        return await self._database.read(sql, parameters)

    def open(self, agent: str, bound: str, sealed: bytes) -> bytes:
        """Raises Misuse for what was changed from outside."""
        return self.seals.open(agent, bound, sealed)

    async def close(self) -> None:
        await self._database.close()

"""One bare replica in a process of its own: mutual TLS on sockets, SQLite with synchronous=FULL, the production engine.

The process reads lines of JSON from its standard input and answers with lines on its standard output; it ends when
the input does. tests.helpers.replica_process is the other end.

    {"id": 7, "do": "submit", "raw": "<hex>"}  ->  {"id": 7, "height": 12}, or {"id": 7, "error": .., "nonce": ..}
    {"id": 8, "do": "status"}                  ->  {"id": 8, "height": .., "up": [..], "faults": {..}, ..}
    {"id": 9, "do": "limit", "bytes": 4096}    ->  {"id": 9}: no file grows beyond that any more: writes fail
    {"id": 10, "do": "stop"}                   ->  {"id": 10}, and the process ends

Without being asked it says {"event": "ready", "address": ..}, {"event": "block", "height": ..}, and {"event": "failed",
"why": ..} when the replica stops by itself.
"""

import asyncio
import json
import logging
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from ledger import codec
from ledger.certificate import PREPARE, Ballot
from ledger.chain import Chain
from ledger.consensus.engine import Engine
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.messages import Content, Propose, Vote, encode_blocks
from ledger.consensus.settings import Settings
from ledger.contracts import accounts
from ledger.disk import FileDisk
from ledger.engines import EngineKind
from ledger.errors import PlatformError
from ledger.genesis import Genesis
from ledger.identity import Identity
from ledger.links.base import Channel, Passport
from ledger.links.tls import TlsLinks
from ledger.recording import recorded
from ledger.replica import Replica
from ledger.simulation.adversaries import Equivocator
from ledger.transaction import open_signed
from tests.helpers.founders import identity


class Plan(msgspec.Struct, frozen=True):
    """What a process is started with."""

    host: str
    genesis: bytes  # encoded
    folder: str
    listen: str
    via: dict[str, str] = {}  # peer -> where it is dialled, if not at its address in the genesis
    settings: dict[str, Any] = {}  # that differ from the defaults of ledger.consensus.settings
    role: str = "honest"  # or a row of ROLES
    record: str | None = None  # folder for what its engines do: see ledger.recording


class Brazen(Equivocator):
    """Equivocates, and lets everybody hear both of its votes: nobody has to look for the evidence."""

    def bend(self, to: str | None, content: Content) -> list[tuple[str | None, Content]]:
        bent = super().bend(to, content)
        if not isinstance(content, Propose) or to is not None:
            return bent
        blocks = {each.block.digest(): each.block for _, each in bent if isinstance(each, Propose)}
        votes = [
            self._vote(Ballot(block.header.chain, self._version, PREPARE, block.header.height, content.view, digest))
            for digest, block in blocks.items()
        ]
        return [each for each in bent if not isinstance(each[1], Vote)] + [(None, vote) for vote in votes]


class Node:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        genesis = codec.decode(plan.genesis, Genesis)
        self._links = Links(plan, genesis.chain_id())
        self._disk = FileDisk(Path(plan.folder))
        kind = EngineKind(self._engine, encode_blocks, short_proposals=True)
        if plan.record is not None:
            kind = recorded(kind, Path(plan.record))
        self.replica = Replica(plan.host, identity(plan.host), genesis, self._disk, self._links, kind)
        self.replica.on_block(lambda block: say(event="block", height=block.header.height))
        self.replica.on_failure(self._failed)
        self._sent_before_failure: int | None = None

    def _engine(
        self,
        host: str,
        signer: Identity,
        chain: Chain,
        recovered: Mapping[str, bytes],
        *,
        certificate: Any,
    ) -> Engine:
        engine = Ipbft(host, signer, chain, recovered, Settings(**self._plan.settings), certificate)
        if self._plan.role in ROLES:
            return ROLES[self._plan.role](engine, host, chain.members(), Ipbft.standing, signer)
        return engine

    def _failed(self, why: Exception) -> None:
        self._sent_before_failure = self._links.sent
        say(event="failed", why=str(why))

    async def start(self) -> None:
        await self.replica.start()
        await self._links.start()
        say(event="ready", address=self._links.address)

    async def stop(self) -> None:
        await self._links.stop()
        await self.replica.stop()
        await self._disk.close()

    # What may be asked

    async def submit(self, raw: str) -> dict[str, Any]:
        transaction = bytes.fromhex(raw)
        try:
            if self._plan.role == "hasty":
                self.replica.offer(transaction).cancel()
                return {"height": self.replica.height + 1}
            return {"height": await self.replica.submit(transaction)}
        except PlatformError as error:
            caller = open_signed(transaction, self.replica.chain_id, "a client").account
            nonce = accounts.nonce(self.replica.state, caller)
            return {"error": f"{type(error).__name__}: {error}", "nonce": nonce}

    async def status(self) -> dict[str, Any]:
        replica = self.replica
        return {
            "height": replica.height,
            "digest": replica.best.digest().hex(),
            "up": sorted(self._links.up()),
            "faults": dict(replica.faults),
            "failure": str(replica.failure) if replica.failure else None,
            "full": self._disk.room.full is not None,
            "sent_since_failure": self._links.sent - (self._sent_before_failure or 0) if replica.failure else None,
        }

    async def limit(self, bytes: int) -> dict[str, Any]:
        """SIGXFSZ is ignored by Python: a write beyond that fails with EFBIG."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return {}

    async def evidence(self) -> dict[str, Any]:
        return {"hosts": [each.host for each in (await self.replica.evidence()).evidence]}


class Links(TlsLinks):
    """Dials peers where the plan says, and counts what is sent on the ledger's channel."""

    def __init__(self, plan: Plan, chain: bytes) -> None:
        super().__init__(plan.host, identity(plan.host), chain, plan.listen)
        self._via = plan.via
        self.sent = 0

    def admit(self, registry: Mapping[str, Passport]) -> None:
        there = {
            host: msgspec.structs.replace(passport, address=self._via.get(host, passport.address))
            for host, passport in registry.items()
        }
        super().admit(there)

    def send(self, host: str, channel: Channel, message: bytes) -> bool:
        self.sent += channel == Channel.LEDGER
        return super().send(host, channel, message)


ROLES: Mapping[str, type[Equivocator]] = {"equivocator": Equivocator, "brazen": Brazen}
"""Byzantine processes. "hasty" is a broken one beside them: it acknowledges what is not final."""


def say(**words: Any) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more: the input ends too
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()


async def serve() -> None:
    asked = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    node = Node(msgspec.json.decode(await asked.readline(), type=Plan))
    await node.start()
    tasks: set[asyncio.Task[None]] = set()

    async def answer(number: int, do: str, arguments: dict[str, Any]) -> None:
        say(id=number, **await getattr(node, do)(**arguments))

    while line := await asked.readline():
        request = json.loads(line)
        number, do = request.pop("id"), request.pop("do")
        if do == "stop":
            await node.stop()
            say(id=number)
            break
        task = asyncio.create_task(answer(number, do, request))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    os._exit(0)  # whatever still waits, nobody listens


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(serve())

"""One replica in a process of its own, with its clients: what `benchmarks.ledger` starts and asks.

Everything is as in production: mutual TLS on sockets, SQLite with synchronous=FULL, uvloop, every signature verified.
"""

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from benchmarks import namespaces
from ledger import chain, codec, transaction
from ledger.contracts import accounts
from ledger.disk import FileDisk
from ledger.engines import ENGINES
from ledger.errors import Unavailable
from ledger.genesis import Genesis, Organisation
from ledger.identity import Identity
from ledger.inbox import ENGINE, PROPOSAL, TRANSACTIONS
from ledger.links.base import Channel, Passport
from ledger.links.tls import TlsLinks
from ledger.replica import Replica
from ledger.transaction import Transaction

ACCOUNTS = 64  # of one node's clients
UNITS = 10**6  # that each has
IN_FLIGHT = 3800  # of all nodes' clients; that fits into a mempool
SLICE = 16  # submitted before the loop gets its turn


def identity(name: str) -> Identity:
    """For this run alone."""
    return Identity(sha256(name.encode()).digest())


class NodePlan(NamedTuple):
    place: int
    engine: str
    genesis: Genesis
    folder: Path
    listen: str
    namespace: str | None  # of the network, as a path; None: the machine's own
    block_transactions: int | None  # at most so many in a block; None: as in production


class Sent(NamedTuple):
    """Since it was asked last."""

    blocks: int  # decided
    transactions: int  # in them
    messages: Counter[str]  # sent, by kind
    bytes: Counter[str]
    to_primary: int  # bytes
    processor: float  # seconds, of this process


def genesis(addresses: list[str]) -> Genesis:
    """One organisation for each address, with one host; node 0 leads view 0, and has the largest name."""
    organisations = []
    for place, address in enumerate(addresses):
        name = f"org{place:02}"
        host = _host(place)
        passport = Passport(host, name, identity(host).public, address)
        organisations.append(Organisation(name, identity(name).public, (passport,)))
    return Genesis("benchmark", time.time_ns() // 1_000_000, 1, tuple(organisations))


def _host(place: int) -> str:
    return f"host{99 - place}"


class CountedLinks(TlsLinks):
    """Counts what leaves, by kind: "transaction", or the engine's word for its message."""

    def __init__(self, host: str, key: Identity, chain: bytes, listen: str) -> None:
        super().__init__(host, key, chain, listen)
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.to_primary = 0  # bytes

    def send(self, host: str, channel: Channel, message: bytes) -> bool:
        kind = "transaction" if message[:1] == TRANSACTIONS else "other"
        if message[:1] in (ENGINE, PROPOSAL):  # then an array of one array, which begins with a short string
            kind = message[4 : 4 + (message[3] & 0x1F)].decode()
        self.messages[kind] += 1
        self.bytes[kind] += len(message)
        if host == _host(0):
            self.to_primary += len(message)
        return super().send(host, channel, message)


class Node:
    def __init__(self, plan: NodePlan) -> None:
        founding = plan.genesis
        organisation = founding.organisations[plan.place]
        passport = organisation.hosts[0]
        key = identity(passport.host)
        self.owner = identity(organisation.name)
        self.clients = [identity(f"{organisation.name}/{number}") for number in range(ACCOUNTS)]
        self.links = CountedLinks(passport.host, key, founding.chain_id(), plan.listen)
        self.replica = Replica(passport.host, key, founding, FileDisk(plan.folder), self.links, ENGINES[plan.engine])
        self._in_flight = IN_FLIGHT // len(founding.organisations)
        self.transactions = 0
        self.blocks = 0
        self.replica.on_block(self._count)
        self._fresh = (sha256(b"%s %d" % (organisation.name.encode(), n)).digest() for n in range(10**9))
        self._ready: list[bytes] = []
        self._processor = 0.0  # seconds of this process, when the run began

    def _count(self, block: Any) -> None:
        self.blocks += 1
        self.transactions += len(block.transactions)

    async def start(self, peers: int) -> None:
        await self.replica.start()
        linked = asyncio.Event()
        self.links.on_change(lambda *_: linked.set() if len(self.links.up()) == peers else None)
        await self.links.start()
        await linked.wait()

    # What may be asked

    async def open_accounts(self) -> None:
        await self._submit(self._signed([self.owner] * ACCOUNTS, map(self._opening, self.clients)))

    def prepare_transfers(self, count: int) -> None:
        """Signs them, before the time runs."""
        others = cycle(self.clients[1:] + self.clients[:1])
        actions = (accounts.Transfer(next(others).public, 1) for _ in range(count))
        self._ready = self._signed(self._in_turn(count), actions)

    def prepare_creations(self, count: int) -> None:
        actions = (accounts.Create(next(self._fresh), 1) for _ in range(count))
        self._ready = self._signed(self._in_turn(count), actions)

    async def run(self) -> tuple[float, float]:
        """When the first was submitted and the last was final, by the machine's clock."""
        gc.collect()
        began, self._processor = time.monotonic(), time.process_time()
        await self._submit(self._ready)
        return began, time.monotonic()

    async def one(self) -> float:
        """Seconds to the finality of one transfer."""
        self.prepare_transfers(1)
        began = time.perf_counter()
        await self.replica.submit(self._ready[0])
        return time.perf_counter() - began

    async def one_at(self) -> float:
        """When the next transfer became final, by the machine's clock."""
        await self.one()
        return time.monotonic()

    def counts(self) -> Sent:
        links = self.links
        processor = time.process_time() - self._processor
        found = Sent(
            self.blocks, self.transactions, links.messages.copy(), links.bytes.copy(), links.to_primary, processor
        )
        self.blocks = self.transactions = links.to_primary = 0
        self.links.messages.clear()
        self.links.bytes.clear()
        return found

    # Within

    def _in_turn(self, count: int) -> list[Identity]:
        return [self.clients[number % ACCOUNTS] for number in range(count)]

    def _opening(self, client: Identity) -> accounts.Create:
        return accounts.Create(client.public, UNITS)

    def _signed(self, callers: list[Identity], actions: Iterator[Any]) -> list[bytes]:
        chain = self.replica.chain_id
        nonces = {caller.public: self.replica.next_nonce(caller.public) for caller in set(callers)}
        signed = []
        for caller, action in zip(callers, actions, strict=True):
            nonce = nonces[caller.public]
            nonces[caller.public] += 1
            call = Transaction(chain, caller.public, nonce, "accounts", codec.encode(action))
            signed.append(transaction.sign(call, caller))
        return signed

    async def _submit(self, raws: list[bytes]) -> None:
        """As fast as they are taken, so many at a time; returns when all are final."""
        room = asyncio.Semaphore(self._in_flight)
        futures = []
        for number, raw in enumerate(raws):
            await room.acquire()
            if number % SLICE == 0:
                await asyncio.sleep(0)
            while True:
                try:
                    future = self.replica.offer(raw)
                    break
                except Unavailable:
                    await asyncio.sleep(0.005)
            future.add_done_callback(lambda _: room.release())
            futures.append(future)
        await asyncio.gather(*futures)


def serve(plan: NodePlan, pipe: Connection) -> None:
    """The process: does what comes through `pipe`, (name of a method, arguments), and sends back what it returns."""
    logging.basicConfig(level=logging.ERROR)
    if plan.namespace is not None:
        namespaces.enter(plan.namespace)
    if plan.block_transactions is not None:
        chain.MAX_BLOCK_TRANSACTIONS = plan.block_transactions

    async def main() -> None:
        node = Node(plan)
        await node.start(len(plan.genesis.organisations) - 1)
        loop = asyncio.get_running_loop()
        asked: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()
        loop.add_reader(pipe.fileno(), lambda: asked.put_nowait(pipe.recv()))
        pipe.send(None)
        while True:
            name, arguments = await asked.get()
            answer = getattr(node, name)(*arguments)
            pipe.send(await answer if asyncio.iscoroutine(answer) else answer)

    uvloop.run(main())

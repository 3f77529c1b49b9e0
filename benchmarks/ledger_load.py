"""A member of the daemons' own ledger, in a process of its own, that has it run so many transfers a second."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from agentplatform.settings import Home
from ledger import codec, genesisfile, keyfile, transaction
from ledger.contracts import accounts
from ledger.disk import FileDisk
from ledger.engines import ENGINES
from ledger.errors import Unavailable
from ledger.identity import Identity
from ledger.links.tls import TlsLinks
from ledger.replica import Replica
from ledger.transaction import Transaction

ACCOUNTS = 64
UNITS = 10**6
TICK = 0.01  # seconds
MOST = 2000  # transfers that may wait for their finality; no more are begun until some have it


class Load:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def rate(self) -> float:
        """Transactions a second that became final, since it was asked last."""
        self._pipe.send("rate")
        return float(self._pipe.recv())


@contextmanager
def running(home: Home, rate: int) -> Iterator[Load]:
    """`home`: a founded host that runs nowhere else; the others are up. Begins when its member has links to all."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(home.folder, rate, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield Load(ours)
    finally:
        process.kill()
        process.join()


class _Member:
    def __init__(self, home: Home) -> None:
        settings = home.settings()
        key, genesis = keyfile.load(home.host_key), genesisfile.read(home.genesis)
        self._others = sum(len(each.hosts) for each in genesis.organisations) - 1
        self._links = TlsLinks(settings.host, key, genesis.chain_id(), settings.listen)
        self._replica = Replica(settings.host, key, genesis, FileDisk(home.data), self._links, ENGINES["ipbft"])
        self._owner = keyfile.load(home.organisation_key)
        self._clients = [keyfile.draw() for _ in range(ACCOUNTS)]
        self._nonces = dict.fromkeys((client.public for client in self._clients), 0)
        self._waiting = 0
        self.final = 0

    async def start(self) -> None:
        await self._replica.start()
        linked = asyncio.Event()
        self._links.on_change(lambda *_: linked.set() if len(self._links.up()) == self._others else None)
        await self._links.start()
        await linked.wait()
        begin = self._replica.next_nonce(self._owner.public)
        openings = (accounts.Create(client.public, UNITS) for client in self._clients)
        await asyncio.gather(
            *(self._replica.offer(self._sign(self._owner, begin + n, each)) for n, each in enumerate(openings))
        )
        self._nonces = {public: self._replica.next_nonce(public) for public in self._nonces}

    async def transfer(self, rate: int) -> None:
        """For ever."""
        due, turn = time.monotonic(), 0
        while True:
            await asyncio.sleep(TICK)
            while due < time.monotonic():
                due += 1 / rate
                turn += 1
                if self._waiting < MOST:
                    self._begin(self._clients[turn % ACCOUNTS], self._clients[(turn + 1) % ACCOUNTS])

    def _begin(self, payer: Identity, payee: Identity) -> None:
        action = accounts.Transfer(payee.public, 1)
        try:
            future = self._replica.offer(self._sign(payer, self._nonces[payer.public], action))
        except Unavailable:
            return  # no room now
        self._nonces[payer.public] += 1
        self._waiting += 1
        future.add_done_callback(self._done)

    def _done(self, future: "asyncio.Future[int]") -> None:
        self._waiting -= 1
        self.final += not future.cancelled() and future.exception() is None

    def _sign(self, caller: Identity, nonce: int, action: accounts.Create | accounts.Transfer) -> bytes:
        call = Transaction(self._replica.chain_id, caller.public, nonce, "accounts", codec.encode(action))
        return transaction.sign(call, caller)


def _take(pipe: Connection, asked: asyncio.Event) -> None:
    pipe.recv()
    asked.set()


def _serve(folder: Path, rate: int, pipe: Connection) -> None:
    async def main() -> None:
        member = _Member(Home(folder))
        await member.start()
        asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), _take, pipe, asked)
        transfers = asyncio.create_task(member.transfer(rate))
        pipe.send(None)
        while not transfers.done():
            begin, before = time.monotonic(), member.final
            await asked.wait()
            asked.clear()
            pipe.send((member.final - before) / (time.monotonic() - begin))

    uvloop.run(main())

"""Replica processes under load and faults: clients that note what was acknowledged, and the judge of the end.

The judge reads the databases when all processes are gone: what counts is what is durable.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from ledger import codec
from ledger.block import Block
from ledger.chain import Chain
from ledger.contracts import accounts
from ledger.disk import FileDisk
from ledger.genesis import Genesis
from ledger.store import open_store
from tests.helpers.founders import call, genesis, identity
from tests.helpers.proxies import Proxies
from tests.helpers.replica_process import Gone, ReplicaProcess
from tests.helpers.replica_program import ROLES, Plan
from tests.helpers.replicas import until

SETTINGS = {"view_timeout": 0.6, "max_view_timeout": 4.0, "relay_after": 0.1, "resend_every": 0.1, "status_every": 0.5}
CLIENTS = 6
PAUSE = 0.05  # seconds that a client lets pass before it asks again, when all have refused it
PATIENCE = 60.0  # seconds until a condition must hold; a bound for broken code, not a measure


class Chaos:
    """`size` processes, each with its proxies, and clients. Use it with `async with`."""

    def __init__(self, folder: Path, size: int, roles: Mapping[str, str] | None = None, record: bool = False) -> None:
        """`roles` by host: see Plan.role. `record`: what the engines do goes to `folder`/recordings."""
        self.genesis = self._found(size)
        self.hosts = [organisation.hosts[0].host for organisation in self.genesis.organisations]
        self.f = (size - 1) // 3
        self.roles = dict(roles or {})
        self.honest = [host for host in self.hosts if self.roles.get(host, "honest") == "honest"]
        self.proxies = Proxies()
        self.processes: dict[str, ReplicaProcess] = {}
        self.acknowledged: dict[bytes, int] = {}  # transaction -> height
        self.history: list[str] = []
        self._folder = folder
        self._record = folder / "recordings" if record else None
        if self._record is not None:
            self._record.mkdir()
        self._clients: list[asyncio.Task[None]] = []
        self._ending = False
        self._began = time.monotonic()

    async def __aenter__(self) -> "Chaos":
        await self._network()
        for host in self.hosts:
            self.processes[host] = self._process(host)
        try:
            await asyncio.gather(*map(self.start, self.hosts))
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        await self._end()
        if error is not None:
            error.add_note("\n".join(["what happened:", *self.history, *self._logs()]))

    async def _end(self) -> None:
        await self.abandon_load()
        await asyncio.gather(*(process.kill() for process in self.processes.values()))
        await self._no_network()

    def _logs(self) -> list[str]:
        return [f"-- {host}\n{process.log.read_text()[-1500:]}" for host, process in self.processes.items()]

    def note(self, what: str) -> None:
        heights = " ".join(str(process.height) for process in self.processes.values())
        self.history.append(
            f"{time.monotonic() - self._began:7.2f} s, {len(self.acknowledged)} acknowledged, heights {heights}: {what}"
        )

    # The network: proxies on loopback. tests.helpers.namespaces has another one.

    def _found(self, size: int) -> Genesis:
        return genesis(size)

    async def _network(self) -> None:
        await self.proxies.start(self.hosts)

    async def _no_network(self) -> None:
        await self.proxies.stop()

    def cut(self, one: Iterable[str], others: Iterable[str]) -> None:
        """Nothing comes through between the two groups."""
        self.proxies.cut(one, others)

    def heal(self) -> None:
        self.proxies.heal()

    def _process(self, host: str) -> ReplicaProcess:
        return ReplicaProcess(self._plan(host, "127.0.0.1:0"), self._folder / f"{host}.log")

    def _plan(self, host: str, listen: str) -> Plan:
        return Plan(
            host,
            codec.encode(self.genesis),
            str(self._folder / host),
            listen,
            self.proxies.via(host),
            SETTINGS,
            self.roles.get(host, "honest"),
            None if self._record is None else str(self._record),
        )

    # Processes

    async def start(self, host: str) -> None:
        process = self.processes[host]
        await process.launch()
        self.proxies.targets[host] = process.address

    async def kill(self, *hosts: str) -> None:
        self.note(f"SIGKILL for {', '.join(hosts)}")
        await asyncio.gather(*(self.processes[host].kill() for host in hosts))

    async def restart(self, *hosts: str) -> None:
        await asyncio.gather(*map(self.start, hosts))
        self.note(f"{', '.join(hosts)} started again")

    def others(self, *hosts: str) -> list[str]:
        return [host for host in self.hosts if host not in hosts]

    # Clients

    async def load(self) -> None:
        """Opens the clients' accounts, and lets them transact until the end."""
        names = [f"client {number}" for number in range(CLIENTS)]
        funder = self.genesis.organisations[0].name
        for nonce, name in enumerate(names):
            await self._final(self._call(funder, nonce, accounts.Create(identity(name).public, 10**6)), nonce)
        self._clients = [asyncio.create_task(self._client(name, names)) for name in names]

    async def stop_load(self) -> None:
        """Each client ends with the call that it has begun."""
        self._ending = True
        await asyncio.gather(*self._clients)

    async def abandon_load(self) -> None:
        """The clients end at once, whatever they wait for."""
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def progress(self, count: int) -> None:
        """`count` more transactions are acknowledged."""
        aim = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= aim, "progress", PATIENCE)

    async def _client(self, name: str, names: list[str]) -> None:
        random = Random(name)  # noqa: S311  repeatable
        nonce = 0
        while not self._ending:
            if random.random() < 0.2:
                action: Any = accounts.Create(identity(f"{name} opens {nonce}").public, 1)
            else:
                to = random.choice([other for other in names if other != name])
                action = accounts.Transfer(identity(to).public, 1)
            await self._final(self._call(name, nonce, action), nonce)
            nonce += 1

    def _call(self, name: str, nonce: int, action: Any) -> bytes:
        return call(self.genesis.chain_id(), name, nonce, action, "accounts")

    async def _final(self, raw: bytes, nonce: int) -> None:
        """Gives it to every replica, as a client of PBFT does, until one says at which height it is final.

        One that only says that the nonce is used up has promised nothing. Byzantine replicas are not asked: a client
        that hears of finality from a single one must be able to rely on it.
        """
        while True:
            asked = [
                asyncio.create_task(self.processes[host].ask("submit", raw=raw.hex()))
                for host, process in self.processes.items()
                if process.running and process.failure is None and process.plan.role not in ROLES
            ]
            try:
                for answered in asyncio.as_completed(asked):
                    with suppress(Gone):
                        answer = await answered
                        if "height" in answer:
                            self.acknowledged[raw] = answer["height"]
                        if "height" in answer or answer["nonce"] > nonce:
                            return
            finally:
                for task in asked:
                    task.cancel()
            await asyncio.sleep(PAUSE)

    # The end

    async def calm(self) -> None:
        """Faults end, clients end, and all honest replicas come to one height."""
        self.heal()
        for host, process in self.processes.items():
            if process.running and process.frozen:
                process.thaw()
            if process.running and process.failure is not None:
                await process.kill()
            if not process.running:
                await self.start(host)
        await self.stop_load()
        self.note("all is well again")
        await self.agree(max(self.acknowledged.values()))

    async def agree(self, height: int = 0) -> None:
        """All honest replicas have the same best block, of `height` or more, and have blamed none of each other."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = {host: await self.processes[host].ask("status") for host in self.honest}
                tips = {(each["height"], each["digest"]) for each in found.values()}
                if len(tips) == 1 and min(tips)[0] >= height:
                    break
                await asyncio.sleep(PAUSE)
        self.note("all have the same best block")
        blamed = [(host, peer) for host, each in found.items() for peer in each["faults"] if peer in self.honest]
        assert not blamed, f"honest hosts were blamed (by, whom): {blamed}"

    async def judge(self) -> None:
        """Stops all, and compares what is on their disks with what was acknowledged."""
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        chains = {host: await read_chain(self._folder / host, self.genesis) for host in self.honest}
        judge(chains, self.acknowledged)


async def read_chain(folder: Path, founding: Genesis) -> list[Block]:
    """All blocks of a database; the newest one's state leads to its root, or this raises Misuse."""
    disk = FileDisk(folder)
    try:
        store = await open_store(disk, founding)
        stored = await store.load()
        chain = Chain(founding, stored.snapshot)
        return [block for block, _ in await store.blocks(1, chain.best.header.height)]
    finally:
        await disk.close()


def judge(chains: Mapping[str, Sequence[Block]], acknowledged: Mapping[bytes, int]) -> None:
    """One chain everywhere, and each acknowledged transaction in exactly the block that was named."""
    (first, *others) = chains
    for height, block in enumerate(chains[first], start=1):
        assert block.header.height == height, f"{first} lacks block {height}"
    for other in others:
        for ours, theirs in zip(chains[first], chains[other], strict=False):
            where = ours.header.height
            assert ours.digest() == theirs.digest(), f"a fork: {first} and {other} have two blocks {where}"
        assert len(chains[first]) == len(chains[other]), f"{first} and {other} ended at different heights"
    found: dict[bytes, list[int]] = {}
    for block in chains[first]:
        for raw in block.transactions:
            found.setdefault(raw, []).append(block.header.height)
    twice = [heights for heights in found.values() if len(heights) > 1]
    assert not twice, f"transactions stand in several blocks: {twice}"
    lost = [height for raw, height in acknowledged.items() if raw not in found]
    assert not lost, f"{len(lost)} acknowledged transactions are lost; they were said to be in blocks {lost}"
    moved = [(height, found[raw]) for raw, height in acknowledged.items() if found[raw] != [height]]
    assert not moved, f"acknowledged transactions stand in other blocks than was said: {moved}"

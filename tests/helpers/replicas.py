"""Replicas of one process, on memory links and memory disks, that can be killed and started again."""

import asyncio
from collections.abc import Callable

from ledger.engines import EngineKind
from ledger.genesis import Genesis
from ledger.leases import suspended_clock
from ledger.links.memory import Hub, MemoryLinks
from ledger.memory_disk import MemoryDisk
from ledger.replica import Replica
from ledger.state_transfer import BEHIND
from tests.helpers.founders import call, identity


async def until(condition: Callable[[], bool], what: str = "", seconds: float = 30.0) -> None:
    """Waits for a condition; the bound is only there to fail instead of hanging."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  state of another task, which has no event
            await asyncio.sleep(0.003)


class Cluster:
    """`hosts` of `genesis`, by name; the disks outlive the replicas."""

    def __init__(self, genesis: Genesis, engine: EngineKind, hosts: list[str] | None = None) -> None:
        self.genesis = genesis
        self.engine = engine
        self.hub = Hub()
        names = [passport.host for organisation in genesis.organisations for passport in organisation.hosts]
        self.disks = {host: MemoryDisk() for host in names}
        self.replicas: dict[str, Replica] = {}
        self.links: dict[str, MemoryLinks] = {}
        self.leap_behind = BEHIND
        self.lease_clock = suspended_clock
        self._first = hosts or names

    async def __aenter__(self) -> "Cluster":
        for host in self._first:
            await self.start(host)
        return self

    async def __aexit__(self, *_: object) -> None:
        for host in list(self.replicas):
            await self.stop(host)

    async def start(self, host: str, key_of: str | None = None) -> Replica:
        """With the key of this name, after a rotation; else with the host's first one."""
        key = identity(key_of or host)
        links = MemoryLinks(self.hub, host, key.public, self.genesis.chain_id())
        replica = Replica(
            host,
            key,
            self.genesis,
            self.disks[host],
            links,
            self.engine,
            leap_behind=self.leap_behind,
            lease_clock=self.lease_clock,
        )
        await replica.start()
        await links.start()
        self.replicas[host], self.links[host] = replica, links
        return replica

    async def stop(self, host: str) -> None:
        await self.links.pop(host).stop()
        await self.replicas.pop(host).stop()

    async def kill(self, host: str) -> None:
        """Power loss: the process is gone, and what was not durable on its disk."""
        await self.links.pop(host).stop()
        self.disks[host].crash()
        await self.replicas.pop(host).stop()

    def call(self, caller: str, action: object, contract: str = "trust", through: str | None = None) -> bytes:
        """A transaction of `caller` with the next nonce that `through` knows: the caller itself, or its first host."""
        replica = self.replicas[through or (caller if caller in self.disks else f"{caller}-1")]
        return call(replica.chain_id, caller, replica.next_nonce(identity(caller).public), action, contract)

    async def same_height(self, height: int, hosts: list[str] | None = None) -> None:
        """All of `hosts` have the same block at the same height, `height` or more."""
        of = [self.replicas[host] for host in hosts or self.replicas]
        await until(lambda: min(r.height for r in of) >= height and len({r.best.digest() for r in of}) == 1)

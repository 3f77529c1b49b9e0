"""Replicas whose power fails at a stated write, in virtual time: the same story again for every write that there is.

A write becomes durable some milliseconds after it was given (MemoryDisk with `hold`); until then a power loss takes
it back, and what it promises must not have been seen. What leaves the hosts is judged by a Witness, not by the engines.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache, partial
from random import Random
from typing import Any, NamedTuple

from ledger.consensus import messages
from ledger.consensus.engine import RESTORED
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.messages import Blocks, encode_blocks
from ledger.consensus.settings import Settings
from ledger.contracts import accounts
from ledger.engines import EngineKind
from ledger.errors import Unavailable
from ledger.genesis import Genesis
from ledger.identity import verify
from ledger.inbox import ENGINE
from ledger.links.base import Channel
from ledger.links.memory import MemoryLinks
from ledger.replica import Replica
from tests.helpers.founders import CREATED, call, identity
from tests.helpers.powered_disk import PoweredDisk
from tests.helpers.replicas import Cluster
from tests.helpers.witness import Witness

FAST = Settings(
    view_timeout=0.3, max_view_timeout=2.0, relay_after=0.05, resend_every=0.05, status_every=0.2, fetch_after=0.02
)
# To verify is pure and dear, and the runs of one story say mostly the same.
KIND = EngineKind(partial(Ipbft, settings=FAST, verify=lru_cache(100_000)(verify)), encode_blocks)
LINK = 0.001  # seconds that a message takes
DOWN = 0.15  # seconds until a host that lost its power is started again
PATIENCE = 60.0  # virtual seconds until a condition must hold

# How a host fails at a write.
BEFORE = "the power fails at the write"
LOST = "the power fails just before the write is durable"
KEPT = "the process is killed: it was written, and is synced by the next start"
SILENT = "the power fails when it is durable, before anything follows"
HALF = "the power fails when the first message that follows has left"
REFUSED = "the disk reports an error, and what was written is lost"
WAYS = (BEFORE, LOST, KEPT, SILENT, HALF, REFUSED)


class Fault(NamedTuple):
    hosts: tuple[str, ...]  # whose writes are counted, and who fails
    at: int  # the write, from 0 on
    way: str
    again: int = 0  # times that they fail anew, each time at the first write after their start


class Powered(Cluster):
    """A cluster in virtual time, one fault, and clients who know what was acknowledged to them."""

    def __init__(
        self, genesis: Genesis, seed: int, fault: Fault | None = None, disk: type[PoweredDisk] = PoweredDisk
    ) -> None:
        super().__init__(genesis, KIND)
        self.hub.delay = LINK
        self.hub.drops = self._drops
        self.leap_behind = 3
        self.witness = Witness()
        self.acknowledged: dict[bytes, int] = {}
        self.fault = fault
        self.falls = 0  # of all hosts
        self.writes = dict.fromkeys(self.disks, 0)
        self.takes_no_blocks: set[str] = set()
        self._random = Random(seed)  # noqa: S311  repeatable
        self.disks = {host: self._disk(host, disk) for host in self.disks}
        self._kind = disk
        self._dead: set[str] = set()
        self._due: tuple[str, str] | None = None  # LOST, SILENT or HALF, and whose write was given: it comes soon
        self._rising: set[asyncio.Task[None]] = set()
        self._nonces: dict[str, int] = {}

    def add(self, host: str) -> None:
        self.disks[host] = self._disk(host, self._kind)
        self.writes[host] = 0

    def _disk(self, host: str, kind: type[PoweredDisk]) -> PoweredDisk:
        return kind(partial(self._written, host), partial(self._syncs, host), partial(self._synced, host), self._random)

    async def start(self, host: str, key: str | None = None) -> Replica:
        """When the power fails during the start, it is started again later, like after any fault."""
        clock = asyncio.get_running_loop().time
        links = MemoryLinks(self.hub, host, identity(host).public, self.genesis.chain_id())
        replica = Replica(
            host,
            identity(host),
            self.genesis,
            self.disks[host],
            links,
            self.engine,
            clock,
            lambda: CREATED + 1000 + int(clock() * 1000),
            self.leap_behind,
        )
        self._dead.discard(host)
        replica.on_failure(lambda _: self._fail(host))
        self.replicas[host], self.links[host] = replica, links
        try:
            await replica.start()
            await links.start()
        except (asyncio.CancelledError, Unavailable):
            if self.fault is None or host not in self.fault.hosts:
                raise
            self._fail(host)
        return replica

    # Faults

    def _written(self, host: str) -> None:
        fault = self.fault
        self.writes[host] += 1
        if fault is None or host not in fault.hosts or self._count(fault) != fault.at + 1:
            return
        if fault.way in (BEFORE, KEPT):
            self._fail_all()
        elif fault.way == REFUSED:
            self.disks[host].fail_next_sync()
        else:
            self._due = (fault.way, host)

    def _syncs(self, host: str) -> None:
        if self._due == (LOST, host):
            self._fail_all()

    def _synced(self, host: str) -> None:
        if self._due == (SILENT, host):
            self._fail_all()

    def _count(self, fault: Fault) -> int:
        return sum(self.writes[each] for each in fault.hosts)

    def _fail_all(self) -> None:
        self._due = None
        assert self.fault is not None
        for host in self.fault.hosts:
            self._fail(host)

    def _fail(self, host: str) -> None:
        """From now on nothing leaves it and nothing is written; then it ends, and comes back.

        So does a replica that has stopped by itself: somebody looks after it.
        """
        if host in self._dead or host not in self.replicas:
            return
        self.falls += 1
        self._dead.add(host)
        if self.fault and self.fault.way == KEPT:
            self.disks[host].kill()
        else:
            self.disks[host].crash()
        task = asyncio.get_running_loop().create_task(self._rise(host))
        self._rising.add(task)
        task.add_done_callback(self._rising.discard)

    async def _rise(self, host: str) -> None:
        await asyncio.sleep(2 * LINK)
        if host not in self.replicas:  # the story is over
            return
        await self.stop(host)
        await asyncio.sleep(DOWN * self._random.uniform(0.5, 1.5))
        fault = self.fault
        if fault and host in fault.hosts and fault.again:
            self.fault = fault._replace(at=self._count(fault), again=fault.again - 1)
        await self.start(host)

    def _drops(self, source: str, target: str, channel: Channel, message: bytes) -> bool:
        if source in self._dead or target in self._dead:
            return True
        if self._due == (HALF, source) and not self.disks[source].unsynced:
            self._fail_all()
        if channel == Channel.LEDGER and message[:1] == ENGINE:
            self.witness.sent(source, message[1:])
            return target in self.takes_no_blocks and isinstance(messages.decode(message[1:], source), Blocks)
        return False

    def cut_off(self, host: str) -> None:
        for other in self.disks:
            if other != host:
                self.hub.cut(host, other)

    def join_again(self, host: str) -> None:
        for other in self.disks:
            if other != host:
                self.hub.heal(host, other)

    # Clients

    async def pay(self, caller: str = "north") -> None:
        """One more transaction is final."""
        number = self._nonces.get(caller, 0)
        await self.act(caller, accounts.Create(identity(f"{caller} opens {number}").public, 1), "accounts")

    async def act(self, caller: str, action: Any, contract: str = "trust") -> None:
        """Given to every replica, again and again, until one says at which height it is final."""
        nonce = self._nonces.get(caller, 0)
        self._nonces[caller] = nonce + 1
        raw = call(self.genesis.chain_id(), caller, nonce, action, contract)
        async with asyncio.timeout(PATIENCE):
            while not await self._offered(raw, caller, nonce):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def _offered(self, raw: bytes, caller: str, nonce: int) -> bool:
        offers = [
            asyncio.ensure_future(replica.submit(raw))
            for host, replica in list(self.replicas.items())
            if host not in self._dead
        ]
        done, _ = await asyncio.wait(offers, timeout=0.5, return_when=asyncio.FIRST_COMPLETED) if offers else ((), ())
        for offer in offers:
            offer.cancel()
        await asyncio.gather(*offers, return_exceptions=True)
        for offer in done:
            if not offer.cancelled() and offer.exception() is None:
                self.acknowledged[raw] = offer.result()
                return True
        key = identity(caller).public
        known = [replica for host, replica in self.replicas.items() if host not in self._dead and replica._running]
        return any(accounts.nonce(replica.state, key) > nonce for replica in known)

    async def pay_until_it_votes(self, host: str) -> None:
        """One that has just come cannot know that it has signed nothing: it waits for some blocks."""
        for _ in range(12):
            await self.pay()
            await self.all_agree()
            store = self.replicas[host]._store
            if store is not None and RESTORED not in await store.engine():
                return
        raise AssertionError(f"{host} does not vote")

    # The end

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def up(self, host: str) -> bool:
        return host in self.replicas and host not in self._dead and self.replicas[host]._running

    async def all_agree(self) -> None:
        def agreed() -> bool:
            tips = {self.replicas[host].best.digest() for host in self.disks if self.up(host)}
            calm = self._due is None and not self._rising and not any(disk.unsynced for disk in self.disks.values())
            return calm and all(map(self.up, self.disks)) and len(tips) == 1

        await self.until(agreed)

    async def judge(self) -> None:
        """One chain, the acknowledged in it once, no second signature, nobody blamed. (Headers name the states.)"""
        assert not self.witness.faults, self.witness.faults[0]
        kept = {host: replica._store for host, replica in self.replicas.items()}
        blocks: dict[int, bytes] = {}
        found: dict[bytes, list[int]] = {}
        height = max(replica.height for replica in self.replicas.values())
        for host, store in kept.items():
            assert store is not None
            assert RESTORED not in await store.engine(), f"{host} has forgotten what it signed: it finds its own vote"
            for block, _ in await store.blocks(1, height):
                where = block.header.height
                if where not in blocks:
                    for raw in block.transactions:
                        found.setdefault(raw, []).append(where)
                assert blocks.setdefault(where, block.digest()) == block.digest(), f"{host} has another block {where}"
        assert sorted(blocks) == list(range(1, height + 1))
        assert all(len(heights) == 1 for heights in found.values()), "a transaction stands in two blocks"
        lost = {raw for raw, height in self.acknowledged.items() if found.get(raw) != [height]}
        assert not lost, f"{len(lost)} acknowledged transactions are lost"
        for host, replica in self.replicas.items():
            assert not replica.faults, f"{host} blames {replica.faults}"
            assert not (await replica.evidence()).evidence

"""A world of hosts at the edge of custody (tests.helpers.edge_host) that is cranked one event at a time.

Carrier, Handoff, Journal, Mailroom and Gateway are those of production; links and disk are their memory twins, and the
runner is tests.helpers.runner_twin. An event is one message that is delivered or one disk that syncs. Nothing else
happens between two events, so a run is the same whenever its schedule is the same, and a test can put a crash at
each of its points.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from agentplatform.custody import residences
from agentplatform.custody.carry import Carrier
from agentplatform.custody.gateway import Gateway
from agentplatform.mailroom.roads import Roads
from agentplatform.messages import Custody as Custody_
from agentplatform.parcel.manifest import Birth, code_digest, give_birth, open_birth
from agentplatform.settings import Handoff as Deadlines
from ledger.identity import Identity
from tests.helpers.edge_ground import PATIENCE, Ground, WatchedJournal, WatchedMailroom
from tests.helpers.edge_host import EdgeHost
from tests.helpers.linked_hosts import CHAIN
from tests.helpers.residence_twin import OWNER

CODE = b"the code"
TURNS = 40  # of the loop, after which all that an event set off is done; the longest chain takes about 33


class World(Ground):
    """Hosts on one network. `seed` 0: disks sync before messages come; 1: after them; else by chance."""

    def __init__(
        self,
        *names: str,
        seed: int = 0,
        deadlines: Deadlines | None = None,
        carrier: type[Carrier] = Carrier,
        gateway: type[Gateway] = Gateway,
        journal: type[WatchedJournal] = WatchedJournal,
        mailroom: type[WatchedMailroom] = WatchedMailroom,
        roads: type[Roads] = Roads,
        policy: str = "message",
    ) -> None:
        """`policy` is the `checkpoint` of all agents: "message" or "hop"."""
        deadlines = deadlines or Deadlines(offer_deadline=PATIENCE, parcel_life=PATIENCE)
        super().__init__(names, deadlines, journal, mailroom, roads, policy)
        self.carrier, self.gateway = carrier, gateway
        self.hosts: dict[str, EdgeHost] = {}
        self.crashed: list[str] = []
        self.plans: dict[tuple[int, str], Callable[[], None]] = {}  # (index, "before" or "after") -> what happens there
        self._seed, self._random = seed, random.Random(seed)  # noqa: S311  a schedule, drawn again from its seed
        self._salt = 0

    def __getitem__(self, name: str) -> EdgeHost:
        return self.hosts[name]

    # The crank

    async def boot(self, *names: str) -> None:
        for name in names or self.names:
            if name not in self.hosts:
                host = self.hosts[name] = EdgeHost(self, name, self.carrier, self.gateway)
                booted = host.start(host.boot())
                await self.crank()
                assert booted.cancelled() or booted.result() is None  # it may have crashed meanwhile

    async def crank(self) -> None:
        """Until nothing is left to happen."""
        await self.settle()
        while events := self._events():
            await self._next(events)

    async def turn(self) -> None:
        """The next event, and all that it sets off."""
        await self.settle()
        events = self._events()
        assert events, "nothing is left to happen"
        await self._next(events)

    async def messages_only(self) -> None:
        """Until no message is left to deliver; no disk syncs meanwhile."""
        await self.settle()
        while waiting := self.hub.waiting():
            await self._next([waiting[0]])

    async def _next(self, events: list[tuple[str, ...]]) -> None:
        self._perform(self._choose(events))
        await self.settle()
        assert not self.broken, self.broken

    async def until(self, task: "asyncio.Task[Any]") -> Any:
        await self.crank()
        assert task.done(), "it waits for something that does not come"
        return task.result()

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _events(self) -> list[tuple[str, ...]]:
        messages: list[tuple[str, ...]] = [*self.hub.waiting()]
        syncs = [(name,) for name in sorted(self.disks) if self.disks[name].dirty()]
        return [*messages, *syncs] if self._seed == 1 else [*syncs, *messages]

    def _choose(self, events: list[tuple[str, ...]]) -> tuple[str, ...]:
        return events[0] if self._seed < 2 else self._random.choice(events)

    def _perform(self, event: tuple[str, ...]) -> None:
        self._planned("before")
        if len(event) == 1:
            self.disks[event[0]].sync()
        elif event in self.hub.waiting():  # it may have been lost in a fault of the plan
            self.hub.deliver((event[0], event[1]))
        self._planned("after")
        self.index += 1

    def _planned(self, when: str) -> None:
        if (act := self.plans.get((self.index, when))) is not None:
            act()

    # Faults

    def crash(self, name: str) -> None:
        """Power loss: the host is gone, with all that was not durable."""
        host = self.hosts.pop(name, None)
        if host is None:
            return
        host.end()
        self.crashed.append(name)
        self.chronicle.killed(name)
        self.runs.lost(name)
        host.runner.copies = {}  # the workers end too: none writes a file any more
        self.hub.hosts.pop(name, None)
        self.hub.review()
        self.disks[name].crash()
        self.spools[name].crash()

    async def heal(self) -> None:
        """The faults are over: every host is up, every link too, and all who wait ask until nothing is in doubt."""
        self.plans.clear()
        for disk in self.disks.values():
            disk.make_room()
        for one in self.names:
            for other in self.names:
                self.hub.heal(one, other)
        await self.boot()
        for _ in range(3):
            for host in self.hosts.values():
                host.remind()
            await self.crank()

    def close(self, at_rest: bool = False) -> None:
        """The end: what happened is judged by its history. `at_rest`: every agent must be at home somewhere."""
        self.chronicle.judge(at_rest)
        for host in self.hosts.values():
            host.end()

    # Agents

    async def create(self, host: str, name: str, custody: Custody_ = "local") -> str:
        birth, raw = self.birth(name, custody=custody)
        consent = residences.consent(CHAIN, OWNER, birth.agent, host)
        await self.until(self[host].start(self[host].carrier.lifetimes.create(raw, CODE, b"", consent)))
        return birth.agent

    def change(self, host: str, agent: str, custody: Custody_, owner: Identity = OWNER) -> "asyncio.Task[None]":
        """Its owner wants it in that custody, where it is."""
        epoch = self[host].carrier.machine.agents[agent].epoch
        consent = residences.consent(CHAIN, owner, agent, host, epoch + 1)
        lifetimes = self[host].carrier.lifetimes
        return self[host].start(lifetimes.change_custody(agent, custody, consent, "owner", "a test"))

    def birth(self, name: str, owner: Identity = OWNER, custody: Custody_ = "local") -> tuple[Birth, bytes]:
        self._salt += 1
        salt = self._salt.to_bytes(16, "big")
        raw = give_birth(name, owner, salt, code_digest(CODE), "module:Class", False, custody)
        return open_birth(raw, "test"), raw

    async def furnish(self, host: EdgeHost) -> None:
        """Further rooms of a host that is started, before its custody recovers."""

    # What must hold in the end

    def holder(self, agent: str) -> str:
        """The one host that runs it. Nothing is in doubt on any."""
        for host in self.hosts.values():
            machine = host.carrier.machine
            assert not machine.leaving and not machine.arriving, f"{host.name} is in doubt: {machine.key()}"
        here = [name for name, host in self.hosts.items() if host.carrier.machine.here(agent) is not None]
        assert len(here) == 1, f"{agent} is on {here}"
        assert self.runs.now.get(agent, ("nowhere",))[0] == here[0], f"{agent} is on {here[0]} and does not run there"
        assert agent in self[here[0]].carrier.residents.known
        return here[0]

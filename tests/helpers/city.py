"""A city for the EDS: four hosts, a group that follows a user, and plans that a script carries out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from services.dms.memory import MemoryStore
from services.eds.events import Event, UserMoved
from services.eds.explain import Explanation, Outcome
from services.eds.limits import Limits
from services.eds.plan import Plan
from services.eds.policies.falcon import Falcon
from services.eds.rules import Atomic, Group
from services.eds.service import Eds
from services.eds.snapshot import Access, Resident, Snapshot
from tests.helpers.edge_scenes import NOON, host, mesh

FACES = Group("faces", ("user", "face"), (Atomic(("user", "face")),), "ada")
REVOKED = "delta is revoked since height 42: it lost its key"


class City:
    """Four hosts, one of them revoked, and the group "faces" on the first; plans are carried out by a script."""

    def __init__(self) -> None:
        self.where = dict.fromkeys(FACES.agents, "a")
        self.revoked = {"d": REVOKED}
        self.groups = [FACES]
        self.plans: list[Plan] = []
        self.snapshots = 0
        self.minutes = 0.0
        self.step = 1.0  # minutes from one picture to the next
        self.store = MemoryStore()
        self.carry: Callable[[Plan], Awaitable[Outcome]] = self.succeed
        self.since = NOON - 1000
        self.came: dict[str, float] = {}  # agents that came at another time

    async def snapshot_of(self, groups: Sequence[Group]) -> Snapshot:
        self.snapshots += 1
        self.minutes += self.step
        agents = [agent for group in groups for agent in group.agents if agent in self.where]
        return Snapshot(
            tuple(groups),
            NOON + 60 * self.minutes,
            tuple(host(name, revoked=self.revoked.get(name), task_weight=2.0) for name in "abcd"),
            mesh("abcd"),
            tuple(Resident(agent, self.where[agent], self.came.get(agent, self.since)) for agent in agents),
        )

    async def carry_out(self, plan: Plan, why: str) -> Outcome:
        self.plans.append(plan)
        return await self.carry(plan)

    async def succeed(self, plan: Plan) -> Outcome:
        self.where.update(plan.hosts)
        return Outcome()

    def hang(self) -> asyncio.Event:
        """From now on no plan comes to an end; set when one has begun."""
        started = asyncio.Event()

        async def forever(plan: Plan) -> Outcome:
            started.set()
            await asyncio.Event().wait()
            return Outcome()

        self.carry = forever
        return started

    @asynccontextmanager
    async def eds(self, policy: Falcon | None = None, **limits: Any) -> AsyncIterator[Eds]:
        eds = Eds(
            policy or Falcon(),
            self.snapshot_of,
            self.carry_out,
            self.store,
            groups=lambda: self.groups,
            hosts_of=lambda group: {self.where[agent] for agent in group.agents if agent in self.where},
            limits=Limits(**{"pause": 0.0, "attempts": 1} | limits),
            clock=lambda: NOON + 60 * self.minutes,
        )
        yield eds
        await eds.close()


async def decided(eds: Eds, event: Event) -> Explanation:
    """What the EDS decides on `event` about the group of "face"."""
    eds.happened(event)
    await eds.settled()
    return (await eds.why("face"))[0]


def near(name: str, user: str = "ada") -> UserMoved:
    """The user is next to one host and far from the others."""
    return UserMoved(user, tuple(Access(each, 2.0 if each == name else 60.0, 0.0, "emulated") for each in "abcd"))

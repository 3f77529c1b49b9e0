"""The lease of a host at its edge: keeps it while there are agents in held custody, and tells whoever depends on it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from agentplatform.custody.lease import LOOK_EVERY, Run, Watch
from agentplatform.custody.state import Custody


class Leases(Protocol):
    """ledger.leases.Leases."""

    @property
    def until(self) -> float | None: ...

    def keep(self, observer: Callable[[bool], None]) -> None: ...


class Keeper:
    def __init__(
        self,
        leases: Callable[[], Leases],
        machine: Custody,
        lease: Callable[[float | None], None],
        clock: Callable[[], float],
    ) -> None:
        """`lease` is the runner's; `clock` counts the time in which the machine was suspended, in seconds."""
        self._leases, self._machine, self._lease, self._clock = leases, machine, lease, clock
        self._watch = Watch()
        self._wanted = False
        self._granted: list[asyncio.Future[None]] = []
        self.thawed: Callable[[], None] = lambda: None  # what was held back may leave

    def want(self) -> None:
        """There is an agent in held custody here, or there is about to be one."""
        if not self._wanted:
            self._wanted = True
            self._leases().keep(lambda _: self.look())

    async def granted(self) -> None:
        """Until there is a lease."""
        self.want()
        self.look()
        if not self._watch.running:
            self._granted.append(asyncio.get_running_loop().create_future())
            await self._granted[-1]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._wanted:
                self.look()

    def look(self) -> None:
        for effect in self._watch.look(self._leases().until, self._clock()):
            if isinstance(effect, Run):
                self._lease(effect.until)
                granted, self._granted = self._granted, []
                for waiting in granted:
                    if not waiting.done():
                        waiting.set_result(None)
                self.thawed()
            else:
                self._lease(None)

    @property
    def frozen(self) -> bool:
        """There is no lease, and one is wanted."""
        return self._wanted and not self._watch.may_leave(self._clock())

    def may_leave(self, agent: str) -> bool:
        """Whether what this agent causes may leave at this moment."""
        known = self._machine.agents.get(agent)
        return known is None or not known.held or self._watch.may_leave(self._clock())

"""The runner that gives agents worker processes, some of them forked and warmed ahead.

An agent gets a worker of its own; light agents of one owner and one code share one. An opened or created agent costs
one round trip on a socketpair.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from agentplatform.lifecycle import State
from agentplatform.parcel.manifest import Birth
from agentplatform.runners.base import Answer, Arrival, Delivery, Outgoing, Upcalls
from agentplatform.runners.process import jail, wire
from agentplatform.runners.process.forkserver import ForkServer
from agentplatform.runners.process.handle import Handle, Held
from ledger.errors import Misuse, PlatformError, Unavailable


@dataclass(frozen=True)
class WorkerSettings:
    """How workers are kept. Times are in seconds."""

    warm: int = 2
    """Workers kept ready. An agent that finds none waits for a fork, about 20 ms."""

    preload: tuple[str, ...] = ()
    """Modules that the fork server imports once, ahead of all forks; what is not installed is skipped."""

    private: tuple[Path, ...] = ()
    """Folders that no agent may read: the host's data. The start is refused when they lie where agents may look."""

    ready: float = 60.0
    """For a new worker to come up; the first one waits for the preloaded modules too."""

    create: float = 120.0
    """For a class to be imported and `on_creation` to return; an agent may train a model there."""

    open: float = 20.0
    """For a parcel to be opened. The source waits for it, so it is short."""

    capture: float = 30.0
    """For a capture or a disposal. The worker itself gives up earlier and says why; this is for one that hangs."""

    linger: float = 30.0
    """How long a shared worker stays when its last agent has left: the next one finds its code loaded."""


class ProcessRunner:
    """A Runner (agentplatform.runners.base). At a capture the agent forgets the deliveries that it has not answered:
    deliver them again after `thaw`, or where it goes on."""

    def __init__(self, upcalls: Upcalls, settings: WorkerSettings | None = None) -> None:
        self._upcalls = upcalls
        self._settings = settings or WorkerSettings()
        self._server = ForkServer(self._settings.preload, self._ended, self._server_lost)
        self._workers: dict[int, Handle] = {}  # by process id
        self._spares: deque[Handle] = deque()
        self._shared: dict[tuple[bytes, bytes], Handle] = {}
        self._homes: dict[str, Handle] = {}  # by agent
        self._taking = asyncio.Lock()
        self._refill: asyncio.Task[None] | None = None
        self._stopping = False
        self.jail = ""  # how strongly workers are closed in, as jail.close_in says

    async def start(self) -> None:
        """Raises Misuse when the settings cannot work, Unavailable when no worker comes up."""
        for folder in self._settings.private:
            jail.check_private(folder)
        self._server.start()
        first = await self._fork()
        self.jail = first.jail
        self._spares.append(first)
        self._top_up()

    async def stop(self) -> None:
        self._stopping = True
        if self._refill is not None:
            self._refill.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refill
        await self._server.stop()
        for handle in list(self._workers.values()):
            handle.agents.clear()
            handle.fail("the host is stopping")
        for table in (self._workers, self._homes, self._shared):
            table.clear()
        self._spares.clear()

    async def create(self, birth: Birth, code: bytes, init: bytes, arrival: Arrival) -> None:
        handle = await self._admit(birth, State.CREATING)

        def frame(ask: int) -> wire.Create:
            return wire.Create(
                ask, birth.agent, birth.name, birth.class_name, self._once(handle, code), init, arrival
            )

        await self._bring_in(handle, birth.agent, frame, self._settings.create)
        if birth.agent in handle.agents:  # it may have asked to leave already
            handle.agents[birth.agent].state = State.RUNNING

    async def open(self, birth: Birth, code: bytes, state: bytes) -> None:
        handle = await self._admit(birth, State.INERT)

        def frame(ask: int) -> wire.Open:
            return wire.Open(ask, birth.agent, birth.name, birth.class_name, self._once(handle, code), state)

        await self._bring_in(handle, birth.agent, frame, self._settings.open)

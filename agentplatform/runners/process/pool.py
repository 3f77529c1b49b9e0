"""The worker processes of a host: some are forked and warmed ahead, those of light agents are shared.

An agent gets a worker of its own; light agents of one owner and one code share one.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator

from agentplatform.runners.process import jail, wire
from agentplatform.runners.process.footprint import Hidden, footprint
from agentplatform.runners.process.forkserver import ForkServer
from agentplatform.runners.process.handle import Came, Handle, Held
from agentplatform.runners.process.installed import Installed
from agentplatform.runners.process.settings import WorkerSettings
from ledger.errors import Unavailable

STOPPING = "the host is stopping"
LOOK_SECONDS = 5.0  # between two looks at what workers have on the disk
RETURN_SECONDS = 0.1  # after which a worker is prepared for an agent that left: it has arrived elsewhere by then
MAX_PREPARED = 4
QUIET_SECONDS = 0.02  # forks and kills take the processor from an agent that has just arrived; they can wait that long
Key = tuple[bytes, bytes, str]
"""(owner, code, custody): light agents that have these in common share a worker."""


class Pool:
    def __init__(
        self,
        settings: WorkerSettings,
        said: Callable[[Handle, Held, wire.FromAgent], None],
        ended: Callable[[Handle, str], None],
    ) -> None:
        """`said`: a frame of an agent in one of the workers. `ended(worker, reason)`: a worker is gone."""
        self._settings = settings
        self._said, self._told_of_end = said, ended
        self._server = ForkServer(
            settings.preload, self._ended, self._server_lost, settings.history, settings.readable, settings.gpu
        )
        self._workers: dict[int, Handle] = {}  # by process id
        self._forking = 0  # workers that were asked for and have no process id yet
        self._spares: deque[Handle] = deque()
        self._shared: dict[Key, Handle] = {}
        self._prepared: dict[Key, Handle] = {}  # has opened the code of an agent that left, and nobody is in it
        self._preparing: set[asyncio.Task[None]] = set()
        self._taking = asyncio.Lock()
        self._refill: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._on_hold = False
        self.installed = Installed()
        self.stopping = False

    async def start(self) -> str:
        """Returns how strongly workers are closed in, as jail.close_in says. Raises Misuse when the settings cannot
        work, Unavailable when no worker comes up."""
        for folder in self._settings.private:
            jail.check_private(folder)
        for folder in self._settings.readable:
            jail.check_shared(folder, self._settings.private)
        self._server.start()
        try:
            first = await self._fork()
        except BaseException:
            await self.stop()
            raise
        self._spares.append(first)
        self.top_up()
        self._watch = asyncio.get_running_loop().create_task(self._watch_disk())
        return first.jail

    async def stop(self) -> None:
        """Ends all workers; nothing of them is left when it returns. No end is told, but whoever waits for a worker
        hears of it at once."""
        self.stopping = True
        if self._watch is not None:
            self._watch.cancel()
        tasks = [task for task in (self._refill, *self._preparing) if task is not None]
        for task in tasks:
            task.cancel()
        for handle in self._workers.values():
            handle.agents.clear()
            handle.fail(STOPPING)
        await self._server.stop()  # its first step fails the forks that are asked for
        if tasks:
            await asyncio.wait(tasks)
        self._workers.clear()
        self._shared.clear()
        self._prepared.clear()
        self._spares.clear()

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._workers.values())

    def hold(self, on_hold: bool) -> None:
        """Whether what agents do is left with their workers for now (Handle.hold)."""
        self._on_hold = on_hold
        for handle in self._workers.values():
            handle.hold(on_hold)

    # Taking a worker, and leaving it

    async def take(self, key: Key | None, own: Key | None = None) -> Handle:
        """The worker of such light agents, or one for an agent alone (None), if there is one that has opened its `own`
        code. Raises Unavailable."""
        self.installed.check()
        handle = self._prepared.pop(own, None) if own is not None else None
        handle = handle or self._at_hand(key)
        if handle is None:
            async with self._taking:  # so that two light agents at once do not get a worker each
                handle = self._at_hand(key)
                if handle is None:
                    self._spares.append(await self._fork())
                    handle = self._at_hand(key)
                    assert handle is not None
        if handle.idle is not None:
            handle.idle.cancel()
        return handle

    def _at_hand(self, key: Key | None) -> Handle | None:
        """The worker of such light agents, or one that was kept ready."""
        handle = self._shared.get(key) if key is not None else None
        if handle is None and self._spares:
            handle = self._spares.popleft()
            handle.key = key
            if key is not None:
                self._shared[key] = handle
        return handle

    def left(self, handle: Handle) -> None:
        """An agent has left it. A worker ends with its last agent; a shared one lingers."""
        if handle.key is None:
            self._drop(handle)
        elif not handle.agents:
            handle.idle = asyncio.get_running_loop().call_later(self._settings.linger, self._drop, handle)

    def expect(self, came: Came) -> None:
        """An agent that had a worker of its own has left, and may be back soon, as one that goes to and fro: another
        worker opens its code, which takes most of the time of an arrival, and waits for it as a shared one lingers."""
        if not self.stopping:
            task = asyncio.get_running_loop().create_task(self._prepare(came))
            self._preparing.add(task)
            task.add_done_callback(self._preparing.discard)

    async def _prepare(self, came: Came) -> None:
        await asyncio.sleep(RETURN_SECONDS)
        async with self._taking:
            if came.key in self._prepared or len(self._prepared) >= MAX_PREPARED:
                return
            try:
                handle = self._spares.popleft() if len(self._spares) > 1 else await self._fork()
            except Unavailable:
                return
            handle.has_code = True
            handle.tell(wire.Prepare(came.class_name, came.code))
            self._prepared[came.key] = handle
            handle.idle = asyncio.get_running_loop().call_later(self._settings.linger, self._drop, handle)
        self.top_up()

    def _drop(self, handle: Handle) -> None:
        """No agent of this worker is of interest any more."""
        self._forget_prepared(handle)
        if handle.key is not None and self._shared.get(handle.key) is handle:
            del self._shared[handle.key]
        asyncio.get_running_loop().call_later(QUIET_SECONDS, self._server.kill, handle.pid)

    def _forget_prepared(self, handle: Handle) -> None:
        self._prepared = {key: each for key, each in self._prepared.items() if each is not handle}

    def wake(self, handle: Handle) -> None:
        """A worker that stopped itself (leased.py) goes on. For one that runs it does nothing."""
        self._server.wake(handle.pid)

    # Keeping some ready

    async def _fork(self) -> Handle:
        if self.stopping:
            raise Unavailable(STOPPING)
        most = self._settings.most
        running = len(self._workers) + self._forking
        if running >= most and self._prepared:  # the oldest gives way: whom it waits for may never come
            self.broken(next(iter(self._prepared.values())), None)
            running -= 1
        if running >= most:
            raise Unavailable(
                f"this host runs {running} workers and may run {most}; dispose of an agent here, or move one elsewhere",
                retry_after=1.0,
            )
        handle = Handle(self._said, self.broken)

        def born(pid: int) -> None:
            self._forking -= 1
            handle.pid = pid
            self._workers[pid] = handle

        def lost(reason: str) -> None:
            self._forking -= 1
            handle.fail(reason)

        self._forking += 1
        try:
            ends = await handle.connect()
        except BaseException:
            self._forking -= 1
            raise
        self._server.fork(ends, born, lost)
        for end in ends:
            end.close()
        try:
            async with asyncio.timeout(self._settings.ready):
                await handle.ready
        except TimeoutError:
            self._drop(handle)
            raise Unavailable(f"no worker came up within {self._settings.ready:g} s", retry_after=1.0) from None
        handle.hold(self._on_hold)
        return handle

    def top_up(self) -> None:
        """Refills the spares in the background: whoever took one does not wait for it."""
        if not self.stopping and (self._refill is None or self._refill.done()):
            self._refill = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        await asyncio.sleep(QUIET_SECONDS)
        while len(self._spares) < self._settings.warm:
            try:
                async with self._taking:  # an agent that comes now waits for this one, and does not need another
                    self._spares.append(await self._fork())
            except Unavailable:
                return  # the next agent asks again, and hears why

    async def _watch_disk(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for handle in [handle for handle in self if handle.has_code]:
                most = self._settings.scratch + handle.lent
                try:
                    has = await asyncio.to_thread(footprint, handle.pid, self._server.scratch(handle.pid), most)
                except Hidden as error:
                    self.broken(handle, f"its worker hides what it has on the disk: {error}")
                    continue
                if has > most:
                    allowed = f"at most {self._settings.scratch >> 20} MiB are allowed (host.toml: [workers] scratch)"
                    self.broken(handle, f"its worker had {has >> 20} MiB on the disk; {allowed}")

    # How they end

    def broken(self, handle: Handle, blame: str | None) -> None:
        """Its connection ended, or it broke a rule. Its end is reported when the fork server has reaped it."""
        handle.blame = handle.blame or blame
        self._forget_prepared(handle)
        if handle.pid in self._workers and not self.stopping:
            self._server.kill(handle.pid)

    def _ended(self, pid: int, reason: str) -> None:
        handle = self._workers.pop(pid, None)
        if handle is None:
            return
        if handle.idle is not None:
            handle.idle.cancel()  # by then another may have its number
        with contextlib.suppress(ValueError):
            self._spares.remove(handle)
        self._forget_prepared(handle)
        if handle.key is not None and self._shared.get(handle.key) is handle:
            del self._shared[handle.key]
        self._told_of_end(handle, handle.blame or reason)

    def _server_lost(self) -> None:
        for pid in list(self._workers):
            self._ended(pid, "the fork server ended, and its worker with it")
        if not self.stopping:
            self._server.start()
            self.top_up()

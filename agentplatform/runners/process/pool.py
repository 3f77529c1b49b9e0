"""The runner that gives agents worker processes, some of them forked and warmed ahead.

An agent gets a worker of its own; light agents of one owner and one code share one. An opened or created agent costs
one round trip on a socketpair.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from agentplatform.lifecycle import Event, State
from agentplatform.messages import Answer, Arrival, Delivery, Move, News, Outgoing
from agentplatform.parcel.freight import Stowed, travelling
from agentplatform.parcel.manifest import Birth
from agentplatform.parcel.spool import Spool
from agentplatform.runners.base import Upcalls
from agentplatform.runners.process import jail, leased, wire
from agentplatform.runners.process.forkserver import ForkServer
from agentplatform.runners.process.handle import CREATED, ENDED, FROZEN, GOES_ON, OPENED, Handle, Held, Step
from agentplatform.runners.process.lender import Lender
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable

STOPPING = "the host is stopping"
WRITTEN_A_SECOND = 20 << 20  # bytes of a large state, at the least: its capture may take so much longer
QUIET_SECONDS = 0.02  # forks and kills take the processor from an agent that has just arrived; they can wait that long


@dataclass(frozen=True)
class WorkerSettings:
    """How workers are kept. Times are in seconds."""

    warm: int = 2
    """Workers kept ready. An agent that finds none waits for a fork, about 20 ms."""

    most: int = 256
    """Workers at a time, the ready ones among them: an agent that would need one more is refused."""

    preload: tuple[str, ...] = ()
    """Modules that the fork server imports once, ahead of all forks; what is not installed is skipped."""

    history: Path | None = None
    """The prefix of the files that workers write their histories to (agentplatform.history)."""

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

    def __init__(self, upcalls: Upcalls, spool: Spool, settings: WorkerSettings | None = None) -> None:
        """Large states go through `spool`; their files are the runner's until it has told of them."""
        self._upcalls = upcalls
        self._files = Lender(spool)
        self._settings = settings or WorkerSettings()
        self._server = ForkServer(self._settings.preload, self._ended, self._server_lost, self._settings.history)
        self._workers: dict[int, Handle] = {}  # by process id
        self._forking = 0  # workers that were asked for and have no process id yet
        self._spares: deque[Handle] = deque()
        self._shared: dict[tuple[bytes, bytes, str], Handle] = {}
        self._leased: float | None = None  # until then agents in held custody may run
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
        try:
            first = await self._fork()
        except BaseException:
            await self.stop()
            raise
        self.jail = first.jail
        self._spares.append(first)
        self._top_up()

    async def stop(self) -> None:
        """Ends all workers; nothing of them is left when it returns. No `died` is told, but whoever waits hears of it
        at once."""
        self._stopping = True
        if self._refill is not None:
            self._refill.cancel()
        for handle in self._workers.values():
            handle.agents.clear()
            handle.fail(STOPPING)
        await self._server.stop()  # its first step fails the forks that are asked for
        if self._refill is not None:
            await asyncio.wait([self._refill])
        for table in (self._workers, self._homes, self._shared):
            table.clear()
        self._spares.clear()

    # The Runner contract, for one agent

    async def create(self, birth: Birth, code: bytes, init: bytes, arrival: Arrival) -> None:
        """What the agent does at once is told when the caller gives way to the loop for the first time after this."""
        handle = await self._admit(birth)
        if handle.leased and not self._is_leased():
            handle.tell(wire.Leased(0.0))  # it was over before there was a worker: that one stops first
        held = handle.agents[birth.agent]
        held.early = []

        def frame(ask: int) -> wire.Create:
            sent = _once(handle, code)
            return wire.Create(ask, birth.agent, birth.name, birth.class_name, sent, init, arrival)

        await self._bring_in(handle, birth.agent, frame, self._settings.create, CREATED)
        asyncio.get_running_loop().call_soon(handle.say_early, birth.agent, held)

    async def open(self, birth: Birth, code: bytes, state: Stowed) -> None:
        handle = await self._admit(birth)

        def frame(ask: int) -> wire.Open:
            self._files.lend_state(handle, state)
            sent = _once(handle, code)
            return wire.Open(ask, birth.agent, birth.name, birth.class_name, sent, travelling(state))

        await self._bring_in(handle, birth.agent, frame, self._settings.open, OPENED)

    def activate(self, agent: str, arrival: Arrival, beginning: Event = Event.ARRIVE) -> None:
        self._wait_for_lease(agent)
        self._tell(agent, wire.Activate(agent, arrival, beginning), State.RUNNING)

    async def capture(self, agent: str, move: Move) -> Stowed:
        handle = self._home(agent)
        held, wait = handle.agents[agent], self._settings.capture
        state = await handle.ask(agent, lambda ask: wire.Capture(ask, agent, move), wait, FROZEN)
        try:
            return self._files.redeem(held, state)
        except PeerFault as fault:
            self._broken(handle, str(fault))
            raise

    async def deactivate(self, agent: str) -> float | None:
        handle = self._home(agent)
        told = await handle.ask(agent, lambda ask: wire.Deactivate(ask, agent), self._settings.capture, FROZEN)
        try:
            return wire.seconds(told)
        except PeerFault as fault:
            self._broken(handle, str(fault))
            raise

    async def clone(self, agent: str) -> None:
        handle = self._home(agent)
        await handle.ask(agent, lambda ask: wire.Clone(ask, agent), self._settings.capture, GOES_ON)

    async def snapshot(self, agent: str) -> None:
        handle = self._home(agent)
        await handle.ask(agent, lambda ask: wire.Snapshot(ask, agent), self._settings.capture, GOES_ON)

    def tell(self, agent: str, hook: News, word: str) -> None:
        self._tell(agent, wire.Told(agent, hook, word))

    def thaw(self, agent: str, failure: str | None, arrival: Arrival | None = None) -> None:
        self._wait_for_lease(agent)
        self._tell(agent, wire.Thaw(agent, failure, arrival), State.RUNNING)

    def discard(self, agent: str) -> None:
        """Ends an opened or frozen agent without a hook. For one that is gone already it does nothing."""
        handle = self._homes.get(agent)
        if handle is None:
            return
        held = handle.agents[agent]
        lives = (held.state is State.RUNNING or held.early is not None) and not handle.parked(agent)
        self._tell(agent, wire.Discard(agent))
        self._release(agent)
        if lives and handle.leased and not self._is_leased():
            self._broken(handle, f"{agent} was taken away while its worker had no lease: it would go on first")

    async def dispose(self, agent: str) -> None:
        handle = self._home(agent)
        try:
            await handle.ask(agent, lambda ask: wire.Dispose(ask, agent), self._settings.capture, ENDED)
        except Unavailable:
            if handle.key is not None:
                raise  # the others in its worker live on; it may be asked again
        self._release(agent)

    def deliver(self, agent: str, delivery: Delivery) -> None:
        handle = self._homes.get(agent)
        if handle is not None:
            handle.agents[agent].tickets[delivery.ticket] = delivery
            handle.tell(wire.Deliver(agent, delivery))

    def answer(self, agent: str, call: int, answer: Answer) -> None:
        self._tell(agent, wire.Answered(agent, call, answer))

    def lease(self, until: float | None) -> None:
        self._leased = until
        for handle in self._workers.values():
            if handle.leased and until is not None:
                handle.tell(wire.Leased(until))
                handle.unpark()
                self._server.wake(handle.pid)

    def _is_leased(self) -> bool:
        return self._leased is not None and leased.now() < self._leased

    def _wait_for_lease(self, agent: str) -> None:
        """A held agent that is to begin hears of it when there is a lease, unless it was discarded before."""
        handle = self._homes.get(agent)
        if handle is not None and handle.leased and not self._is_leased():
            handle.park(agent)

    # Finding and leaving a worker

    async def _admit(self, birth: Birth) -> Handle:
        """A worker that now holds the agent."""
        if birth.agent in self._homes:
            raise Misuse(f"{birth.agent} runs here already")
        key = (birth.owner, birth.code, birth.custody) if birth.light else None
        handle = self._at_hand(key)
        if handle is None:
            async with self._taking:  # so that two light agents at once do not get a worker each
                handle = self._at_hand(key)
                if handle is None:
                    self._spares.append(await self._fork())
                    handle = self._at_hand(key)
                    assert handle is not None
        if handle.idle is not None:
            handle.idle.cancel()
        handle.agents[birth.agent] = Held(State.CREATING)
        self._homes[birth.agent] = handle
        if birth.custody == "held":
            handle.leased = True
            if self._leased is not None and self._is_leased():
                handle.tell(wire.Leased(self._leased))
        return handle

    def _at_hand(self, key: tuple[bytes, bytes, str] | None) -> Handle | None:
        """The worker of such light agents, or one that was kept ready."""
        handle = self._shared.get(key) if key is not None else None
        if handle is None and self._spares:
            handle = self._spares.popleft()
            handle.key = key
            if key is not None:
                self._shared[key] = handle
        return handle

    async def _bring_in(
        self, handle: Handle, agent: str, frame: Callable[[int], wire.Down], seconds: float, step: Step
    ) -> None:
        try:
            await handle.ask(agent, frame, seconds, step)
        except BaseException:
            if agent in self._homes:
                self._tell(agent, wire.Discard(agent))
                self._release(agent)
            raise
        finally:
            self._top_up()

    def _release(self, agent: str) -> None:
        """The agent has left. Its worker ends with its last agent; a shared one lingers."""
        handle = self._homes.pop(agent, None)
        if handle is None:
            return
        held = handle.agents.pop(agent, None)
        if held is not None:
            self._files.take_back(held)
        if handle.key is None:
            self._drop(handle)
        elif not handle.agents:
            handle.idle = asyncio.get_running_loop().call_later(self._settings.linger, self._drop, handle)

    def _drop(self, handle: Handle) -> None:
        """No agent of this worker is of interest any more."""
        if handle.key is not None and self._shared.get(handle.key) is handle:
            del self._shared[handle.key]
        asyncio.get_running_loop().call_later(QUIET_SECONDS, self._server.kill, handle.pid)

    # Keeping some ready

    async def _fork(self) -> Handle:
        if self._stopping:
            raise Unavailable(STOPPING)
        most = self._settings.most
        running = len(self._workers) + self._forking
        if running >= most:
            raise Unavailable(
                f"this host runs {running} workers and may run {most}; dispose of an agent here, or move one elsewhere",
                retry_after=1.0,
            )
        handle = Handle(self._said, self._broken)

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
        return handle

    def _top_up(self) -> None:
        """Refills the spares in the background: whoever took one does not wait for it."""
        if not self._stopping and (self._refill is None or self._refill.done()):
            self._refill = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        await asyncio.sleep(QUIET_SECONDS)
        while len(self._spares) < self._settings.warm:
            try:
                async with self._taking:  # an agent that comes now waits for this one, and does not need another
                    self._spares.append(await self._fork())
            except Unavailable:
                return  # the next agent asks again, and hears why

    # What workers say

    def _said(self, handle: Handle, held: Held, frame: wire.FromAgent) -> None:
        match frame:
            case wire.Handled():
                answer = _plain_or_error(frame.agent, Answer(frame.ok, frame.body))
                self._upcalls.answered(frame.agent, frame.ticket, answer)
            case wire.Sent() if not wire.is_plain(frame.body):
                self._refuse_letter(frame.agent, Outgoing(frame.receiver, frame.kind, b"", frame.call))
            case wire.Sent():
                self._upcalls.sent(frame.agent, frame.outgoing())
            case wire.Checkpointed():
                self._checkpointed(frame)
            case wire.Printed():
                stream = frame.stream if frame.stream in ("out", "err") else "note"
                self._upcalls.printed(frame.agent, stream, frame.text)
            case wire.WantsToGo():
                state = self._files.redeem(held, frame.state)
                held.enter(State.FROZEN)
                self._upcalls.wants_to_go(frame.agent, frame.destination, state)
            case wire.WantsToSleep():
                held.enter(State.FROZEN)
                self._upcalls.wants_to_sleep(frame.agent, frame.seconds)
            case wire.WantsClone():
                self._upcalls.wants_clone(frame.agent)
            case wire.Books():
                self._upcalls.books(frame.agent, frame.ticket)
            case wire.NeedsFile():
                handle.allow(held, self._settings.capture + frame.size / WRITTEN_A_SECOND)
                self._files.start_lending(handle, held, frame)
            case wire.WantsToEnd():
                self._release(frame.agent)
                self._upcalls.wants_to_end(frame.agent)

    def _checkpointed(self, frame: wire.Checkpointed) -> None:
        checkpoint = frame.checkpoint()
        answers = tuple((ticket, each and _plain_or_error(frame.agent, each)) for ticket, each in checkpoint.answers)
        late = tuple((later, _plain_or_error(frame.agent, each)) for later, each in checkpoint.late)
        letters = []
        for letter in checkpoint.letters:
            if wire.is_plain(letter.body):
                letters.append(letter)
            else:
                self._refuse_letter(frame.agent, letter)
        self._upcalls.checkpointed(frame.agent, replace(checkpoint, answers=answers, letters=tuple(letters), late=late))

    def _refuse_letter(self, agent: str, letter: Outgoing) -> None:
        words = f"the {letter.kind!r} message to {letter.receiver} is no plain data; it was not sent"
        self._upcalls.printed(agent, "note", words)
        if letter.call is not None:
            self.answer(agent, letter.call, Answer(False, codec.encode(words)))

    def _broken(self, handle: Handle, blame: str | None) -> None:
        """Its connection ended, or it broke a rule. Its end is reported when the fork server has reaped it."""
        handle.blame = handle.blame or blame
        if handle.pid in self._workers and not self._stopping:
            self._server.kill(handle.pid)

    def _ended(self, pid: int, reason: str) -> None:
        handle = self._workers.pop(pid, None)
        if handle is None:
            return
        reason = handle.blame or reason
        with contextlib.suppress(ValueError):
            self._spares.remove(handle)
        if handle.key is not None and self._shared.get(handle.key) is handle:
            del self._shared[handle.key]
        agents, handle.agents = handle.agents, {}
        handle.fail(reason)
        for agent, held in agents.items():
            del self._homes[agent]
            self._files.take_back(held)
            if held.state is not State.CREATING and not self._stopping:  # else `create` or `open` raises
                self._upcalls.died(agent, reason)

    def _server_lost(self) -> None:
        for pid in list(self._workers):
            self._ended(pid, "the fork server ended, and its worker with it")
        if not self._stopping:
            self._server.start()
            self._top_up()

    def _home(self, agent: str) -> Handle:
        handle = self._homes.get(agent)
        if handle is None:
            raise Misuse(f"{agent} is not here")
        return handle

    def _tell(self, agent: str, frame: wire.Down, after: State | None = None) -> None:
        """Nothing, when the agent is gone: `died` was called, or is about to be."""
        handle = self._homes.get(agent)
        if handle is not None:
            if after is not None:
                handle.agents[agent].enter(after)
            handle.tell(frame)


def _plain_or_error(agent: str, answer: Answer) -> Answer:
    if wire.is_plain(answer.body):
        return answer
    return Answer(False, codec.encode(f"{agent} sent an answer that is no plain data"))


def _once(handle: Handle, code: bytes) -> bytes | None:
    if handle.has_code:
        return None
    handle.has_code = True
    return code

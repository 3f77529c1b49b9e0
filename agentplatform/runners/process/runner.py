"""The runner that gives agents worker processes. An opened or created agent costs one round trip on a socketpair."""

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from agentplatform.dataorders import DataOrder
from agentplatform.lifecycle import Event, State
from agentplatform.messages import Answer, Arrival, Delivery, Move, News
from agentplatform.parcel.freight import Stowed, travelling
from agentplatform.parcel.manifest import Birth
from agentplatform.parcel.spool import Spool
from agentplatform.runners.base import Upcalls
from agentplatform.runners.process import leased, wire
from agentplatform.runners.process.handle import CREATED, ENDED, FROZEN, GOES_ON, OPENED, Came, Handle, Held, Step
from agentplatform.runners.process.lender import Lender
from agentplatform.runners.process.listener import Listener
from agentplatform.runners.process.pool import Key, Pool
from agentplatform.runners.process.settings import WorkerSettings
from ledger.errors import Misuse, PeerFault, Unavailable


class ProcessRunner:
    """A Runner (agentplatform.runners.base). At a capture the agent forgets the deliveries that it has not answered:
    deliver them again after `thaw`, or where it goes on."""

    def __init__(self, upcalls: Upcalls, spool: Spool, settings: WorkerSettings | None = None) -> None:
        """Large states go through `spool`; their files are the runner's until it has told of them."""
        self._upcalls = upcalls
        self._settings = settings or WorkerSettings()
        self._files = Lender(spool, self._settings.lent)
        listener = Listener(upcalls, self._files, self._settings.capture, self.answer, self._release)
        self._pool = Pool(self._settings, listener.hear, self._ended)
        self._leased: float | None = None  # until then agents in held custody may run
        self._homes: dict[str, Handle] = {}  # by agent
        # One for all agents of a class: each may have come with a copy of its code.
        self._came: WeakValueDictionary[tuple[Key, str], Came] = WeakValueDictionary()
        self.jail = ""  # how strongly workers are closed in, as jail.close_in says

    async def start(self) -> None:
        """Raises Misuse when the settings cannot work, Unavailable when no worker comes up."""
        self.jail = await self._pool.start()

    async def stop(self) -> None:
        """Ends all workers; nothing of them is left when it returns. No `died` is told, but whoever waits hears of it
        at once."""
        await self._pool.stop()
        self._homes.clear()

    # The Runner contract, for one agent

    async def create(self, birth: Birth, code: bytes, init: bytes, arrival: Arrival) -> None:
        """What the agent does at once is told when the caller gives way to the loop for the first time after this."""
        handle = await self._admit(birth, code)
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
        handle = await self._admit(birth, code)

        def frame(ask: int) -> wire.Open:
            key = self._files.lend_state(handle, state)
            sent = _once(handle, code)
            return wire.Open(ask, birth.agent, birth.name, birth.class_name, sent, travelling(state), key)

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
            self._pool.broken(handle, str(fault))
            raise

    async def deactivate(self, agent: str) -> float | None:
        handle = self._home(agent)
        told = await handle.ask(agent, lambda ask: wire.Deactivate(ask, agent), self._settings.capture, FROZEN)
        try:
            return wire.seconds(told)
        except PeerFault as fault:
            self._pool.broken(handle, str(fault))
            raise

    async def clone(self, agent: str) -> None:
        handle = self._home(agent)
        await handle.ask(agent, lambda ask: wire.Clone(ask, agent), self._settings.capture, GOES_ON)

    async def snapshot(self, agent: str) -> None:
        handle = self._home(agent)
        await handle.ask(agent, lambda ask: wire.Snapshot(ask, agent), self._settings.capture, GOES_ON)

    async def data(self, agent: str, order: DataOrder) -> bytes:
        handle = self._home(agent)
        told = await handle.ask(agent, lambda ask: wire.Data(ask, agent, order), self._settings.capture, GOES_ON)
        try:
            return wire.data(told)
        except PeerFault as fault:
            self._pool.broken(handle, str(fault))
            raise

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
        if held.state is State.FROZEN and held.came is not None:
            self._pool.expect(held.came)
        if lives and handle.leased and not self._is_leased():
            self._pool.broken(handle, f"{agent} was taken away while its worker had no lease: it would go on first")

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
        for handle in self._pool:
            if handle.leased and until is not None:
                handle.tell(wire.Leased(until))
                handle.unpark()
                self._pool.wake(handle)

    def hold(self, on_hold: bool) -> None:
        """While the disk is full, what agents do by themselves is not taken up: nothing of it could be written. They go
        on computing until they wait for an answer, and may still be captured, to leave."""
        self._pool.hold(on_hold)

    def _is_leased(self) -> bool:
        return self._leased is not None and leased.now() < self._leased

    def _wait_for_lease(self, agent: str) -> None:
        """A held agent that is to begin hears of it when there is a lease, unless it was discarded before."""
        handle = self._homes.get(agent)
        if handle is not None and handle.leased and not self._is_leased():
            handle.park(agent)

    # Entering and leaving a worker

    async def _admit(self, birth: Birth, code: bytes) -> Handle:
        """A worker that now holds the agent."""
        if birth.agent in self._homes:
            raise Misuse(f"{birth.agent} runs here already")
        key = birth.owner, birth.code, birth.custody
        handle = await self._pool.take(key) if birth.light else await self._pool.take(None, key)
        held = handle.agents[birth.agent] = Held(State.CREATING)
        if not birth.light and birth.custody == "local":  # code runs under a lease as its agents do
            held.came = self._came.setdefault((key, birth.class_name), Came(key, birth.class_name, code))
        self._homes[birth.agent] = handle
        if birth.custody == "held":
            handle.leased = True
            if self._leased is not None and self._is_leased():
                handle.tell(wire.Leased(self._leased))
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
            self._pool.top_up()

    def _release(self, agent: str) -> None:
        """The agent has left."""
        handle = self._homes.pop(agent, None)
        if handle is None:
            return
        held = handle.agents.pop(agent, None)
        if held is not None:
            self._files.take_back(held)
        self._pool.left(handle)

    def _ended(self, handle: Handle, reason: str) -> None:
        agents, handle.agents = handle.agents, {}
        handle.fail(reason)
        for agent in agents:  # all of them, before anybody hears of one, and tells another something
            del self._homes[agent]
        for agent, held in agents.items():
            self._files.take_back(held)
            if held.state is not State.CREATING and not self._pool.stopping:  # else `create` or `open` raises
                self._upcalls.died(agent, reason)

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


def _once(handle: Handle, code: bytes) -> bytes | None:
    if handle.has_code:
        return None
    handle.has_code = True
    return code

"""The residents that are deactivated: on the disk alone, until their time has come, a message comes, or somebody wakes
them.

What is on the disk of such an agent is its last checkpoint, and the mark that it sleeps. The mark is written behind the
checkpoint and removed before the agent acts again: a host that ends in between finds an agent that is awake, and has
lost nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from agentplatform.custody.arrivals import Guest
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.journal import Journal
from agentplatform.custody.residents import Residents
from agentplatform.mailroom.room import Mailroom
from agentplatform.runners.base import Runner
from ledger.errors import Unavailable

log = logging.getLogger(__name__)
RETRY_SECONDS = 5.0  # until an agent that could not be opened is tried again: the host may have had no room
LONGEST_TIMER = 3600.0  # seconds: the wall clock may be set, so it is looked at now and then


class Dormitory:
    def __init__(
        self,
        machine: Handoff,
        residents: Residents,
        journal: Journal,
        gateway: Gateway,
        mailroom: Mailroom,
        runner: Runner,
        reopen: Callable[[str], Awaitable[bool]],
        start: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`reopen(agent)` opens it from the disk and lets it live, after `woken`; False when that failed. `start` runs
        a task. `clock`: seconds since 1970."""
        self.asleep: dict[str, float | None] = {}  # agent -> when it is to wake by itself
        self._machine, self._residents, self._journal, self._gateway = machine, residents, journal, gateway
        self._mailroom, self._runner, self._reopen, self._start, self._clock = mailroom, runner, reopen, start, clock
        self._falling: dict[str, asyncio.Task[None]] = {}  # the mark is on its way to the disk
        self._waking: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._held = False
        self._called: set[str] = set()  # whom a message or its time called meanwhile

    # To sleep

    async def deactivate(self, agent: str, seconds: float | None) -> None:
        """For `seconds`, or until it is woken. Returns when that is durable. Raises Misuse and Unavailable, as a
        capture does; then the agent goes on."""
        if agent in self.asleep:
            await self.lay_down(agent, seconds)
            return
        self._machine.free(agent)
        await asyncio.shield(self._start_deactivation(agent, seconds))

    def _start_deactivation(self, agent: str, seconds: float | None) -> "asyncio.Task[None]":
        """A task of its own: whoever gives up must not leave a frozen agent behind."""

        async def deactivate() -> None:
            told = await self._runner.deactivate(agent)
            await self.lay_down(agent, min((each for each in (seconds, told) if each is not None), default=None))

        task = asyncio.ensure_future(deactivate())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever waited may have gone
        return task

    async def lay_down(self, agent: str, seconds: float | None) -> None:
        """The agent is frozen, and its last checkpoint was handed to the journal; or it sleeps already."""
        if agent not in self._falling:
            task = self._falling[agent] = self._start(self._lay_down(agent, seconds))
            task.add_done_callback(lambda _: self._falling.pop(agent, None))
        await asyncio.shield(self._falling[agent])

    async def _lay_down(self, agent: str, seconds: float | None) -> None:
        epoch = self._machine.here(agent)
        if epoch is None or agent not in self._residents.known:
            return  # its worker ended just then
        frozen = agent not in self.asleep
        until = self.asleep[agent] = None if seconds is None else self._clock() + seconds
        luggage = self._mailroom.close(agent) if frozen else None
        await asyncio.shield(self._journal.sleep(agent, until))
        self._arm(agent)
        if luggage is not None:
            self._runner.discard(agent)
            self._mailroom.sleep(agent, epoch, luggage)  # wakes it when mail waits already

    async def recall(self, guest: Guest, epoch: int) -> None:
        """After a restart of the host: it sleeps on."""
        agent = guest.birth.agent
        self._residents.house(guest.birth, guest.certificate, epoch, guest.luggage)
        self._mailroom.sleep(agent, epoch, guest.luggage)
        self._arm(agent)

    # And up again

    def hold(self, held: bool) -> None:
        """While that is so, neither a message nor its time wakes anybody: they are called when it ends. Who is asked
        for by itself wakes (`awake`)."""
        self._held = held
        if not held:
            called, self._called = self._called, set()
            for agent in called:
                self.wake(agent)

    def wake(self, agent: str) -> None:
        """Begins to, unless it is awake or about to be, or all are held."""
        if self._held:
            self._called.add(agent)
        else:
            self._rouse(agent)

    def _rouse(self, agent: str) -> None:
        if agent in self.asleep and agent not in self._waking:
            task = self._waking[agent] = self._start(self._wake(agent))
            task.add_done_callback(lambda _: self._waking.pop(agent, None))

    async def awake(self, agent: str) -> None:
        """Returns when the agent runs. Raises Unavailable when it cannot be opened now; it is tried again."""
        self._rouse(agent)
        if agent in self._waking:
            await asyncio.shield(self._waking[agent])
        if agent in self.asleep:
            raise Unavailable(f"{agent} is deactivated and could not be opened; see the host's log", RETRY_SECONDS)

    async def _wake(self, agent: str) -> None:
        while agent in self._falling:
            await asyncio.wait([self._falling[agent]])
        if not await self._reopen(agent) and agent in self.asleep:
            self._ring_in(agent, RETRY_SECONDS)

    def woken(self, agent: str) -> None:
        """It is opened, and about to live: what it does waits until the disk does not say any more that it sleeps."""
        if agent in self.asleep:
            del self.asleep[agent]
            self._stop_timer(agent)
            self._gateway.hold(agent, self._journal.wake(agent))

    def forget(self, agent: str) -> None:
        """It does not live here any more."""
        self._called.discard(agent)
        self.asleep.pop(agent, None)
        self._stop_timer(agent)

    # Its time

    def _arm(self, agent: str) -> None:
        self._stop_timer(agent)
        until = self.asleep.get(agent)
        if until is not None:
            self._ring_in(agent, min(max(0.0, until - self._clock()), LONGEST_TIMER))

    def _ring_in(self, agent: str, seconds: float) -> None:
        self._stop_timer(agent)
        self._timers[agent] = asyncio.get_running_loop().call_later(seconds, self._ring, agent)

    def _ring(self, agent: str) -> None:
        until = self.asleep.get(agent)
        if until is not None and until > self._clock():
            self._arm(agent)
        else:
            self.wake(agent)

    def _stop_timer(self, agent: str) -> None:
        timer = self._timers.pop(agent, None)
        if timer is not None:
            timer.cancel()

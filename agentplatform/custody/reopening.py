"""Opens agents again that are in custody here and that no worker has: after a restart of the host, the end of a worker,
a sleep; and clones, for the first time.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from agentplatform.custody.arrivals import Arrivals, Guest, take_in
from agentplatform.custody.dormitory import RETRY_SECONDS, Dormitory
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Cargo
from agentplatform.custody.residents import Residents
from agentplatform.custody.revivals import MAX_REVIVALS, REVIVAL_SECONDS, Revivals
from agentplatform.custody.surroundings import Surroundings
from agentplatform.lifecycle import Event
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Arrival
from agentplatform.runners.base import Runner
from ledger.errors import PlatformError, Unavailable

log = logging.getLogger(__name__)


class Reopening:
    def __init__(
        self,
        host: str,
        machine: Handoff,
        residents: Residents,
        arrivals: Arrivals,
        journal: Journal,
        gateway: Gateway,
        mailroom: Mailroom,
        runner: Runner,
        surroundings: Surroundings,
        granted: Callable[[], Awaitable[None]],
        start: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
    ) -> None:
        """`granted` waits until this host has a lease (custody.keeper)."""
        self.births: set[asyncio.Task[None]] = set()  # tasks that run agents' code: nobody waits for them
        self._host, self._machine, self._residents, self._arrivals = host, machine, residents, arrivals
        self._journal, self._runner, self._surroundings, self._start = journal, runner, surroundings, start
        self._granted = granted
        self.opening: set[str] = set()  # by a worker that has not ended meanwhile
        self._revivals = Revivals()
        self._tried_again: set[str] = set()  # soon: see _failed
        self.dormitory = Dormitory(
            machine,
            residents,
            journal,
            gateway,
            mailroom,
            runner,
            lambda agent: self.reopen(agent, Event.ACTIVATE),
            start,
        )

    @property
    def under_way(self) -> int:
        """How many are being opened, or born again."""
        return len(self.opening) + len(self.births)

    async def restore(self, transfer: bytes, cargo: tuple[Cargo, ...], reason: str) -> None:
        """Agents that were on offer when this host, or their worker, ended: they stay, and hear why."""
        for load in cargo:
            guest = await self._arrivals.unpack(transfer, load.agent)
            if await self._arrivals.open_again(guest) is None:
                if self._machine.here(load.agent) != load.epoch - 1:
                    self._runner.discard(load.agent)  # the chain says that it is elsewhere
                    continue
                self._runner.thaw(load.agent, reason, Arrival(self._host, load.epoch - 1, None))
                self._residents.settle(guest.birth, guest.certificate, load.epoch - 1, guest.luggage)
            else:
                self._surroundings.located(load.agent, load.epoch - 1, self._host)

    async def restart(self, agent: str, epoch: int, kept: bytes, mail: tuple[bytes, ...]) -> None:
        """A resident: it goes on from the state that was written last, or sleeps on."""
        guest = await self._arrivals.resident(kept, agent)
        if guest is None:
            birth = self._start(self._bear_again(agent, Arrival(self._host, epoch, None)))
            self.births.add(birth)
            birth.add_done_callback(self.births.discard)
        elif agent in self.dormitory.asleep:
            await self.dormitory.recall(guest, epoch)
        else:
            await self._open(guest, epoch, mail, Event.ARRIVE)

    def revive(self, agent: str) -> str:
        """Its worker ended alone, and it is forgotten. Returns what becomes of it, for people to read."""
        if not self._revivals.may(agent, time.monotonic()):
            return (
                f"its worker ended more than {MAX_REVIVALS} times within {REVIVAL_SECONDS:g} s, so it waits on the "
                "disk; when the reason is gone: agentplatform activate"
            )
        self._start(self._revive(agent))
        return "it goes on from its last checkpoint"

    def died(self, agent: str) -> bool:
        """Whether it was being opened by the worker that ended: then it is not settled there."""
        opening = agent in self.opening
        self.opening.discard(agent)
        return opening

    async def _revive(self, agent: str) -> None:
        self._journal.flush()  # what was to be written with something else is read now
        await self.reopen(agent, Event.ARRIVE)

    async def reopen(self, agent: str, beginning: Event) -> bool:
        """An agent in custody here that no worker has, from what was written last. False when that failed."""
        known = self._machine.agents[agent]
        if agent in self._machine.quarantined:
            return False
        guest = await self._arrivals.resident(known.kept, agent)
        if self._machine.agents[agent] != known or not known.here:
            return False  # it ended meanwhile
        if guest is None:
            await self._bear_again(agent, Arrival(self._host, known.epoch, None))
            return agent in self._residents.known
        return await self._open(guest, known.epoch, known.mail, beginning)

    async def _open(self, guest: Guest, epoch: int, mail: tuple[bytes, ...], beginning: Event) -> bool:
        agent = guest.birth.agent
        if agent in self.opening:
            return False  # for somebody else
        self.opening.add(agent)
        try:
            failure = await self._arrivals.open_again(guest)
            ended = agent not in self.opening  # its worker, which may be the agent's doing: not tried again
        finally:
            self.opening.discard(agent)
        if failure is not None or ended:
            self._surroundings.located(agent, epoch, self._host)
            if failure is not None and not ended and beginning is Event.ARRIVE and self._machine.here(agent) == epoch:
                self._failed(agent, failure)
            return False
        if self._machine.here(agent) != epoch:
            self._runner.discard(agent)  # it ended meanwhile
            return False
        self.dormitory.woken(agent)
        self._runner.activate(agent, Arrival(self._host, epoch, None), beginning)
        letters = take_in(agent, guest.luggage, mail, self._host)
        self._residents.settle(guest.birth, guest.certificate, epoch, guest.luggage, letters, guest.loose)
        return True

    def _failed(self, agent: str, failure: PlatformError) -> None:
        """To be opened. What may be better soon, such as no room for a worker, is tried again."""
        if not isinstance(failure, Unavailable):
            text = "could not be opened, and waits on the disk; when the reason is gone: agentplatform activate"
        else:
            text = f"could not be opened now, and is tried again in {RETRY_SECONDS:g} s"
            if agent not in self._tried_again:
                self._tried_again.add(agent)
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._try_again, agent)
        self._surroundings.printed(agent, "note", f"{text}: {failure}")

    def _try_again(self, agent: str) -> None:
        self._tried_again.discard(agent)
        if self._machine.here(agent) is not None and agent not in self._residents.known:
            self._start(self._revive(agent))

    async def _bear_again(self, agent: str, arrival: Arrival) -> None:
        birth, beginning, luggage = await self._arrivals.birth(agent)
        if self._machine.agents[agent].held:
            await self._granted()
        if self._machine.here(agent) != arrival.epoch:
            return  # the chain says that it is elsewhere
        try:
            await self._runner.create(birth, await self._residents.code_of(birth), beginning.init, arrival)
        except PlatformError as error:
            log.error("%s could not be started again: %s", agent, error)
            self._surroundings.located(agent, arrival.epoch, self._host)
            return
        self._residents.settle(birth, beginning.certificate, arrival.epoch, luggage)

"""What is done with the agents that live here: at their own wish, at their owner's, and at a decision of the EDS."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from agentplatform.commands import Command
from agentplatform.convoy import Convoy
from agentplatform.custody.carry import Carrier
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.lifetimes import Child
from agentplatform.custody.surroundings import Hop
from agentplatform.dataorders import CHANGES, DataOrder
from agentplatform.messages import Custody, Mover
from agentplatform.parcel.freight import Stowed
from agentplatform.runners.base import Runner
from agentplatform.ticket import Ticket
from ledger.errors import Misuse, PlatformError, Unavailable
from services.rms.adverts import Advert
from services.rms.needs import missing

FIRST_PAUSE = 0.25  # seconds before the first retry; then twice as long each time
LONGEST_PAUSE = 30.0  # seconds
MAX_FAMILY = 128  # agents of one owner on one host, beyond which none of them clones itself


class Lives:
    def __init__(
        self,
        host: str,
        carrier: Carrier,
        runner: Runner,
        gateway: Gateway,
        adverts: Callable[[], Mapping[str, Advert]],
        note: Callable[[str, str], None],
        start: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[Any]"],
    ) -> None:
        """`adverts` are the RMS's; `note(agent, text)` tells an agent's owner; `start` runs a task of the daemon."""
        self._host, self._carrier, self._runner, self._gateway = host, carrier, runner, gateway
        self._adverts, self._note, self._start = adverts, note, start
        self._booked: dict[str, asyncio.Task[Any]] = {}  # agents that go by a Ticket, at their own wish

    # What agents want themselves (runners.base.Upcalls)

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        same = self._same_stay(agent)

        async def go() -> None:
            if same():
                await self._depart(agent, destination, state)
            else:
                self._carrier.departures.freezer.drop(state)

        self._start(go())  # the offer waits in the gateway

    async def _depart(self, agent: str, destination: str, state: Stowed) -> None:
        self._cancel_booking(agent)  # the last word counts
        try:
            await self._carrier.departures.depart([agent], destination, "the agent's own wish", {agent: state})
        except PlatformError as error:
            self._note(agent, f"the move to {destination} failed: {error}")

    def books(self, agent: str, ticket: Ticket) -> None:
        self._by_itself(agent, self._book(agent, ticket))

    async def _book(self, agent: str, ticket: Ticket) -> None:
        self._cancel_booking(agent)
        task = self._booked[agent] = self._start(self._travel_by_itself(agent, ticket))
        task.add_done_callback(lambda done: self._booked.get(agent) is done and self._booked.pop(agent))

    def _cancel_booking(self, agent: str) -> None:
        if (booked := self._booked.pop(agent, None)) is not None:
            booked.cancel()

    async def _travel_by_itself(self, agent: str, ticket: Ticket) -> None:
        try:
            await self.travel(agent, ticket, "itself", "the agent's own wish")
        except PlatformError as error:
            self._note(agent, f"the move to {ticket.host} failed: {error}")
            self._runner.tell(agent, "on_move_failed", str(error))

    def wants_to_sleep(self, agent: str, seconds: float | None) -> None:
        self._by_itself(agent, self._lay_down(agent, seconds))

    async def _lay_down(self, agent: str, seconds: float | None) -> None:
        self._cancel_booking(agent)  # another try would wake it
        await self._carrier.dormitory.lay_down(agent, seconds)

    def wants_clone(self, agent: str) -> None:
        self._by_itself(agent, self._clone_by_itself(agent))

    async def _clone_by_itself(self, agent: str) -> None:
        known = self._carrier.residents.known
        family = sum(each.birth.owner == known[agent].birth.owner for each in known.values())
        try:
            if family >= MAX_FAMILY:
                self._runner.tell(agent, "on_cloned", "")
                raise Misuse(f"its owner has {family} agents here; beyond {MAX_FAMILY} none of them clones itself")
            await self._clone(agent)
        except PlatformError as error:
            self._note(agent, f"no clone was made of it: {error}")

    def wants_custody(self, agent: str, custody: Custody, consent: bytes) -> None:
        self._by_itself(agent, self._change_by_itself(agent, custody, consent))

    async def _change_by_itself(self, agent: str, custody: Custody, consent: bytes) -> None:
        try:
            await self._change_custody(agent, custody, consent, "itself", "the agent's own wish")
        except PlatformError as error:
            self._note(agent, f"its custody did not change: {error}")
            self._runner.tell(agent, "on_move_failed", str(error))

    def wants_to_end(self, agent: str) -> None:
        self._cancel_booking(agent)
        self._gateway.release(agent, lambda: self._carrier.lifetimes.ended(agent))

    def when_durable(self, agent: str, act: Callable[[], None]) -> None:
        """What follows from what it did, when that is durable, and it may act still."""
        self._gateway.release(agent, act)

    def _by_itself(self, agent: str, work: Coroutine[Any, Any, None]) -> None:
        """When what the agent is here rests on is durable, and it is still in the worker in which it asked."""
        same = self._same_stay(agent)

        def act() -> None:
            if same():
                self._start(work)
            else:
                work.close()

        self._gateway.release(agent, act)

    def _same_stay(self, agent: str) -> Callable[[], bool]:
        """Says later whether it lives here, and still in the worker that it is in now: one that was opened again from
        its last checkpoint knows of no wish, and what was captured before is out of date."""
        known = self._carrier.residents.known
        stay = known.get(agent)
        return lambda: agent in known and (stay is None or known[agent] is stay)

    # What others want of them

    async def obey(self, agent: str, order: Command) -> Hop | str | bytes | None:
        """Performs an order of its owner. Returns the hop (None: it is there), the clone, or what it keeps."""
        dormitory = self._carrier.dormitory
        if agent in self._carrier.machine.quarantined and order.verb != "dispose":
            self._carrier.machine.free(agent)
        if agent not in self._carrier.residents.known and order.verb not in ("activate", "dispose"):
            raise Misuse(f"{agent} is stranded on {self._host}; have it opened again first: agentplatform activate")
        match order.verb:
            case "dispatch":
                return await self._send(agent, order.ticket, "owner", "its owner's wish")
            case "retract":
                return await self._send(agent, order.ticket, "retraction", "its owner calls it back")
            case "clone":
                await dormitory.awake(agent)
                self._carrier.machine.free(agent)
                return await self._clone_as_ordered(agent, order)
            case "deactivate":
                await dormitory.deactivate(agent, order.seconds)
                self._cancel_booking(agent)  # not before: when that fails, the agent lives on, and still wants to go
            case "activate":
                await self._carrier.lifetimes.activate(agent)
            case "snapshot":
                if agent not in dormitory.asleep:
                    self._carrier.machine.free(agent)
                    await self._runner.snapshot(agent)
                    await self._carrier.books.written()
            case "data":
                assert order.data is not None
                return await self._look(agent, order.data)
            case "custody":
                assert order.custody is not None
                await self._change_custody(agent, order.custody, order.consent, "owner", "its owner's wish")
            case "dispose":
                await self._carrier.lifetimes.dispose(agent)
        return None

    async def _look(self, agent: str, order: DataOrder) -> bytes:
        """What an agent keeps, as MessagePack; what is changed of it is durable, and with its holders, by then."""
        await self._carrier.dormitory.awake(agent)
        self._carrier.machine.free(agent)
        told = await self._runner.data(agent, order)
        if order.act in CHANGES:
            await self._carrier.books.written()
            await self._carrier.lifetimes.copied(agent)
        return told

    async def _change_custody(self, agent: str, custody: Custody, consent: bytes, by: Mover, why: str) -> None:
        await self._carrier.lifetimes.change_custody(agent, custody, consent, by, why)
        self._note(agent, f"is in {custody} custody on {self._host}")

    async def _send(self, agent: str, ticket: Ticket, by: Mover, why: str) -> Hop | None:
        if ticket.host == self._host and agent in self._carrier.residents.known:
            return None
        return await self.travel(agent, ticket, by, why)

    async def _clone_as_ordered(self, agent: str, order: Command) -> str:
        lifetimes = self._carrier.lifetimes
        child = await lifetimes.conceive(agent, order.salt, order.consent)
        try:
            await self._runner.clone(agent)
        except PlatformError:
            lifetimes.forsake(child)
            raise
        clone = await self._clone(agent, child)
        await lifetimes.copied(clone)
        return clone

    async def _clone(self, agent: str, child: Child | None = None) -> str:
        """Of what the agent's worker has just kept; it stays here until it is told what became of that."""
        clone = ""
        try:
            clone = await self._carrier.lifetimes.clone(agent, child)
            self._note(clone, f"was cloned from {agent} on {self._host}")
        finally:
            self._runner.tell(agent, "on_cloned", clone)
        return clone

    async def awake(self, agents: Sequence[str]) -> None:
        for agent in agents:
            await self._carrier.dormitory.awake(agent)

    async def decided(self, agents: Sequence[str], destination: str, why: str, convoy: Convoy | None = None) -> Hop:
        """The EDS moves them together, and with the rest of the `convoy`."""
        await self.awake(agents)
        return await self._carrier.departures.depart(agents, destination, why, convoy=convoy)

    async def travel(self, agent: str, ticket: Ticket, by: Mover, why: str) -> Hop:
        """Moves a resident agent on these terms. Raises Misuse for what cannot be, Unavailable when the last try
        failed: the destination, or the link to it, may do better later."""
        loop = asyncio.get_running_loop()
        end = None if ticket.deadline is None else loop.time() + ticket.deadline
        pause, tries = FIRST_PAUSE, ticket.retries
        while True:
            try:
                self._check_needs(ticket)
                await self._carrier.dormitory.awake(agent)
                left = None if end is None else end - loop.time()
                return await self._carrier.departures.depart([agent], ticket.host, why, by=by, seconds=left)
            except Unavailable as error:
                if tries == 0 or (end is not None and loop.time() + pause >= end):
                    raise
                self._note(agent, f"could not go to {ticket.host} yet, and tries again in {pause:g} s: {error}")
            await asyncio.sleep(pause)
            pause, tries = min(2 * pause, LONGEST_PAUSE), tries - 1

    def _check_needs(self, ticket: Ticket) -> None:
        if not ticket.needs:
            return
        advert = self._adverts().get(ticket.host)
        if advert is None:
            raise Unavailable(f"{ticket.host} has not said lately what it has", retry_after=1.0)
        if lacking := missing(ticket.needs, advert):
            raise Misuse(f"{ticket.host} does not have what the ticket needs: {'; '.join(lacking)}")

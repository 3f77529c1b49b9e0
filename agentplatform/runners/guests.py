"""The agents of an inline runner, on their event loop: what a daemon does for them, without disk, links and jail."""

import asyncio
import itertools
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agentplatform.agent import Agent
from agentplatform.directory import Directory
from agentplatform.faults import error_body, error_in
from agentplatform.kinds import DIRECTORY, EDS, Found, Query
from agentplatform.lifecycle import Event
from agentplatform.messages import Answer, Arrival, Captured, Checkpoint, Custody, Delivery, Move, Mover, Outgoing
from agentplatform.parcel.freight import Stowed
from agentplatform.parcel.manifest import agent_id
from agentplatform.runners.captures import sooner
from agentplatform.runners.errands import QUESTIONS_FROM
from agentplatform.runners.resident import Resident
from agentplatform.service_agent import ServiceAgent
from agentplatform.ticket import Ticket
from ledger import codec
from ledger.errors import Misuse, Unavailable
from services.rms.needs import absent
from services.rms.resources import Needs

PATIENCE = 5.0  # seconds for a message boundary


class Guest:
    """One agent of the inline runner, wherever it is."""

    def __init__(self, resident: Resident, cls: type[Agent], name: str, arrival: Arrival) -> None:
        self.resident, self.cls, self.name, self.arrival = resident, cls, name, arrival
        self.unanswered: dict[int, Delivery] = {}  # in order: delivered anew after a hop
        self.unheard: dict[int, Answer] = {}  # to its questions: the same
        self.topics: set[str] = set()
        self.needs = Needs()
        self.kept = b""  # its state at the last checkpoint
        self.asleep = False
        self.sleeps: float | None = None  # seconds; None: until it is woken
        self._pieces: dict[bytes, bytes] = {}

    def keep(self, state: Captured) -> None:
        self._pieces |= dict(state.fresh)
        self._pieces = {digest: self._pieces[digest] for digest in state.pieces}
        self.kept = b"".join((state.head, *(self._pieces[digest] for digest in state.pieces)))


class Guests:
    """They are each other's Upcalls: a letter finds its receiver here, and a wish to go is fulfilled."""

    def __init__(
        self, host: str, refuse: dict[str, str], offers: dict[str, tuple[str, ...]], readable: Sequence[Path] = ()
    ) -> None:
        self.printed_lines: list[tuple[str, str, str]] = []
        self.reports: list[tuple[str, str, float]] = []  # agent, kind, value
        self._host, self._refuse, self._offers, self._readable = host, refuse, offers, readable
        self._guests: dict[str, Guest] = {}
        self._passed = 0.0  # seconds, by `pass_time`
        self._numbers = itertools.count(1)
        self._booked: set[asyncio.Task[None]] = set()  # travels by a Ticket, changes of custody
        self._answers: dict[int, asyncio.Future[Answer] | tuple[str, int] | None] = {}  # who waits for a ticket

    async def create(self, cls: type[Agent], init: bytes, name: str) -> str:
        agent = agent_id(name, bytes(32), next(self._numbers).to_bytes(16, "big"))
        resident, arrival = self._resident(agent, name), Arrival(self._host, 1, None)
        self._guests[agent] = Guest(resident, cls, name, arrival)
        try:
            await asyncio.create_task(resident.create(cls, init, arrival))
        except Misuse:
            self._guests.pop(agent, None)
            raise
        await self.rest(agent)
        return agent

    async def rest(self, agent: str) -> None:
        """Until the agent has nothing to do, wherever it went."""
        while (guest := self._guests.get(agent)) is not None:
            resident = guest.resident
            await resident.idle.wait()
            if guest.resident is resident:
                return

    async def settle(self) -> None:
        await asyncio.sleep(0)  # what is due now is called first
        await asyncio.sleep(0)
        while self._booked:
            await asyncio.wait(self._booked)
        while busy := [each.resident for each in self._guests.values() if not each.resident.idle.is_set()]:
            await busy[0].idle.wait()

    async def ask(self, agent: str, kind: str, body: bytes, wait: bool) -> Any:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._deliver(agent, "client-test", kind, body, future)
        answer = await future if wait else None
        await self.rest(agent)
        if answer is None:
            return None
        if not answer.ok:
            raise error_in(answer.body, agent)
        return codec.decode(answer.body, object)

    async def hop(self, agent: str, destination: str, by: Mover) -> None:
        self.wake(agent)
        state = await self.guest(agent).resident.capture(Move(destination, by, f"a test ({by})"))
        refusal = self._refusal(agent, destination)
        self._land(agent, destination, state, quietly=by == "itself")
        await self.rest(agent)
        if refusal is not None:
            raise Unavailable(f"{destination} did not take {agent}: {refusal}")

    async def clone(self, agent: str) -> str:
        self.wake(agent)
        await self.guest(agent).resident.clone()
        clone = self._make_clone(agent)
        await self.rest(clone)
        await self.rest(agent)
        return clone

    async def snapshot(self, agent: str) -> bytes:
        await self.guest(agent).resident.snapshot()
        return self.guest(agent).kept

    async def deactivate(self, agent: str, seconds: float | None) -> None:
        told = await self.guest(agent).resident.deactivate()
        self._lay_down(agent, sooner(seconds, told))

    async def activate(self, agent: str) -> None:
        self.wake(agent)
        await self.rest(agent)

    async def dispose(self, agent: str) -> None:
        self.wake(agent)
        await self.guest(agent).resident.dispose()
        del self._guests[agent]

    def wake(self, agent: str) -> None:
        guest = self.guest(agent)
        if not guest.asleep:
            return
        guest.asleep, guest.sleeps = False, None
        self._open(agent, guest.kept, Event.ACTIVATE)

    def pass_time(self, seconds: float) -> None:
        """Timers, the deadlines of questions and deactivated agents believe that so much time has passed."""
        self._passed += seconds
        for agent, guest in list(self._guests.items()):
            if not guest.asleep:
                guest.resident.pass_time(seconds)
            elif guest.sleeps is not None:
                guest.sleeps -= seconds
                if guest.sleeps <= 0:
                    self.wake(agent)

    def guest(self, agent: str) -> Guest:
        if agent not in self._guests:
            raise Misuse(f"{agent} has ended")
        return self._guests[agent]

    def _resident(self, agent: str, name: str) -> Resident:
        resident = Resident(agent, name, self, lambda agent: None, PATIENCE, readable=self._readable)
        resident.pass_time(self._passed)
        return resident

    def _refusal(self, agent: str, destination: str) -> str | None:
        if destination not in self._refuse and destination in self._offers:
            lacking = absent([self._guests[agent].needs], self._offers[destination])
            return f"it has not what is needed: {'; '.join(lacking)}" if lacking else None
        return self._refuse.get(destination)

    def _land(self, agent: str, destination: str, state: Stowed, quietly: bool = False) -> None:
        guest = self._guests[agent]
        if (refusal := self._refusal(agent, destination)) is not None:
            guest.resident.thaw(None if quietly else refusal)
            self._hand_over(guest)
        else:
            assert isinstance(state, bytes)  # there is no spool here
            old = guest.resident
            guest.arrival = Arrival(destination, guest.arrival.epoch + 1, guest.arrival.host)
            self._open(agent, state, Event.ARRIVE)
            old.discard()

    def _open(self, agent: str, state: bytes, beginning: Event) -> None:
        guest = self._guests[agent]
        resident = self._resident(agent, guest.name)
        resident.open(guest.cls, state)
        guest.resident = resident
        resident.activate(guest.arrival, beginning)
        self._hand_over(guest)

    def _make_clone(self, agent: str) -> str:
        guest = self._guests[agent]
        clone = agent_id(guest.name, bytes(32), next(self._numbers).to_bytes(16, "big"))
        arrival = Arrival(guest.arrival.host, 0, None)
        self._guests[clone] = Guest(guest.resident, guest.cls, guest.name, arrival)
        self._open(clone, guest.kept, Event.CLONED)
        guest.resident.tell("on_cloned", clone)
        return clone

    def _lay_down(self, agent: str, seconds: float | None) -> None:
        guest = self._guests[agent]
        guest.resident.discard()
        guest.asleep, guest.sleeps = True, seconds
        if guest.unanswered or guest.unheard:
            self.wake(agent)

    def _hand_over(self, guest: Guest) -> None:
        for delivery in guest.unanswered.values():
            guest.resident.deliver(delivery)
        for question, answer in guest.unheard.items():
            guest.resident.answer(question, answer)

    def _deliver(
        self,
        agent: str,
        sender: str,
        kind: str,
        body: bytes,
        who: asyncio.Future[Answer] | tuple[str, int] | None,
        seconds: float | None = None,
    ) -> None:
        guest = self.guest(agent)
        ticket = next(self._numbers)
        self._answers[ticket] = who
        guest.unanswered[ticket] = Delivery(ticket, sender, kind, body, sequence=ticket, seconds=seconds)
        if guest.asleep:
            self.wake(agent)
        else:
            guest.resident.deliver(guest.unanswered[ticket])

    # Upcalls

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._land, agent, destination, state)  # not while its life here is still under way

    def books(self, agent: str, ticket: Ticket) -> None:
        self._book(self._travel(agent, ticket))

    async def _travel(self, agent: str, ticket: Ticket) -> None:
        """Without the pauses between the tries, and without a clock."""
        lacking = [need for need in ticket.needs if need not in self._offers.get(ticket.host, ())]
        reason = f"{ticket.host} does not have {', '.join(lacking)}"
        for _ in range(0 if lacking else 1 + ticket.retries):
            try:
                return await self.hop(agent, ticket.host, "itself")
            except Unavailable as error:
                reason = str(error)
            except Misuse as error:
                reason = str(error)
                break
        self.guest(agent).resident.tell("on_move_failed", reason)

    def wants_to_sleep(self, agent: str, seconds: float | None) -> None:
        self._lay_down(agent, seconds)

    def wants_clone(self, agent: str) -> None:
        self._make_clone(agent)

    def wants_custody(self, agent: str, custody: Custody, consent: bytes) -> None:
        """Nobody agrees on anything here: it notices what it would elsewhere."""
        self._book(self._go_on(agent))

    def _book(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._booked.add(task)
        task.add_done_callback(self._booked.discard)

    async def _go_on(self, agent: str) -> None:
        guest = self.guest(agent)
        old, host = guest.resident, guest.arrival.host
        state = await old.capture(Move(host, "itself", "its custody"))
        assert isinstance(state, bytes)
        guest.arrival = Arrival(host, guest.arrival.epoch + 1, None)
        self._open(agent, state, Event.ARRIVE)
        old.discard()

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        guest = self._guests[agent]
        if checkpoint.state is not None:
            guest.keep(checkpoint.state)
        if checkpoint.requires is not None:
            guest.needs = checkpoint.requires.needs
        guest.topics |= {topic for topic, on in checkpoint.topics if on}
        guest.topics -= {topic for topic, on in checkpoint.topics if not on}
        for number in checkpoint.heard:
            guest.unheard.pop(number, None)
        for letter in checkpoint.letters:
            self.sent(agent, letter)
        for ticket, answer in checkpoint.answers:
            guest.unanswered.pop(ticket, None)
            if answer is not None:
                self.answered(agent, ticket, answer)
        for later, answer in checkpoint.late:
            self.answered(agent, later.sequence, answer)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        if outgoing.receiver == DIRECTORY and outgoing.call is not None:
            found = Answer(True, codec.encode(self._found(agent, codec.decode(outgoing.body, Query))))
            asyncio.get_running_loop().call_soon(self._answer, agent, outgoing.call, found)
            return
        if outgoing.receiver == EDS:
            self.reports.append((agent, outgoing.kind, codec.decode(outgoing.body, float)))
            return
        if outgoing.topic:
            for each in [each for each, guest in self._guests.items() if outgoing.receiver in guest.topics]:
                if each != agent:
                    self._deliver(each, agent, outgoing.kind, outgoing.body, None)
            return
        named = (each for each, guest in self._guests.items() if outgoing.receiver in (each, guest.name))
        receiver = next(named, None)
        who = None if outgoing.call is None else (agent, outgoing.call)
        if receiver is not None:
            self._deliver(receiver, agent, outgoing.kind, outgoing.body, who, outgoing.seconds)
        elif outgoing.call is not None:
            error = error_body(f"there is no agent {outgoing.receiver!r}")
            asyncio.get_running_loop().call_soon(self._answer, agent, outgoing.call, Answer(False, error))

    async def event(self, topic: str, body: dict[str, Any]) -> None:
        word = msgspec.json.encode([topic, body]).decode()
        for guest in [guest for guest in self._guests.values() if topic in guest.topics and not guest.asleep]:
            guest.resident.tell("event", word)
        await self.settle()

    def _found(self, agent: str, query: Query) -> list[Found]:
        here, directory = self._guests[agent].arrival.host, Directory(self._guests[agent].arrival.host)
        for each, guest in self._guests.items():
            if issubclass(guest.cls, ServiceAgent):
                directory.add(each, guest.cls.kind_of(None), bytes(32), here)
        return directory.find(query, lambda each: self._guests[each].arrival.host, lambda host: None)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self._guests[agent].unanswered.pop(ticket, None)
        who = self._answers.pop(ticket, None)
        if isinstance(who, tuple):
            self._answer(*who, answer)
        elif who is not None and not who.done():
            who.set_result(answer)

    def _answer(self, agent: str, call: int, answer: Answer) -> None:
        guest = self._guests.get(agent)
        if guest is not None:
            if call >= QUESTIONS_FROM:
                guest.unheard[call] = answer
            if guest.asleep:
                self.wake(agent)
            else:
                guest.resident.answer(call, answer)

    def printed(self, agent: str, stream: str, text: str) -> None:
        self.printed_lines.append((agent, stream, text))
        print(text, end="", file=sys.stderr)

    def died(self, agent: str, reason: str) -> None:
        """Nobody does: there is no worker."""

    def wants_to_end(self, agent: str) -> None:
        del self._guests[agent]

"""Runs agents in a unit test, with no daemon and no process of their own.

    def test_counter_keeps_its_value():
        with Inline() as inline:
            counter = inline.create(Counter, 5)
            assert counter.call("add", 1) == 6
            counter.hop("elsewhere")
            assert counter.call("add", 1) == 7

Hooks, captures and openings are the real ones; what is missing is the jail, the network and the code bundle. All
methods are plain functions, so they serve in plain and in async tests alike: the agents live on an event loop in a
thread of the inline runner. Each method returns when the agent has come to rest again.
"""

import asyncio
import itertools
import sys
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from agentplatform.agent import Agent
from agentplatform.messages import Answer, Arrival, Checkpoint, Delivery, Outgoing
from agentplatform.parcel.freight import Stowed
from agentplatform.parcel.manifest import agent_id
from agentplatform.runners.errands import QUESTIONS_FROM
from agentplatform.runners.place import plain
from agentplatform.runners.resident import Resident
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable

T = TypeVar("T")
SECONDS = 10.0  # a test that waits longer has failed
PATIENCE = 5.0  # seconds for a message boundary


class _Guest:
    """One agent of the inline runner, wherever it is."""

    def __init__(self, resident: Resident, cls: type[Agent], name: str, arrival: Arrival) -> None:
        self.resident, self.cls, self.name, self.arrival = resident, cls, name, arrival
        self.unanswered: dict[int, Delivery] = {}  # in order: delivered anew after a hop
        self.unheard: dict[int, Answer] = {}  # to its questions: the same
        self.topics: set[str] = set()


class Inline:
    """Hosts that exist by being named. `refuse` names those that take nobody, with the reason."""

    def __init__(self, host: str = "here", refuse: dict[str, str] | None = None) -> None:
        self.printed_lines: list[tuple[str, str, str]] = []  # (agent, stream, text); prints of the agents go to stdout
        self._host, self._refuse = host, refuse or {}
        self._guests: dict[str, _Guest] = {}
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer] | tuple[str, int] | None] = {}  # who waits for a ticket
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="inline agents", daemon=True)
        self._thread.start()

    def create(self, cls: type[Agent], init: Any = None, name: str | None = None) -> "InlineAgent":
        """A new agent, after its `on_creation`. Raises Misuse with the agent's words when that fails."""
        return InlineAgent(self, self.wait(self._create(cls, plain(init, "init"), name or cls.__name__.lower())))

    def settle(self) -> None:
        """Waits until no agent has anything to do, whatever they ask each other; `run` aside."""
        self.wait(self._settle())

    def advance(self, seconds: float) -> None:
        """Lets timers and the deadlines of questions believe that so much time has passed, and waits as `settle`."""
        for guest in self._guests.values():
            self._loop.call_soon_threadsafe(guest.resident.pass_time, seconds)
        self.settle()

    def close(self) -> None:
        """Ends all agents without a hook."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self._loop.close()

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` where the agents live. Raises Unavailable after 10 s."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(SECONDS)
        except TimeoutError:
            future.cancel()
            raise Unavailable(f"the agent was not done within {SECONDS:g} s; does a hook wait for ever?") from None

    # On the agents' loop

    async def _create(self, cls: type[Agent], init: bytes, name: str) -> str:
        agent = agent_id(name, bytes(32), next(self._numbers).to_bytes(16, "big"))
        resident, arrival = self._resident(agent, name), Arrival(self._host, 1, None)
        self._guests[agent] = _Guest(resident, cls, name, arrival)
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

    async def _settle(self) -> None:
        await asyncio.sleep(0)  # what is due now is called first
        await asyncio.sleep(0)
        while busy := [each.resident for each in self._guests.values() if not each.resident.idle.is_set()]:
            await busy[0].idle.wait()

    async def ask(self, agent: str, kind: str, body: bytes, wait: bool) -> Any:
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._deliver(agent, "client-test", kind, body, future)
        answer = await future if wait else None
        await self.rest(agent)
        if answer is None:
            return None
        if not answer.ok:
            raise PeerFault(agent, codec.decode(answer.body, str))
        return codec.decode(answer.body, object)

    async def hop(self, agent: str, destination: str) -> None:
        state = await self.guest(agent).resident.capture(destination)
        self._land(agent, destination, state)
        await self.rest(agent)
        if destination in self._refuse:
            raise Unavailable(f"{destination} did not take {agent}: {self._refuse[destination]}")

    async def dispose(self, agent: str) -> None:
        await self.guest(agent).resident.dispose()
        del self._guests[agent]

    def guest(self, agent: str) -> _Guest:
        if agent not in self._guests:
            raise Misuse(f"{agent} has ended")
        return self._guests[agent]

    def _resident(self, agent: str, name: str) -> Resident:
        return Resident(agent, name, self, lambda agent: None, PATIENCE)

    def _land(self, agent: str, destination: str, state: Stowed) -> None:
        guest = self._guests[agent]
        old = guest.resident
        if destination in self._refuse:
            old.thaw(self._refuse[destination])
        else:
            new = self._resident(agent, guest.name)
            assert isinstance(state, bytes)  # there is no spool here
            new.open(guest.cls, state)
            guest.resident = new
            guest.arrival = Arrival(destination, guest.arrival.epoch + 1, guest.arrival.host)
            new.activate(guest.arrival)
            old.discard()
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
        guest.resident.deliver(guest.unanswered[ticket])

    # Upcalls

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        self._land(agent, destination, state)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        guest = self._guests[agent]
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
            error = codec.encode(f"there is no agent {outgoing.receiver!r}")
            self._loop.call_soon(self._answer, agent, outgoing.call, Answer(False, error))

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
            guest.resident.answer(call, answer)

    def printed(self, agent: str, stream: str, text: str) -> None:
        self.printed_lines.append((agent, stream, text))
        print(text, end="", file=sys.stderr)

    def died(self, agent: str, reason: str) -> None:
        """Nobody does: there is no worker."""

    def wants_to_end(self, agent: str) -> None:
        del self._guests[agent]


class InlineAgent:
    """One agent of an inline runner. Every method returns when the agent is at rest again."""

    def __init__(self, inline: Inline, agent: str) -> None:
        self.id = agent
        self._inline = inline

    @property
    def agent(self) -> Agent:
        """The instance itself, to look at its attributes. Another one after each hop."""
        instance = self._inline.guest(self.id).resident.instance
        assert instance is not None
        return instance

    @property
    def host(self) -> str:
        return self._inline.guest(self.id).arrival.host

    @property
    def epoch(self) -> int:
        return self._inline.guest(self.id).arrival.epoch

    def call(self, kind: str, body: Any = None) -> Any:
        """Sends a message and returns the answer. Raises PeerFault with the agent's error."""
        return self._inline.wait(self._inline.ask(self.id, kind, plain(body, "the message"), wait=True))

    def send(self, kind: str, body: Any = None) -> None:
        """Sends a message whose answer nobody waits for."""
        self._inline.wait(self._inline.ask(self.id, kind, plain(body, "the message"), wait=False))

    def hop(self, host: str) -> None:
        """Moves the agent: `on_dispatching`, capture, opening, `on_arrival`.

        Raises Misuse when it cannot leave, Unavailable when `host` refuses it; `on_move_failed` has run then.
        """
        self._inline.wait(self._inline.hop(self.id, host))

    def dispose(self) -> None:
        """Ends the agent, after `on_disposing`."""
        self._inline.wait(self._inline.dispose(self.id))

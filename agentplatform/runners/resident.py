"""One agent at home in this process: its hooks, its messages, its moves. Workers and the inline runner share it.

All of an agent's hooks run in one task, its life, one after the other, so a message boundary is simply the place
where that task looks around. `run` has a task of its own beside it.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from agentplatform.agenda import Agenda, Timer
from agentplatform.agent import Agent, Message
from agentplatform.dataorders import DataOrder
from agentplatform.faults import error_body
from agentplatform.lifecycle import HOOKS, Event, State
from agentplatform.messages import MAX_EVENTS, Answer, Arrival, Delivery, Later, Move, News
from agentplatform.parcel import state as states
from agentplatform.parcel.freight import Stowed
from agentplatform.replies import FutureReply
from agentplatform.runners import reserved
from agentplatform.runners.base import Upcalls
from agentplatform.runners.body import Waiting, current, is_own_cancellation, line, words
from agentplatform.runners.captures import Captures
from agentplatform.runners.errands import QUESTIONS_FROM
from agentplatform.runners.place import handling, plain
from agentplatform.runners.stowage import INLINE, Stowage
from ledger import codec
from ledger.errors import Misuse, OutcomeUnknown, PlatformError, Unavailable


class Resident(Captures):
    """Keeps one agent. The methods are those of the Runner contract, for this agent alone.

    When the agent is captured, it forgets the deliveries that it has not begun: the daemon still has them, and
    delivers them again where the agent goes on.
    """

    def __init__(
        self,
        agent: str,
        name: str,
        upcalls: Upcalls,
        ended: Callable[[str], None],
        patience: float,
        stowage: Stowage = INLINE,
        readable: Sequence[Path] = (),
    ) -> None:
        """`ended` is told when nothing is left of the agent here. `patience`, in seconds: how long a capture waits
        for a message boundary, and then for `run` and `on_dispatching`. `readable`: folders of files for agents."""
        super().__init__(agent, name, upcalls, patience, stowage, readable)
        self._ended = ended
        self._life: asyncio.Task[Any] | None = None
        self._news: list[tuple[str, str]] = []  # hooks to call when it comes to it, and what to tell
        self._disposal: asyncio.Future[None] | None = None

    # The Runner contract

    async def create(self, cls: type[Agent], init: bytes, arrival: Arrival) -> None:
        self._step(Event.CREATE)
        self._place.arrival = arrival
        self._place.errands.begin(arrival.host)
        self._life = asyncio.current_task()
        current.set(self.id)
        try:
            reserved.check(cls)
            self._checkpoints.begin(cls, born=True)
            self.instance = cls.__new__(cls)
            self.instance._mae_place = self._place  # before __init__, which may already ask for the agent's name
            self.instance._mae_agenda, self.instance._mae_data = self._place.errands.agenda, self._place.data
            self.instance.__init__()  # type: ignore[misc]
            await self._hook("on_creation", codec.decode(init, object))
            await self._checkpoints.take(self.instance)
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            self._print_traceback(error)
            self._end(Event.FAILED)
            raise Misuse(f"{self.id} could not be created: {words(error)}") from error
        self._step(Event.CREATED)
        self._live()

    def open(self, cls: type[Agent], state: bytes | memoryview) -> None:
        token = current.set(self.id)
        try:
            self._checkpoints.begin(cls, born=False)
            self.instance = states.restore(state, cls)
        except Misuse as error:
            if error.__cause__ is not None:
                self._print_traceback(error.__cause__)
            raise
        finally:
            current.reset(token)
        self.instance._mae_place = self._place
        self._place.errands.agenda = self.instance._mae_agenda
        self._place.keep(self.instance._mae_data)

    def activate(self, arrival: Arrival, beginning: Event = Event.ARRIVE) -> None:
        self._step(beginning)
        self._place.arrival = arrival
        if beginning is Event.CLONED:  # what its original has still to do is the original's
            self._alive()._mae_agenda = self._place.errands.agenda = Agenda()
            self._checkpoints.begin_needs(type(self._alive()))
        self._live(HOOKS[beginning], *([arrival] if beginning is Event.ARRIVE else []))

    async def capture(self, move: Move) -> Stowed:
        state: Stowed = await self._order(Event.RETRACT if move.by == "retraction" else Event.DISPATCH, move)
        return state

    async def deactivate(self) -> float | None:
        await self._order(Event.DEACTIVATE)
        return self._place.errands.remaining()

    async def clone(self) -> None:
        await self._order(Event.CLONE)

    async def snapshot(self) -> None:
        await self._order(None)

    async def data(self, order: DataOrder) -> bytes:
        told: bytes = await self._order(None, data=order)
        return told

    def tell(self, hook: News, word: str) -> None:
        if hook == "event" and sum(each == "event" for each, _ in self._news) >= MAX_EVENTS:
            return
        self._news.append((hook, word))
        self._wake_up()

    def thaw(self, failure: str | None, arrival: Arrival | None = None) -> None:
        self._step(Event.THAW)
        if arrival is not None:
            self._place.arrival = arrival
        if self._frozen_for is Event.DEACTIVATE:
            self._live(HOOKS[Event.ACTIVATE])  # it was called off
        elif failure is None:
            self._live()
        else:
            self._live("on_move_failed", failure)

    def discard(self) -> None:
        self._end(Event.DISCARD)

    async def dispose(self) -> None:
        if self.state is not State.RUNNING or self._disposal is not None:
            raise Misuse(f"{self.id} is {self.state} or about to end; it cannot be disposed of now")
        self._disposal = asyncio.get_running_loop().create_future()
        self._wake_up()
        await asyncio.wait([self._disposal], timeout=self._patience)
        if not self._disposal.done() and self.state is State.RUNNING and self._life is not None:
            self._life.cancel()  # stuck in one message: the end does not wait for it
            await asyncio.wait([self._life], timeout=self._patience)
            current.set(self.id)
            await self._finish()
        await self._disposal

    def deliver(self, delivery: Delivery) -> None:
        if self.state in (State.RUNNING, State.FREEZING, State.CLONING):
            self._queue(Waiting(delivery, None if delivery.seconds is None else monotonic() + delivery.seconds))

    def answer(self, call: int, answer: Answer) -> None:
        self._place.answer(call, answer)

    def pass_time(self, seconds: float) -> None:
        """For tests: the agent's timers believe that so much time has passed."""
        self._place.errands.pass_time(seconds)

    def pausing(self, stops: bool) -> None:
        """Its process is about to stop for want of a lease, or goes on: the agent does not notice."""

    # The agent's life

    def _live(self, *hook: Any) -> None:
        self.idle.clear()
        self._place.errands.begin(self._place.host)
        self._life = asyncio.create_task(self._live_on(*hook))

    async def _live_on(self, *hook: Any) -> None:
        current.set(self.id)
        if hook:
            await self._inform(*hook)
        await self._start_run()
        while self.state is State.RUNNING:
            await self._checkpoint()
            if self._place.wants_end or self._disposal is not None:
                await self._finish()
            elif (order := self._next_order()) is not None:
                await self._obey(order)
            elif (wish := self._place.wishes.next()) is not None:
                await self._do(wish)
            elif self._news:
                await self._hear(*self._news.pop(0))
            elif self._inbox:
                item = self._inbox.popleft()
                await (self._handle(*item) if isinstance(item, Waiting) else self._run_errand(*item))
            else:
                self._wake.clear()
                self.idle.set()
                self._checkpoints.at_boundary = True
                await self._wake.wait()
                self._checkpoints.at_boundary = False

    async def _checkpoint(self) -> None:
        assert self.instance is not None
        try:
            await self._checkpoints.take(self.instance, lambda: self._place.calling)
        except Misuse as error:
            self._upcalls.printed(self.id, "err", f"{error}\n")

    async def _hear(self, hook: str, word: str) -> None:
        if hook == "event":
            kind, body = msgspec.json.decode(word)
            await self._hook_or_traceback("handle_message", Message(kind, body, f"eds@{self._place.host}"))
            self._checkpoints.changed()
            return
        if hook != "on_cloned" or word:
            await self._inform(hook, word)
        if hook == "on_cloned":
            self._place.wishes.clones = max(0, self._place.wishes.clones - 1)

    async def _handle(self, delivery: Delivery, until: float | None) -> None:
        handling.set(True)
        later = Later(delivery.sender, delivery.sequence, delivery.origin)
        answer: Answer | None
        try:
            if until is not None and monotonic() >= until:
                raise Unavailable(f"{delivery.kind!r} was not handled: its time was over when {self.id} came to it")
            message = Message(delivery.kind, codec.decode(delivery.body, object), delivery.sender, later, until)
            value = await self._hook("handle_message", message)
            if isinstance(value, Later) and value != later:
                raise Misuse(f"the handler of {delivery.kind!r} returned the ticket of another message")
            answer = None if value == later else Answer(True, plain(value, f"the answer to {delivery.kind!r}"))
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            if isinstance(error, PlatformError):  # said on purpose: a flood of refusals is no flood of tracebacks
                self._upcalls.printed(self.id, "err", f"{delivery.kind!r} failed: {line(error)}\n")
                answer = Answer(False, error_body(error))
            else:
                self._print_traceback(error)
                answer = Answer(False, error_body(words(error)))
        finally:
            handling.set(False)
        self._checkpoints.answered(delivery.ticket, answer)

    async def _run_errand(self, number: int, answer: Answer | None) -> None:
        """A timer that is due, or a question that has its answer or will not get it in time."""
        found = self._place.errands.take(number)
        if isinstance(found, Timer):
            message = Message(found.kind, codec.decode(found.body, object), self.id)
            await self._hook_or_traceback("handle_message", message)
            return
        if number >= QUESTIONS_FROM and (found is not None or answer is not None):
            self._checkpoints.heard(number)
        if found is None:
            return
        reply = FutureReply(found.receiver, found.kind, number)
        if answer is not None:
            reply.answered(answer)
        else:
            reply.expired(found.seconds or 0.0)
        if found.later is not None:
            self._checkpoints.late(found.later, answer or Answer(False, error_body(OutcomeUnknown(reply.error))))
        else:
            await self._hook_or_traceback(found.then, reply)

    async def _finish(self) -> None:
        self._step(Event.DISPOSE)
        try:
            async with asyncio.timeout(self._patience):
                await self._stop_run()
                await self._hook_or_traceback("on_disposing")
        except TimeoutError:
            note = f"on_disposing took longer than {self._patience:g} s; the agent ended without it\n"
            self._upcalls.printed(self.id, "note", note)
        self._checkpoints.let_out(self._place.calling)
        self._end(Event.DISPOSED)
        if self._disposal is None:
            self._upcalls.wants_to_end(self.id)
        elif not self._disposal.done():
            self._disposal.set_result(None)

    def _end(self, event: Event) -> None:
        self._step(event)
        self._place.leave()
        self._call_off()
        self.idle.set()
        for task in (self._run, self._life):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._ended(self.id)

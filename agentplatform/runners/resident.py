"""One agent at home in this process: its hooks, its messages, its moves. Workers and the inline runner share it.

All of an agent's hooks run in one task, its life, one after the other, so a message boundary is simply the place
where that task looks around. `run` has a task of its own beside it.
"""

import asyncio
import inspect
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from time import monotonic
from typing import Any, NamedTuple

from agentplatform.agenda import Timer
from agentplatform.agent import Agent, Message
from agentplatform.lifecycle import Event, State, step
from agentplatform.messages import Answer, Arrival, Delivery, Later
from agentplatform.parcel import state as states
from agentplatform.parcel.freight import Stowed
from agentplatform.replies import FutureReply
from agentplatform.runners.base import Upcalls
from agentplatform.runners.checkpoints import Checkpoints
from agentplatform.runners.errands import QUESTIONS_FROM, Errand
from agentplatform.runners.place import MAX_STATE_BYTES, AgentPlace, handling, plain
from ledger import codec
from ledger.errors import Misuse, PlatformError, Unavailable

current: ContextVar[str | None] = ContextVar("current", default=None)
"""The id of the agent whose code is running: its output is attributed by it."""

Pack = Callable[[str, Sequence[states.Part]], Awaitable[Stowed]]
"""Makes the captured state of an agent ready to leave this process. Raises Misuse or Unavailable when it cannot."""


async def join(agent: str, parts: Sequence[states.Part]) -> bytes:
    """The Pack of a process that has no spool."""
    if states.size(parts) > MAX_STATE_BYTES:
        raise Misuse(f"its state has {states.size(parts)} bytes; at most {MAX_STATE_BYTES} travel from here")
    return states.join(parts)


class Waiting(NamedTuple):
    """A delivery that waits for its turn."""

    delivery: Delivery
    until: float | None  # by this process's clock; then its sender does not wait any more


class Resident:
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
        pack: Pack = join,
    ) -> None:
        """`ended` is told when nothing is left of the agent here. `patience`, in seconds: how long a capture waits
        for a message boundary, and then for `run` and `on_dispatching`."""
        self.id = agent
        self.instance: Agent | None = None
        self.idle = asyncio.Event()  # nothing to do now (but for `run`), or ended
        self._wake = asyncio.Event()
        self._checkpoints = Checkpoints(agent, upcalls, self._wake_up, lambda *answer: self._place.answer(*answer))
        self._place = AgentPlace(agent, name, self._checkpoints, self._wake_up, self._queue)
        self._upcalls, self._ended, self._patience, self._pack = upcalls, ended, patience, pack
        self._inbox: deque[Waiting | Errand] = deque()
        self._life: asyncio.Task[Any] | None = None
        self._run: asyncio.Task[None] | None = None
        self._capture: tuple[str, asyncio.Future[Stowed]] | None = None
        self._disposal: asyncio.Future[None] | None = None

    @property
    def state(self) -> State:
        return self._place.state

    # The Runner contract

    async def create(self, cls: type[Agent], init: bytes, arrival: Arrival) -> None:
        self._step(Event.CREATE)
        self._place.arrival = arrival
        self._place.errands.begin(arrival.host)
        self._life = asyncio.current_task()
        current.set(self.id)
        try:
            self._checkpoints.begin(cls, born=True)
            self.instance = cls.__new__(cls)
            self.instance._place = self._place  # before __init__, which may already ask for the agent's name
            self.instance._agenda = self._place.errands.agenda
            self.instance.__init__()  # type: ignore[misc]
            await self._hook("on_creation", codec.decode(init, object))
            self._checkpoints.take(self.instance)
        except BaseException as error:
            if _is_own_cancellation(error):
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
        self.instance._place = self._place
        self._place.errands.agenda = self.instance._agenda

    def activate(self, arrival: Arrival) -> None:
        self._step(Event.ACTIVATE)
        self._place.arrival = arrival
        self._live("on_arrival", arrival)

    async def capture(self, destination: str) -> Stowed:
        if self.state is not State.RUNNING or self._capture is not None:
            raise Misuse(f"{self.id} is {self.state} and on its way already, or not yet here")
        captured: asyncio.Future[Stowed] = asyncio.get_running_loop().create_future()
        self._capture = destination, captured
        self._wake_up()
        await asyncio.wait([captured], timeout=self._patience)
        if not captured.done() and self.state is State.RUNNING:
            self._capture = None
            raise Unavailable(
                f"{self.id} was busy with one message for {self._patience:g} s; it did not leave for {destination}",
                retry_after=self._patience,
            )
        return await captured  # once it freezes, `_freeze` keeps the time

    def thaw(self, failure: str | None, arrival: Arrival | None = None) -> None:
        self._step(Event.THAW)
        if arrival is not None:
            self._place.arrival = arrival
        if failure is None:
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
        if self.state in (State.RUNNING, State.FREEZING):
            self._queue(Waiting(delivery, None if delivery.seconds is None else monotonic() + delivery.seconds))

    def answer(self, call: int, answer: Answer) -> None:
        self._place.answer(call, answer)

    def pass_time(self, seconds: float) -> None:
        """For tests: the agent's timers believe that so much time has passed."""
        self._place.errands.pass_time(seconds)

    def pausing(self, stops: bool) -> None:
        """Its process is about to stop for want of a lease, or goes on: the agent does not notice."""

    # The agent's life

    def _wake_up(self) -> None:
        self.idle.clear()
        self._wake.set()

    def _queue(self, item: Waiting | Errand) -> None:
        self._inbox.append(item)
        self._wake_up()

    def _live(self, *hook: Any) -> None:
        self.idle.clear()
        self._place.errands.begin(self._place.host)
        self._life = asyncio.create_task(self._live_on(*hook))

    async def _live_on(self, *hook: Any) -> None:
        current.set(self.id)
        if hook:
            await self._hook_or_traceback(*hook)
        await self._start_run()
        while self.state is State.RUNNING:
            self._checkpoint()
            if self._place.wants_end or self._disposal is not None:
                await self._finish()
            elif self._capture is not None:
                await self._answer_capture(*self._capture)
            elif self._place.wish is not None:
                await self._go(self._place.wish)
            elif self._inbox:
                item = self._inbox.popleft()
                await (self._handle(*item) if isinstance(item, Waiting) else self._run_errand(*item))
            else:
                self._wake.clear()
                self.idle.set()
                self._checkpoints.at_boundary = True
                await self._wake.wait()
                self._checkpoints.at_boundary = False

    def _checkpoint(self) -> None:
        assert self.instance is not None
        try:
            self._checkpoints.take(self.instance, self._place.calling)
        except Misuse as error:
            self._upcalls.printed(self.id, "err", f"{error}\n")

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
            if _is_own_cancellation(error):
                raise
            self._print_traceback(error)
            answer = Answer(False, codec.encode(words(error)))
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
            self._checkpoints.late(found.later, answer or Answer(False, codec.encode(reply.error)))
        else:
            await self._hook_or_traceback(found.then, reply)

    async def _go(self, destination: str) -> None:
        self._place.wish = None
        try:
            state = await self._freeze(destination)
        except Misuse as error:
            await self._stay(str(error))
        else:
            self._upcalls.wants_to_go(self.id, destination, state)

    async def _answer_capture(self, destination: str, captured: asyncio.Future[Stowed]) -> None:
        try:
            captured.set_result(await self._freeze(destination))
        except Misuse as error:
            captured.set_exception(error)
            await self._stay(str(error))
        finally:
            self._capture = None

    async def _freeze(self, destination: str) -> Stowed:
        """At a message boundary. Raises Misuse when the agent cannot leave; then it is running again, without `run`."""
        self._step(Event.FREEZE)
        try:
            async with asyncio.timeout(self._patience) as deadline:
                await self._stop_run()
                await self._hook("on_dispatching", destination)
            assert self.instance is not None
            self._checkpoints.let_out(self._place.calling)
            self._place.errands.leave()
            self._checkpoints.pieces.forget()  # the captured state takes the place of what the host has kept
            state = await self._pack(self.id, states.parts(self.instance))
        except BaseException as error:
            if _is_own_cancellation(error):
                raise
            self._step(Event.FAILED)
            self._place.errands.begin(self._place.host)
            self._print_traceback(error)
            late = f"`run` or `on_dispatching` did not end within {self._patience:g} s"
            reason = late if deadline.expired() else words(error)
            raise Misuse(f"{self.id} could not leave for {destination}: {reason}") from error
        self._step(Event.CAPTURED)
        # The daemon has the deliveries, and the agenda what is due. Answers to questions come only once, so they stay.
        self._inbox = deque(item for item in self._inbox if isinstance(item, Errand) and item.answer is not None)
        self._place.leave()
        return state

    async def _stay(self, reason: str) -> None:
        await self._hook_or_traceback("on_move_failed", reason)
        await self._start_run()

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
        self.idle.set()
        for task in (self._run, self._life):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._ended(self.id)

    # Running the agent's code

    async def _hook(self, name: str, *arguments: Any) -> Any:
        result = getattr(self.instance, name)(*arguments)
        return await result if inspect.isawaitable(result) else result

    async def _hook_or_traceback(self, name: str, *arguments: Any) -> None:
        try:
            await self._hook(name, *arguments)
        except BaseException as error:
            if _is_own_cancellation(error):
                raise
            self._print_traceback(error)

    async def _start_run(self) -> None:
        leaving = self._place.wish is not None or self._place.wants_end
        if not leaving and (self._run is None or self._run.done()):
            self._run = asyncio.create_task(self._hook_or_traceback("run"))
        self._checkpoints.at_boundary = True
        await asyncio.sleep(0)  # `run` comes before messages; and an agent whose moves all fail leaves others room
        self._checkpoints.at_boundary = False

    async def _stop_run(self) -> None:
        if self._run is not None and not self._run.done():
            self._run.cancel()
            await asyncio.wait([self._run])

    def _step(self, event: Event) -> None:
        self._place.state = step(self._place.state, event, self.id)

    def _print_traceback(self, error: BaseException) -> None:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next  # the agent's owner wants the agent's lines
        text = "".join(traceback.format_exception(type(error), error, frames))
        self._upcalls.printed(self.id, "err", text)


def _is_own_cancellation(error: BaseException) -> bool:
    """Whether the platform cancelled this task, rather than the agent raising CancelledError by itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def words(error: BaseException) -> str:
    text = str(error) if isinstance(error, PlatformError) else traceback.format_exception_only(error)[-1].strip()
    return text.encode(errors="backslashreplace").decode()

"""One agent in this process, and the running of its code: hooks one after the other, and `run` beside them."""

import asyncio
import inspect
import os
import traceback
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from agentplatform.agent import Agent
from agentplatform.faults import printable
from agentplatform.lifecycle import HOOKS, Event, State, step
from agentplatform.messages import Delivery
from agentplatform.runners.base import Upcalls
from agentplatform.runners.checkpoints import Checkpoints
from agentplatform.runners.errands import Errand
from agentplatform.runners.place import AgentPlace
from agentplatform.runners.stowage import Stowage
from ledger.errors import PlatformError

current: ContextVar[str | None] = ContextVar("current", default=None)
"""The id of the agent whose code is running: its output is attributed by it."""


_PLATFORM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")


class Waiting(NamedTuple):
    """A delivery that waits for its turn."""

    delivery: Delivery
    until: float | None  # by this process's clock; then its sender does not wait any more


class Body:
    def __init__(self, agent: str, name: str, upcalls: Upcalls, stowage: Stowage, readable: Sequence[Path]) -> None:
        self.id = agent
        self.instance: Agent | None = None
        self.idle = asyncio.Event()  # nothing to do now (but for `run`), or ended
        self._wake = asyncio.Event()
        self._checkpoints = Checkpoints(
            agent, upcalls, self._wake_up, lambda *answer: self._place.answer(*answer), stowage
        )
        self._place = AgentPlace(agent, name, self._checkpoints, self._wake_up, self._queue, readable)
        self._upcalls = upcalls
        self._inbox: deque[Waiting | Errand] = deque()
        self._run: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        return self._place.state

    def _wake_up(self) -> None:
        self.idle.clear()
        self._wake.set()

    def _queue(self, item: Waiting | Errand) -> None:
        self._inbox.append(item)
        self._wake_up()

    def _alive(self) -> Agent:
        assert self.instance is not None
        return self.instance

    async def _hook(self, name: str, *arguments: Any) -> Any:
        result = getattr(self.instance, name)(*arguments)
        return await result if inspect.isawaitable(result) else result

    async def _hook_or_traceback(self, name: str, *arguments: Any) -> None:
        try:
            await self._hook(name, *arguments)
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            self._print_traceback(error)

    async def _inform(self, hook: str, *arguments: Any) -> None:
        """Calls a hook by which the agent hears what became of it. What it changes there is kept like what a message
        changes; on_arrival needs no checkpoint, for the next start calls it again."""
        await self._hook_or_traceback(hook, *arguments)
        if hook != HOOKS[Event.ARRIVE] and getattr(type(self.instance), hook) is not getattr(Agent, hook, None):
            self._checkpoints.changed()

    async def _stay(self, reason: str) -> None:
        await self._inform("on_move_failed", reason)
        await self._start_run()

    async def _start_run(self) -> None:
        leaving = self._place.wishes.leaving or self._place.wants_end
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
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_PLATFORM):
            frames = frames.tb_next  # the agent's owner wants the agent's lines
        text = "".join(traceback.format_exception(type(error), error, frames))
        self._upcalls.printed(self.id, "err", text)


def is_own_cancellation(error: BaseException) -> bool:
    """Whether the platform cancelled this task, rather than the agent raising CancelledError by itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def words(error: BaseException) -> str:
    text = str(error) if isinstance(error, PlatformError) else traceback.format_exception_only(error)[-1].strip()
    return printable(text)


def line(error: PlatformError) -> str:
    """In one line of a log."""
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()))}"

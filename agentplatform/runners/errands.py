"""An agent's timers and kept questions where it runs: rings when one is due, once for each. In workers only.

What they are stands in agentplatform.agenda; here they meet the clock and the agent's message boundaries.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from agentplatform.agenda import Agenda, Question, Timer
from agentplatform.messages import Answer

QUESTIONS_FROM = 1 << 61  # the numbers of questions; those of calls are below


class Errand(NamedTuple):
    """For the agent's next message boundary: a timer or question that is due, or the answer to a question."""

    number: int
    answer: Answer | None  # None: it is due


class Errands:
    """Of one agent. `queue` takes what is due, `changed` hears of what must be kept."""

    def __init__(self, queue: Callable[[Errand], None], changed: Callable[[], None]) -> None:
        self.agenda = Agenda()
        self._queue, self._changed = queue, changed
        # The wall clock of the start, then evenly on: who sets the clock does not move timers that run.
        self._from = time.time() - time.monotonic()
        self._queued: set[int] = set()
        self._bell: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return self._from + time.monotonic()

    def pass_time(self, seconds: float) -> None:
        """For tests: so much time has passed at once."""
        self._from += seconds
        self._arm()

    def begin(self, host: str) -> None:
        """The agent begins to run on `host`, or goes on there."""
        self.agenda.arrive(host, self.now())
        self._arm()

    def leave(self) -> None:
        """The state is about to be captured, for another host."""
        self.agenda.left = self.now()

    def stop(self) -> None:
        """What is queued is forgotten with the queue: it rings anew after `begin`."""
        self._queued.clear()
        if self._bell is not None:
            self._bell.cancel()

    def remaining(self) -> float | None:
        """Seconds until the next is due; None when nothing is."""
        due = self.agenda.next()
        return None if due is None else max(0.0, due - self.now())

    def after(self, seconds: float, kind: str, body: bytes, every: bool) -> int:
        number = self.agenda.after(self.now(), seconds, kind, body, every)
        self._set()
        return number

    def cancel(self, number: int) -> bool:
        known = self.agenda.timers.pop(number, None) is not None
        if known:
            self._set()
        return known

    def ask(self, question: Question) -> int:
        """The number of a new question, which is due in its `seconds`."""
        number = QUESTIONS_FROM + secrets.randbelow(QUESTIONS_FROM)
        question.due = None if question.seconds is None else self.now() + question.seconds
        self.agenda.questions[number] = question
        self._set()
        return number

    def heard(self, number: int, answer: Answer) -> bool:
        """The answer to a question came. False when nobody waits for it."""
        if number not in self.agenda.questions:
            return False
        self._queue(Errand(number, answer))
        return True

    def take(self, number: int) -> Timer | Question | None:
        """At its turn, what an errand is about; None when it was done or cancelled in the meantime."""
        self._queued.discard(number)
        found = self.agenda.questions.pop(number, None) or self.agenda.fire(number, self.now())
        if found is not None:
            self._set()
        return found

    def _set(self) -> None:
        self._changed()
        self._arm()

    def _arm(self) -> None:
        if self._bell is not None:
            self._bell.cancel()
        due = self.agenda.next(self._queued)
        if due is not None:
            self._bell = asyncio.get_running_loop().call_later(max(0.0, due - self.now()), self._ring)

    def _ring(self) -> None:
        for number in self.agenda.due(self.now()):
            if number not in self._queued:
                self._queued.add(number)
                self._queue(Errand(number, None))
        self._arm()

"""What an agent has still to do: its timers, and the questions whose answers it wants wherever it is by then. Pure.

The agenda is part of the agent's state: it is captured, kept and opened with it. Times are seconds of the host's
clock since 1970, as the caller gives them: while the agent runs somewhere that clock must go evenly. On the host that
wrote them they count on, also while it was down. On another host each has as long to go as it had at the capture: two
hosts' clocks are not compared, and the time under way does not count.
"""

import math
from collections.abc import Container

import msgspec

from agentplatform.messages import Later
from ledger.errors import Misuse

MAX_TIMERS = 1_000  # of one agent
MIN_EVERY = 0.01  # seconds
MAX_SECONDS = 10 * 366 * 86_400.0


def is_time(value: object) -> bool:
    """Whether it is a number of seconds that something may take."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_SECONDS


class Timer(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    due: float
    every: float | None  # seconds
    kind: str
    body: bytes  # MessagePack of plain data


class Question(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A message whose answer is for `then`, a method of the agent; or, if it was delegated, for who asked the agent."""

    receiver: str
    kind: str
    due: float | None  # from then on it waits no more
    seconds: float | None  # that it was given
    then: str
    later: Later | None


class Agenda(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Timers and questions have numbers of their own choice of range: those of questions are drawn at random, so that a
    number that a crash has forgotten is not used again."""

    host: str = ""  # by whose clock it is
    left: float | None = None  # when the state was captured to leave `host`
    last: int = 0  # the highest number of a timer
    timers: dict[int, Timer] = msgspec.field(default_factory=dict)
    questions: dict[int, Question] = msgspec.field(default_factory=dict)

    @property
    def untouched(self) -> bool:
        """It is as a new one."""
        return not (self.last or self.questions)

    def after(self, now: float, seconds: float, kind: str, body: bytes, every: bool = False) -> int:
        """The number of a new timer. Raises Misuse for what no timer can be."""
        least = MIN_EVERY if every else 0.0
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not least <= seconds <= MAX_SECONDS:
            raise Misuse(f"a timer takes {least:g} to {MAX_SECONDS:g} seconds, not {seconds!r:.40}")
        if len(self.timers) >= MAX_TIMERS:
            raise Misuse(f"an agent has at most {MAX_TIMERS} timers; cancel some first")
        self.last += 1
        self.timers[self.last] = Timer(now + seconds, float(seconds) if every else None, kind, body)
        return self.last

    def fire(self, number: int, now: float) -> Timer | None:
        """The timer, which is done with or due again later; None when it was cancelled. What it missed is missed."""
        timer = self.timers.get(number)
        if timer is None:
            return None
        if timer.every is None:
            del self.timers[number]
        else:
            timer.due += timer.every * max(1, math.floor((now - timer.due) / timer.every) + 1)
        return timer

    def next(self, ringing: Container[int] = ()) -> float | None:
        """When the next timer or question is due that is not `ringing` already."""
        return min((due for number, due in self._dues() if number not in ringing), default=None)

    def due(self, now: float) -> list[int]:
        """The numbers of those that are due, the earliest first."""
        return [number for due, number in sorted((due, number) for number, due in self._dues()) if due <= now]

    def leave(self, now: float) -> None:
        """The state is captured to go to another host."""
        self.left = now

    def arrive(self, host: str, now: float) -> None:
        """The agent is on `host`; it may have been there before the capture."""
        if self.host != host and self.left is not None:
            passed = now - self.left
            for timer in self.timers.values():
                timer.due += passed
            for question in self.questions.values():
                question.due = None if question.due is None else question.due + passed
        self.host, self.left = host, None

    def _dues(self) -> list[tuple[int, float]]:
        timers = [(number, timer.due) for number, timer in self.timers.items()]
        questions = [(number, each.due) for number, each in self.questions.items() if each.due is not None]
        return timers + questions

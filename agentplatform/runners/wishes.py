"""What is wanted of an agent at its next message boundary: by others (orders), and by itself (wishes)."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from agentplatform.dataorders import DataOrder
from agentplatform.lifecycle import Event
from agentplatform.messages import Custody, Move
from agentplatform.ticket import Ticket
from ledger.errors import Misuse

FREEZING = frozenset({Event.DISPATCH, Event.RETRACT, Event.DEACTIVATE})
"""Events after which nothing of the agent runs here: they wait while it is in a critical section."""

MAX_WISHES = 64  # of one agent at a time
MAX_REASON = 2000  # characters of a veto


class Order(NamedTuple):
    event: Event | None  # None: a snapshot
    move: Move | None
    done: asyncio.Future[Any]
    data: DataOrder | None = None  # with None for the event: this, in place of a snapshot

    @property
    def what(self) -> str:
        if self.move is not None:
            return f"leave for {self.move.destination}"
        if self.event is None:
            return "write a snapshot" if self.data is None else f"{self.data.act} what it keeps"
        return "clone itself" if self.event is Event.CLONE else "fall asleep"


class Vetoed(Misuse):
    """The agent itself does not want to go: it need not be told so."""


class Sleep(NamedTuple):
    seconds: float | None  # None: until it is activated, or a message comes


class Clone(NamedTuple):
    pass


class OtherCustody(NamedTuple):
    custody: Custody
    consent: bytes


Wish = Ticket | Sleep | Clone | OtherCustody


class Wishes:
    """What the agent asked for itself, in this order, and its critical sections."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` calls for a message boundary."""
        self.held = 0  # critical sections that the agent is in
        self.clones = 0  # that it wished for, and of which it has not heard: elsewhere it would not
        self._wake = wake
        self._open: list[Wish] = []

    def add(self, wish: Wish) -> None:
        if isinstance(wish, Ticket | Sleep):  # the last word counts
            self._open = [each for each in self._open if not isinstance(each, Ticket | Sleep)]
        if len(self._open) >= MAX_WISHES:
            raise Misuse(f"an agent has at most {MAX_WISHES} wishes at a time; wait until some are fulfilled")
        self._open.append(wish)
        self._wake()

    @property
    def stays(self) -> bool:
        """Whether what would freeze the agent has to wait."""
        return self.held > 0 or self.clones > 0

    def next(self) -> Wish | None:
        """What is to be done now."""
        for wish in self._open:
            if not (self.stays and isinstance(wish, Ticket | Sleep)):
                self._open.remove(wish)
                return wish
        return None

    @property
    def leaving(self) -> bool:
        """Whether the agent wants to stop running here."""
        return any(isinstance(wish, Ticket | Sleep) for wish in self._open)

    def clear(self) -> None:
        self._open.clear()

    @contextmanager
    def immovable(self) -> Iterator[None]:
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
            self._wake()

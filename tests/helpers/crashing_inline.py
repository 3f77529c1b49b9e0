"""Inline hosts that can crash: an agent goes on from what was kept of it last, as after `kill -9` of its host.

Its events are its checkpoints and its landings. At the one that `arm` names it crashes: before that is kept, or after.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from agentplatform.lifecycle import Event
from agentplatform.messages import Answer, Arrival, Checkpoint, Outgoing
from agentplatform.parcel.freight import Stowed
from agentplatform.runners.guests import Guests
from agentplatform.runners.inline import Inline
from agentplatform.ticket import Ticket


class CrashingInline(Inline):
    def __init__(self, host: str = "home", refuse: dict[str, str] | None = None) -> None:
        super().__init__(host, refuse)
        self.guests: CrashingGuests = CrashingGuests(host, refuse or {}, {})

    def arm(self, agent: str, at: int | None, kept: bool = False) -> None:
        """From now on the events of `agent` are counted, from 0; at number `at` it crashes."""
        self.guests.watched, self.guests.events = agent, 0
        self.guests.at = None if at is None else (at, kept)


class CrashingGuests(Guests):
    watched = ""
    events = crashes = 0  # of the agent that is watched
    at: tuple[int, bool] | None = None
    dead = False  # what it still says comes from a dead process

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        if self._speaks(agent):
            crash = self._is_next(agent)
            if crash is not False:
                super().checkpointed(agent, checkpoint)
            self._crash_if(agent, crash)

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        if self._speaks(agent):
            crash = self._is_next(agent)
            if crash is not False:
                super().wants_to_go(agent, destination, state)
            self._crash_if(agent, crash)

    def _land(self, agent: str, destination: str, state: Stowed, quietly: bool = False) -> None:
        if destination not in self._refuse:
            assert isinstance(state, bytes)
            self.guest(agent).kept = state
        super()._land(agent, destination, state, quietly)

    def books(self, agent: str, ticket: Ticket) -> None:
        if self._speaks(agent):
            super().books(agent, ticket)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        if self._speaks(agent):
            super().sent(agent, outgoing)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        if self._speaks(agent):
            super().answered(agent, ticket, answer)

    def _speaks(self, agent: str) -> bool:
        return agent != self.watched or not self.dead

    def _is_next(self, agent: str) -> bool | None:
        """Whether it crashes at this event: True after it is kept, False before; None: it does not."""
        if agent != self.watched:
            return None
        self.events += 1
        return self.at[1] if self.at is not None and self.events - 1 == self.at[0] else None

    def _crash_if(self, agent: str, crash: bool | None) -> None:
        if crash is not None:
            self.crashes += 1
            self.dead = True
            asyncio.get_running_loop().call_soon(self._reopen, agent)

    def _reopen(self, agent: str) -> None:
        guest = self.guest(agent)
        old: Any = guest.resident
        for task in (old._life, old._run):
            if task is not None:
                task.cancel()
        old._place.leave()
        self.dead = False
        guest.arrival = Arrival(guest.arrival.host, guest.arrival.epoch, None)
        self._open(agent, guest.kept, Event.ARRIVE)
        old.idle.set()


def until(inline: Inline, condition: Callable[[], bool]) -> None:
    """Lets the agents go on, without letting time pass, until it holds."""
    for _ in range(1_000):
        if condition():
            return
        inline.settle()
    raise AssertionError("it never came to that")

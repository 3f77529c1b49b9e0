"""Agents that follow itineraries on real hosts. Their source travels, so this file imports little."""

import asyncio
from typing import Any

from agentplatform import Agent, Later, Message, handles
from agentplatform.itineraries import Circular, Master, MasterWorkers, Traveller, Worker

LONGER = 12.0  # seconds that a part takes, of which the master waits eight


class Rounds(Traveller):
    """Goes around, and tells an agent of each stop: by its id, for a host that was just started knows no names."""

    def on_creation(self, init: str) -> None:
        self.log = init
        self.notes: list[str] = []

    @handles("go")
    def go(self, itinerary: Circular) -> None:
        self.follow(itinerary)

    @handles("look")
    def look(self) -> Any:
        return [self.host, self.following, self.notes]

    def on_stop(self) -> None:
        self.notes.append(self.host)
        self.send(self.log, "note", [len(self.notes), self.host])


class Log(Agent):
    def on_creation(self, init: Any) -> None:
        self.notes: list[Any] = []

    @handles("note")
    def note(self, what: Any) -> None:
        self.notes.append(what)

    @handles("read")
    def read(self) -> list[Any]:
        return self.notes


class Slow(Worker):
    """Says to the log what it begins; on the host that the part names it takes longer than its master waits."""

    async def work(self, part: Any) -> Any:
        number, stuck = part
        self.send("log", "note", [number, self.host])
        if self.host == stuck:
            await self.call("log", "note", ["stuck", self.host])  # a call leaves at once
            await asyncio.sleep(LONGER)
        return [number, self.host]


class Boss(Master):
    @handles("do")
    def do(self, crew: MasterWorkers, message: Message) -> Later | None:
        self.ticket = message.later
        self.employ(crew)
        return message.later

    def on_results(self) -> None:
        assert self.crew is not None and self.ticket is not None
        lost = list(self.crew.lost.values())
        self.reply(self.ticket, [[each.value or each.error for each in self.crew.results()], lost])
        self.dismiss()

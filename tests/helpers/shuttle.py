"""Agents of the tests with real hosts. Their source travels, so this file imports little."""

import asyncio
import threading
from typing import Any

from agentplatform import Agent, Message


class Shuttle(Agent):
    """Goes to and fro between two hosts by itself."""

    def on_creation(self, init: Any) -> None:
        self.hosts: list[str] = init or []
        self.left = 0  # hops to go
        self.notes: list[int] = []
        self.epochs: list[int] = []  # of its arrivals
        self.failed: list[str] = []
        print(f"hello from {self.host}")

    async def run(self) -> None:
        if self.left > 0:
            await asyncio.sleep(0.001)  # so that mail gets its turn
            self.left -= 1
            self.dispatch(next(host for host in self.hosts if host != self.host))

    async def handle_message(self, message: Message) -> Any:
        match message.kind:
            case "note":
                self.notes.append(message.body)
                return len(self.notes)
            case "shuttle":
                self.left = message.body
                await self.run()
            case "halt":
                self.left = 0
            case "lock":
                self.treasure = threading.Lock()
            case "unlock":
                del self.treasure
            case "go":
                self.dispatch(message.body)
        return {"host": self.host, "epochs": self.epochs, "notes": self.notes, "failed": self.failed}

    def on_arrival(self, arrival: Any) -> None:
        if arrival.epoch not in self.epochs:  # a restart of its host tells it again
            self.epochs.append(arrival.epoch)
        print(f"reached {arrival.host}")

    def on_move_failed(self, reason: str) -> None:
        self.failed.append(reason)

    def on_disposing(self) -> None:
        print("good-bye")


class Teller(Agent):
    """Tells another agent the numbers from 1 on, most of them one-way."""

    def on_creation(self, init: Any) -> None:
        self.to, self.last = init
        self.told = 0

    async def run(self) -> None:
        while self.told < self.last:
            number = self.told + 1
            if number % 5:
                self.send(self.to, "note", number)
            else:
                await self.call(self.to, "note", number, timeout=60.0)
            self.told = number
            await asyncio.sleep(0.002)

    def handle_message(self, message: Message) -> Any:
        return self.told


class Careless(Shuttle):
    """Has no checkpoints, so its state need not travel at any time."""

    checkpoint = "hop"


class Dreamer(Agent):
    """Is never done with its creation."""

    async def on_creation(self, init: Any) -> None:
        await asyncio.Event().wait()

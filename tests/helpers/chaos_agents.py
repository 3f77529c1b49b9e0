"""The agents of the chaos driver. Their source travels, so this file imports little."""

import asyncio
import json
import random
from typing import Any

from agentplatform import Agent, Message


class Wanderer(Agent):
    """Moves at random, tells its friends numbers, and keeps book of what it was told itself."""

    light = True

    def on_creation(self, init: Any) -> None:
        self.hosts: list[str] = init["hosts"]
        self.pace: float = init["pace"]  # seconds between two acts
        self.port: int = init["port"]  # of the receiver of effects
        self.chance = random.Random(init["seed"])  # noqa: S311  repeatable
        self.friends: list[str] = []
        self.acts = 0
        self.going = False
        self.told: dict[str, int] = {}  # to whom -> the last number
        self.heard: dict[str, int] = {}  # from whom -> the last number
        self.clients: dict[str, list[int]] = {}  # from which client -> its numbers
        self.lost: list[str] = []  # numbers that never came
        self.twice: list[str] = []  # and those that came again

    async def run(self) -> None:
        while self.going:
            await asyncio.sleep(self.chance.expovariate(1 / self.pace))
            if not self.going:
                return  # it was halted meanwhile: a last move would be under way when the driver ends
            try:
                self.acts += 1
                await self._act(f"{self.id}/{self.acts}")
                if self.chance.random() < 0.4:
                    self.dispatch(self.chance.choice([host for host in self.hosts if host != self.host]))
                    return
                friend = self.chance.choice(self.friends)
                for _ in range(self.chance.randint(1, 3)):
                    self.send(friend, "number", self.told.get(friend, 0) + 1)
                    self.told[friend] = self.told.get(friend, 0) + 1
            except Exception as error:  # it is about to leave already
                print(f"not now: {error}")

    async def handle_message(self, message: Message) -> Any:
        match message.kind:
            case "go":
                self.friends, self.going = message.body, True
                self.dispatch(self.chance.choice([host for host in self.hosts if host != self.host]))
            case "halt":
                self.going = False
            case "number":
                await self._hear(message.sender, message.body)
            case "client":
                self.clients.setdefault(message.body["client"], []).append(message.body["number"])
        return {name: getattr(self, name) for name in ("told", "heard", "clients", "lost", "twice")}

    async def _hear(self, sender: str, number: int) -> None:
        last = self.heard.get(sender, 0)
        if number <= last:
            self.twice.append(f"{number} from {sender}, after {last}")
            return
        if number > last + 1:
            self.lost.append(f"{last + 1} to {number - 1} from {sender}")
        self.heard[sender] = number
        if number % 3 == 0:
            await self._act(f"{sender}/{self.id}/{number}")

    async def _act(self, effect: str) -> None:
        """Outside the platform: at least once, so the receiver gets what it needs to refuse it a second time."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(json.dumps({"effect": effect, "agent": self.id, "epoch": self.epoch}).encode() + b"\n")
        await reader.readline()
        writer.close()

"""Agents that the runner tests send about. Their source travels, so this file imports little."""

import asyncio
import threading
from typing import Any

from agentplatform import Agent, Message


class Counter(Agent):
    """Counts, and notes which hooks it met."""

    def on_creation(self, init: Any) -> None:
        self.value = init or 0
        self.hooks = ["creation"]
        self.started = 0
        print(f"created on {self.host}")

    async def run(self) -> None:
        self.started += 1
        await asyncio.Event().wait()

    async def handle_message(self, message: Message) -> Any:
        match message.kind:
            case "add":
                self.value += message.body
            case "go":
                self.dispatch(message.body)
            case "end":
                self.dispose()
            case "fail":
                raise KeyError("no such thing")
            case "lock":
                self.lock = threading.Lock()
            case "look":
                return [self.value, self.hooks, self.started, self.host, self.epoch]
            case "ask":
                return await self.call(message.body, "add", 1)
            case "shout":
                return {1, object()}
        return self.value

    def on_dispatching(self, destination: str) -> None:
        self.hooks.append(f"dispatching {destination}")

    async def on_arrival(self, arrival: Any) -> None:
        self.hooks.append(f"arrival {arrival.host} from {arrival.source}")

    def on_move_failed(self, reason: str) -> None:
        self.hooks.append("move failed")
        self.reason = reason

    def on_disposing(self) -> None:
        print("good-bye")


class Feather(Counter):
    light = True


class Careless(Counter):
    """Has no checkpoints, so its state need not travel at any time."""

    checkpoint = "hop"


class Hasty(Agent):
    """Sends and leaves before it is quite there."""

    def on_creation(self, init: Any) -> None:
        self.send("deep", "hello", init)
        self.dispatch("there")


class Refusing(Agent):
    def on_creation(self, init: Any) -> None:
        raise ValueError("I would rather not")


class Stubborn(Agent):
    """Will not leave."""

    def on_creation(self, init: Any) -> None:
        self.reasons: list[str] = []

    def on_dispatching(self, destination: str) -> None:
        raise RuntimeError(f"not to {destination}")

    def on_move_failed(self, reason: str) -> None:
        self.reasons.append(reason)

    def handle_message(self, message: Message) -> Any:
        if message.kind == "go":
            self.dispatch(message.body)
        return self.reasons


class Bare(Agent):
    """Overrides nothing."""

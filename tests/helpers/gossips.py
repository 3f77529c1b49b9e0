"""Agents that tell each other numbers, and remember them. Their source travels, so this file imports little."""

from typing import Any

from agentplatform import Agent, Message


class Gossip(Agent):
    """ "tell" has it tell another agent a number, and gives that one's answer; "read" is what it heard, in order."""

    light = True

    def on_creation(self, init: Any) -> None:
        self.heard: list[int] = []

    async def handle_message(self, message: Message) -> Any:
        match message.kind:
            case "tell":
                to, number = message.body
                return await self.call(to, "hear", number, timeout=60.0)
            case "hear":
                self.heard.append(message.body)
                return len(self.heard)
            case "go":
                self.dispatch(message.body)
        return self.heard

"""The smallest agent with a memory: read this one first."""

from typing import Any

from agentplatform.agent import Agent, Message
from ledger.errors import Misuse


class Counter(Agent):
    """Message "add" with a number counts it, "read" only asks. The answer is the sum so far."""

    light = True

    def on_creation(self, init: Any) -> None:
        self.value = init or 0

    def handle_message(self, message: Message) -> Any:
        if message.kind == "add":
            self.value += message.body
        elif message.kind != "read":
            raise Misuse(f"a counter knows the messages 'add' and 'read', not {message.kind!r}")
        return self.value

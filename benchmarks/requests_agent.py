"""The agent of `requests`, in a file of its own: workers open no more than that."""

from typing import Any

from agentplatform import Agent, handles


class Counting(Agent):
    checkpoint = "hop"

    def on_creation(self, init: Any) -> None:
        self.numbers: list[int] = []

    @handles("count")
    def count(self, number: int) -> int:
        self.numbers.append(number)
        return number

    @handles("take")
    def take(self) -> list[int]:
        numbers, self.numbers = self.numbers, []
        return numbers

"""The agents that `benchmarks.migration` moves. Their source travels, so this file imports little."""

import asyncio
import os
import time
from typing import Any

from agentplatform import Agent


class Shuttle(Agent):
    """Told "go" with a number, it goes to and fro so many times, from `self.dispatch` here to `on_arrival` there.

    `init`: the two `hosts`, the `bytes` that it carries beside, and for how many seconds it `rest`s before each hop
    (None: it turns round at once, in `on_arrival`).
    """

    light = True  # it finds a worker of its owner on both sides

    def on_creation(self, init: Any) -> None:
        self.hosts, self.rest = init["hosts"], init["rest"]
        self.ballast = os.urandom(init["bytes"])
        self.left, self.asked, self.failure = 0, 0.0, ""
        self.times: list[float] = []  # milliseconds
        self.ended = 0.0  # when the last hop was done

    async def run(self) -> None:
        """After creation it waits to be told; after an arrival it goes on, when it has rested."""
        if self.left > 0 and self.rest is not None:
            await asyncio.sleep(self.rest)
            self._go()

    async def handle_message(self, message: Any) -> Any:
        if message.kind == "go":
            self.left, self.times = message.body, []
            self._go()
        return {"left": self.left, "times": self.times, "ended": self.ended, "failure": self.failure}

    def on_arrival(self, arrival: Any) -> None:
        self.ended = time.monotonic()
        self.times.append((self.ended - self.asked) * 1000)
        self.left -= 1
        if self.left > 0 and self.rest is None:
            self._go()

    def on_move_failed(self, reason: str) -> None:
        self.failure = reason

    def _go(self) -> None:
        self.asked = time.monotonic()
        self.dispatch(self.hosts[1] if self.host == self.hosts[0] else self.hosts[0])


class Stranger(Shuttle):
    """Not light: it is opened in a worker that was forked and warmed and has never seen its code."""

    light = False


class HeldShuttle(Shuttle):
    custody = "held"

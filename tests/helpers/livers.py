"""Agents that note each hook of their lives, and do what a message asks for. Their source travels."""

import asyncio
import os
from typing import Any

from agentplatform import Agent, Message, Needs, Ticket


class Liver(Agent):
    """`wayward` names what fails or is refused; `hold` keeps `run` in a critical section until it is told."""

    def on_creation(self, init: Any) -> None:
        self.hooks = ["creation"]
        self.value = 0
        self.wayward = ""
        self.hold = False
        self.moves: list[list[str]] = []

    async def run(self) -> None:
        if self.hold:
            with self.immovable():
                while self.hold:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                self.hooks.append("let go")
        await asyncio.Event().wait()

    def handle_message(self, message: Message) -> Any:
        match message.kind:
            case "add":
                self.value += message.body
            case "hooks":
                return self.hooks
            case "look":
                return [self.id, self.host, self.epoch, self.value]
            case "moves":
                return self.moves
            case "wayward":
                self.wayward = message.body
            case "hold":
                self.hold = message.body
            case "require":
                self.require(Needs(has=tuple(message.body)))
            case "go":
                self.dispatch(message.body)
            case "travel":
                host, deadline, retries, needs = message.body
                self.dispatch(Ticket(host, deadline, retries, tuple(needs)))
            case "clone":
                self.clone()
            case "clone and go":
                self.clone()
                self.dispatch(message.body)
            case "clone and sleep":
                self.clone()
                self.deactivate()
            case "sleep":
                self.deactivate(for_=message.body)
            case "snapshot":
                self.snapshot()
            case "remind":
                self.after(message.body, "add", 100)
            case "pid":
                return os.getpid()
            case "die":
                os._exit(3)
        return self.value

    def may_move(self, event: Any) -> Any:
        self.moves.append([event.destination, event.by, event.why])
        if self.wayward == "may_move":
            raise KeyError("no idea")
        return "I like it here" if self.wayward == "veto" else None

    def on_dispatching(self, destination: str) -> None:
        self._note(f"dispatching {destination}")

    def on_reverting(self, destination: str) -> None:
        self._note(f"reverting {destination}")

    def on_arrival(self, arrival: Any) -> None:
        self._note(f"arrival {arrival.source}")

    def on_cloning(self) -> None:
        self._note("cloning")

    def on_clone(self) -> None:
        self._note("clone")

    def on_cloned(self, clone: str) -> None:
        self._note(f"cloned {clone}")

    def on_deactivating(self) -> None:
        self._note("deactivating")

    def on_activation(self) -> None:
        self._note("activation")

    def on_move_failed(self, reason: str) -> None:
        self._note(f"failed: {reason}")

    def on_disposing(self) -> None:
        print("good-bye")

    def _note(self, hook: str) -> None:
        self.hooks.append(hook)
        if self.wayward and hook.startswith(self.wayward):
            raise ValueError(f"not {hook}")


class Laden(Liver):
    """With a state that travels past the daemons."""

    def on_creation(self, init: Any) -> None:
        super().on_creation(init)
        self.load = os.urandom(4 << 20)


class Loose(Liver):
    checkpoint = "hop"


class Mayfly(Liver):
    checkpoint = "none"


class Feather(Liver):
    light = True


class Obliging(Agent):
    """Overrides the hook for moves of its own wish alone."""

    def on_dispatching(self, destination: str) -> None:
        self.left = destination

    def handle_message(self, message: Message) -> Any:
        return self.left


class Choosy(Liver):
    """No host has what it needs."""

    needs = Needs(has=("no_such_module",))

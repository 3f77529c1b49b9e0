"""Runs agents in a unit test, with no daemon and no process of their own.

    def test_counter_keeps_its_value():
        with Inline() as inline:
            counter = inline.create(Counter, 5)
            assert counter.call("add", 1) == 6
            counter.hop("elsewhere")
            assert counter.call("add", 1) == 7

Hooks, captures and openings are the real ones; what is missing is the jail, the network and the code bundle. All
methods are plain functions, so they serve in plain and in async tests alike: the agents live on an event loop in a
thread of the inline runner. Each method returns when the agent has come to rest again.
"""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from agentplatform.agent import Agent
from agentplatform.messages import RESERVED, Mover
from agentplatform.runners.guests import Guests
from agentplatform.runners.place import plain
from ledger.errors import Unavailable

T = TypeVar("T")
SECONDS = 10.0  # a test that waits longer has failed


class Inline:
    """Hosts that exist by being named. `refuse` names those that take nobody, with the reason; `offers` says what a
    host has for the needs of a Ticket, and of agents (`Needs.has`; amounts are not measured, and of a host that is left
    out agents believe that it has all); `readable` are the folders that `Agent.shared_file` looks in."""

    def __init__(
        self,
        host: str = "here",
        refuse: dict[str, str] | None = None,
        offers: dict[str, tuple[str, ...]] | None = None,
        readable: Sequence[Path] = (),
    ) -> None:
        self.host = host
        self.guests = Guests(host, refuse or {}, offers or {}, readable)
        self.reports = self.guests.reports  # (agent, kind, value): what agents reported
        self.printed_lines = self.guests.printed_lines  # (agent, stream, text); prints of the agents go to stdout
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="inline agents", daemon=True)
        self._thread.start()

    def create(self, cls: type[Agent], init: Any = None, name: str | None = None) -> "InlineAgent":
        """A new agent, after its `on_creation`. Raises Misuse with the agent's words when that fails."""
        return InlineAgent(self, self.wait(self.guests.create(cls, plain(init, "init"), name or cls.__name__.lower())))

    def settle(self) -> None:
        """Waits until no agent has anything to do, whatever they ask each other; `run` aside."""
        self.wait(self.guests.settle())

    def event(self, kind: str, **body: Any) -> None:
        """An event of the EDS, such as `event("overload", host="here", resource="cpu", seconds=3.0)`, for the agents
        that have subscribed to it."""
        self.wait(self.guests.event(f"{RESERVED}{kind}", body))

    def advance(self, seconds: float) -> None:
        """Lets timers, the deadlines of questions and deactivated agents believe that so much time has passed, and
        waits as `settle`."""
        self._loop.call_soon_threadsafe(self.guests.pass_time, seconds)
        self.settle()

    def close(self) -> None:
        """Ends all agents without a hook."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self._loop.close()

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` where the agents live. Raises Unavailable after 10 s."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(SECONDS)
        except TimeoutError:
            future.cancel()
            raise Unavailable(f"the agent was not done within {SECONDS:g} s; does a hook wait for ever?") from None


class InlineAgent:
    """One agent of an inline runner. Every method returns when the agent is at rest again."""

    def __init__(self, inline: Inline, agent: str) -> None:
        self.id = agent
        self._inline = inline

    @property
    def agent(self) -> Agent:
        """The instance itself, to look at its attributes. Another one after each hop."""
        instance = self._inline.guests.guest(self.id).resident.instance
        assert instance is not None
        return instance

    @property
    def host(self) -> str:
        return self._inline.guests.guest(self.id).arrival.host

    @property
    def epoch(self) -> int:
        return self._inline.guests.guest(self.id).arrival.epoch

    def call(self, kind: str, body: Any = None) -> Any:
        """Sends a message and returns the answer. Raises PeerFault with the agent's error, Unavailable
        when it says to come again later."""
        return self._inline.wait(self._inline.guests.ask(self.id, kind, plain(body, "the message"), wait=True))

    def send(self, kind: str, body: Any = None) -> None:
        """Sends a message whose answer nobody waits for."""
        self._inline.wait(self._inline.guests.ask(self.id, kind, plain(body, "the message"), wait=False))

    def hop(self, host: str, by: Mover = "owner") -> None:
        """Has the agent moved: `may_move`, `on_dispatching`, capture, opening, `on_arrival`. `by` says who wants it.

        Raises Misuse when it does not want to go, or cannot leave, Unavailable when `host` refuses it; then, but for
        its own veto, `on_move_failed` has run.
        """
        self._inline.wait(self._inline.guests.hop(self.id, host, by))

    def retract(self) -> None:
        """Calls the agent back to the first host: `on_reverting` in place of `on_dispatching`."""
        self.hop(self._inline.host, "retraction")

    def clone(self) -> "InlineAgent":
        """Another one like it. Raises Misuse when `on_cloning` fails, or the state cannot be captured."""
        return InlineAgent(self._inline, self._inline.wait(self._inline.guests.clone(self.id)))

    def deactivate(self, for_: float | None = None) -> None:
        """Sets the agent aside. It is activated by `activate`, a message, or `Inline.advance` by as many seconds."""
        self._inline.wait(self._inline.guests.deactivate(self.id, for_))

    def activate(self) -> None:
        self._inline.wait(self._inline.guests.activate(self.id))

    @property
    def asleep(self) -> bool:
        """Whether it is deactivated."""
        return self._inline.guests.guest(self.id).asleep

    def snapshot(self) -> bytes:
        """Its state, as a checkpoint keeps it. Raises Misuse when it cannot be captured."""
        return self._inline.wait(self._inline.guests.snapshot(self.id))

    def dispose(self) -> None:
        """Ends the agent, after `on_disposing`."""
        self._inline.wait(self._inline.guests.dispose(self.id))

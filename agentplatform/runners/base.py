"""The contract of a runner: it gives agents a place to run, and never lets the daemon unpickle (law 1).

The daemon calls a Runner; what agents do on their own comes back through Upcalls. All that is named `state`
and `code` is opaque to the daemon; a large state is a file in its spool. Everything runs on the daemon's event loop; no
call blocks it.
"""

from typing import Protocol

from agentplatform.dataorders import DataOrder
from agentplatform.lifecycle import Event
from agentplatform.messages import Answer, Arrival, Checkpoint, Custody, Delivery, Move, News, Outgoing
from agentplatform.parcel.freight import Stowed
from agentplatform.parcel.manifest import Birth
from agentplatform.ticket import Ticket


class Runner(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def create(self, birth: Birth, code: bytes, init: bytes, arrival: Arrival) -> None:
        """Imports the class, makes the instance, calls `on_creation(init)`, then starts `run`.

        Raises Misuse, with the agent's own words, when any of that fails, and Unavailable when there is no room for one
        more agent, or no answer in time; then nothing is left of it. Its upcalls
        are held back until this has returned and the caller has had its turn, so that it is known by then.
        """

    async def open(self, birth: Birth, code: bytes, state: Stowed) -> None:
        """Makes the agent from its captured state, inert: no hook runs. Raises Misuse naming the difference
        (a missing module, another Python, a broken state), and Unavailable as `create` does."""

    def activate(self, agent: str, arrival: Arrival, beginning: Event = Event.ARRIVE) -> None:
        """An opened agent begins to live: the hook of this beginning (agentplatform.lifecycle), then `run`, then its
        deliveries."""

    async def capture(self, agent: str, move: Move) -> Stowed:
        """Stops the agent at a message boundary, asks `may_move`, calls `on_dispatching`, and returns its state.

        The agent stays frozen until `thaw` or `discard`, and forgets the deliveries that it has not answered: they
        are delivered again after `thaw`, or where it goes on. Raises Misuse when it refuses, a hook fails or the state
        cannot be pickled, naming the attribute, and Unavailable when no boundary comes in time; the agent then goes on
        by itself, with `on_move_failed` if a hook failed, and keeps its deliveries.
        """

    async def deactivate(self, agent: str) -> float | None:
        """Stops the agent at a message boundary, calls `on_deactivating`, and has it tell a checkpoint of how it is
        then (Upcalls.checkpointed). Returns the seconds until it has something to do, if it knows of anything. It stays
        frozen as after `capture`. Raises as `capture` does."""

    async def clone(self, agent: str) -> None:
        """Calls `on_cloning` at a message boundary, and has the agent tell a checkpoint of how it is then. It goes on.
        Raises as `capture` does."""

    async def snapshot(self, agent: str) -> None:
        """Has the agent tell a checkpoint at the next message boundary, if it is not as at the last one. Raises as
        `capture` does."""

    async def data(self, agent: str, order: DataOrder) -> bytes:
        """Performs the order on what the agent keeps, at the next message boundary, and has it tell a checkpoint when
        that has changed. Returns what came of it as MessagePack of plain data. Raises as `capture` does."""

    def tell(self, agent: str, hook: News, word: str) -> None:
        """Calls a hook of a running agent at its next message boundary."""

    def thaw(self, agent: str, failure: str | None, arrival: Arrival | None = None) -> None:
        """A frozen agent goes on, or an opened one, which learns from `arrival` where it is; with a failure,
        `on_move_failed(failure)` is called first."""

    def discard(self, agent: str) -> None:
        """Ends an agent without a hook: an opened or frozen one, or one that runs and that the ledger gave to another
        host. For one that is gone already it does nothing."""

    async def dispose(self, agent: str) -> None:
        """Stops the agent at a message boundary, calls `on_disposing`, and ends it."""

    def deliver(self, agent: str, delivery: Delivery) -> None: ...

    def answer(self, agent: str, call: int, answer: Answer) -> None:
        """The answer to a call that the agent made."""

    def lease(self, until: float | None) -> None:
        """Agents in held custody may run until then, by CLOCK_BOOTTIME, and stop by themselves unless they are told a
        later time before; None: there is no lease. One that is activated or thawed without a lease begins when there is
        one, and never if it was discarded before."""


class Upcalls(Protocol):
    """What a runner tells the daemon; none of these may block."""

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        """The agent called `dispatch`; it is frozen and captured already (saves a round trip to the worker)."""

    def books(self, agent: str, ticket: Ticket) -> None:
        """The agent called `dispatch` with terms. It goes on until it is captured."""

    def wants_to_sleep(self, agent: str, seconds: float | None) -> None:
        """The agent called `deactivate`; it is frozen, and the checkpoint of how it is now was told. It is to be
        activated in so many seconds."""

    def wants_clone(self, agent: str) -> None:
        """The agent called `clone`; the checkpoint that the clone is made from was told. It goes on."""

    def wants_custody(self, agent: str, custody: Custody, consent: bytes) -> None:
        """The agent called `change_custody`. It goes on until it is captured."""

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        """At a message boundary: what the agent handled and sent, to be kept together with its state."""

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        """What does not wait for a checkpoint: a call from a handler, or all, as the agent chose."""

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        """A delivery was handled, and the answer does not wait for a checkpoint."""

    def printed(self, agent: str, stream: str, text: str) -> None:
        """Output or a traceback, for the owner's eyes (`agentplatform logs AGENT`). `stream`: out | err | note."""

    def died(self, agent: str, reason: str) -> None:
        """The worker ended unasked; the agent is gone from it."""

    def wants_to_end(self, agent: str) -> None:
        """The agent called `dispose` on itself; `on_disposing` has run."""

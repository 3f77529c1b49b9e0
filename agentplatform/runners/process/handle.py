"""The daemon's handle of one worker: sends it frames, takes its replies, lets through only what its agents may say."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import NamedTuple, cast

from agentplatform.lifecycle import State
from agentplatform.runners.process import wire
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable

MAX_UNREAD_BYTES = 2 * wire.MAX_FRAME_BYTES  # a worker that lets more than this wait does not read any more


class Held:
    """One agent of a worker, as the daemon knows it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.tickets: set[int] = set()  # deliveries that were not answered yet
        self.early: list[wire.Up] | None = None  # what it did before the daemon knows that it was created

    def enter(self, state: State) -> None:
        self.state = state
        if state is State.FROZEN:
            self.tickets.clear()  # what it has not answered is delivered anew


class _Ask(NamedTuple):
    agent: str
    after: State
    reply: asyncio.Future[bytes]


class Handle(asyncio.Protocol):
    def __init__(
        self, said: Callable[["Handle", Held, wire.Up], None], broken: Callable[["Handle", str | None], None]
    ) -> None:
        """`said`: a frame of an agent that this worker holds. `broken`: this worker is of no more use, with the rule
        that it broke, or None when its connection ended."""
        self.pid = 0
        self.jail = ""
        self.blame: str | None = None  # the rule that it broke
        self.idle: asyncio.TimerHandle | None = None  # of a shared worker without agents
        self.agents: dict[str, Held] = {}
        self.key: tuple[bytes, bytes] | None = None  # (owner, code) of a worker for light agents
        self.has_code = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said, self._broken = said, broken
        self._reader = wire.up_reader()
        self._asks: dict[int, _Ask] = {}
        self._numbers = itertools.count(1)

    async def connect(self) -> socket.socket:
        """Makes the socketpair. Returns the worker's end."""
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self, ours)
        return theirs

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one by its methods alone

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except PeerFault as error:
            self._transport.abort()
            self._broken(self, str(error))

    def connection_lost(self, error: Exception | None) -> None:
        self._broken(self, None)  # how its process ended says more

    def tell(self, frame: wire.Down) -> None:
        self._transport.write(wire.encode(frame))
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._transport.abort()
            self._broken(self, "its worker does not read any more")

    async def ask(self, agent: str, make: Callable[[int], wire.Down], seconds: float, after: State) -> bytes:
        """Sends the frame that `make` returns for a number, and waits for the reply under that number; then the
        agent is in the state `after`.

        Raises Misuse or Unavailable with the worker's words, Unavailable when there is no reply within `seconds`.
        """
        number = next(self._numbers)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asks[number] = _Ask(agent, after, reply)
        frame = make(number)
        try:
            self.tell(frame)
            async with asyncio.timeout(seconds):
                return await reply
        except TimeoutError:
            what = type(frame).__name__.lower()
            raise Unavailable(f"{agent}: {what} took longer than {seconds:g} s", retry_after=seconds) from None
        finally:
            if reply.done() and not reply.cancelled():
                del self._asks[number]
            else:
                reply.cancel()  # the reply may still come; see _settle

    def fail(self, reason: str) -> None:
        """The worker has ended: whoever waits for it hears so."""
        for ask in self._asks.values():
            if not ask.reply.done():
                ask.reply.set_exception(Unavailable(f"{ask.agent}: {reason}", retry_after=0.0))
        if not self.ready.done():
            self.ready.set_exception(Unavailable(reason, retry_after=1.0))
            self.ready.exception()  # whoever waited for it may have gone
        self._transport.abort()

    def _take(self, frame: wire.Up) -> None:
        match frame:
            case wire.Ready():
                self.jail = frame.jail
                if not self.ready.done():
                    self.ready.set_result(None)
            case wire.Done():
                self._settle(frame.ask, frame.state, None)
            case wire.Refused():
                self._settle(frame.ask, b"", Unavailable(frame.reason) if frame.later else Misuse(frame.reason))
            case _:
                held = self.agents.get(frame.agent)
                if held is not None and _may(held, frame):
                    self._said(self, held, frame)  # else a late frame, or a lie

    def _settle(self, number: int, state: bytes, error: PlatformError | None) -> None:
        ask = self._asks.get(number)
        if ask is None or (ask.reply.done() and not ask.reply.cancelled()):
            return
        held = self.agents.get(ask.agent)
        if error is None and held is not None:
            # Here, not where the reply is awaited: the frames behind this one are judged by the new state.
            held.enter(ask.after)
        if ask.reply.cancelled():
            del self._asks[number]
            if held is not None and held.state is State.FROZEN:  # a capture that nobody waits for any more
                held.enter(State.RUNNING)
                self.tell(wire.Thaw(ask.agent, "the host had stopped waiting for it"))
        elif error is None:
            ask.reply.set_result(state)
        else:
            ask.reply.set_exception(error)


def _may(held: Held, frame: wire.Up) -> bool:
    """Whether an agent in this state may say that: an inert or frozen copy nothing, and one answer to a delivery."""
    match frame:
        case wire.Printed():
            return True
        case wire.Sent():
            return held.state in (State.CREATING, State.RUNNING, State.FREEZING, State.DISPOSING)
        case wire.Handled():
            if held.state not in (State.RUNNING, State.FREEZING, State.DISPOSING) or frame.ticket not in held.tickets:
                return False
            held.tickets.discard(frame.ticket)
            return True
        case wire.WantsToGo() | wire.WantsToEnd():
            return held.state in (State.RUNNING, State.FREEZING)
    return False

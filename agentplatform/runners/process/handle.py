"""The daemon's handle of one worker: sends it frames, takes its replies, lets through only what its agents may say."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import Any

from agentplatform.lifecycle import State
from agentplatform.runners.process import wire
from ledger.errors import Misuse, PeerFault, Unavailable

MAX_UNREAD_BYTES = 2 * wire.MAX_FRAME_BYTES  # a worker that lets more than this wait does not read any more


class Held:
    """One agent of a worker, as the daemon knows it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.tickets: set[int] = set()  # deliveries that were not answered yet


class Handle(asyncio.Protocol):
    def __init__(self, said: Callable[["Handle", wire.Up], None], broken: Callable[["Handle", str], None]) -> None:
        """`said`: a frame of an agent that this worker holds. `broken`: the worker is of no more use, for the reason given."""
        self.pid = 0
        self.jail = ""
        self.agents: dict[str, Held] = {}
        self.key: tuple[bytes, bytes] | None = None  # (owner, code) of a worker for light agents
        self.has_code = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said, self._broken = said, broken
        self._reader = wire.up_reader()
        self._asks: dict[int, asyncio.Future[bytes]] = {}
        self._given_up: dict[int, str] = {}  # captures that nobody waits for: the agent must not stay frozen
        self._numbers = itertools.count(1)

    async def connect(self) -> socket.socket:
        """Makes the socketpair. Returns the worker's end."""
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self, ours)
        return theirs

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except PeerFault as error:
            self._transport.abort()
            self._broken(self, str(error))

    def connection_lost(self, error: Exception | None) -> None:
        self._broken(self, "its worker closed the connection")

    def tell(self, frame: wire.Down) -> None:
        self._transport.write(wire.encode(frame))
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._transport.abort()
            self._broken(self, "its worker does not read any more")

    async def ask(self, make: Callable[[int], wire.Down], seconds: float, what: str) -> bytes:
        """Sends the frame that `make` returns for a number, and waits for the reply under that number.

        Raises Misuse with the worker's words, Unavailable when there is no reply within `seconds`.
        """
        number = next(self._numbers)
        frame = make(number)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asks[number] = reply
        self.tell(frame)
        try:
            async with asyncio.timeout(seconds):
                return await reply
        except TimeoutError:
            raise Unavailable(f"{what} took longer than {seconds:g} s", retry_after=seconds) from None
        finally:
            del self._asks[number]
            if not reply.done() or reply.cancelled():
                if isinstance(frame, wire.Capture):
                    self._given_up[number] = frame.agent

    def fail(self, reason: str) -> None:
        """The worker has ended: whoever waits for it hears so."""
        for future in (*self._asks.values(), self.ready):
            if not future.done():
                future.set_exception(Unavailable(reason, retry_after=0.0))
                future.exception()
        self._transport.abort()

    def _take(self, frame: wire.Up) -> None:
        match frame:
            case wire.Ready():
                self.jail = frame.jail
                if not self.ready.done():
                    self.ready.set_result(None)
            case wire.Done():
                if frame.ask in self._given_up:
                    self.tell(wire.Thaw(self._given_up.pop(frame.ask), "the host had stopped waiting for it"))
                self._settle(frame.ask, frame.state)
            case wire.Refused():
                self._given_up.pop(frame.ask, None)
                self._settle(frame.ask, Unavailable(frame.reason) if frame.later else Misuse(frame.reason))
            case _:
                held = self.agents.get(frame.agent)
                if held is not None and _may(held, frame):
                    self._said(self, frame)  # else a late frame, or a lie

    def _settle(self, ask: int, result: Any) -> None:
        reply = self._asks.get(ask)
        if reply is None or reply.done():
            return
        if isinstance(result, bytes):
            reply.set_result(result)
        else:
            reply.set_exception(result)


def _may(held: Held, frame: wire.Up) -> bool:
    """Whether an agent in this state may say that. An inert or frozen copy says nothing; each delivery has one answer."""
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

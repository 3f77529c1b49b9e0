"""Large states go past the daemon: it lends a worker a file of the spool, to write one or to open one."""

import asyncio
import os

from agentplatform.lifecycle import State
from agentplatform.parcel.freight import MAX_FREIGHT_BYTES, MAX_INLINE_BYTES, Freight, Spooled, Stowed
from agentplatform.parcel.spool import Spool
from agentplatform.runners.place import MAX_STATE_BYTES, not_held
from agentplatform.runners.process import wire
from agentplatform.runners.process.handle import Handle, Held
from ledger.errors import PeerFault, Unavailable


class Lender:
    """A file that is lent to be written is the worker's until the state is told of; then it is whose state that is."""

    def __init__(self, spool: Spool, most: int) -> None:
        """`most`: bytes that one worker is lent at a time."""
        self._spool, self._most = spool, most
        self._making: dict[Held, asyncio.Task[None]] = {}

    def lend_state(self, handle: Handle, state: Stowed) -> bytes:
        """To be opened; returns the key that it is sealed with. Nothing for one that is no file. Raises Unavailable
        when it cannot be read."""
        return self._lend(handle, state.file, write=False) if isinstance(state, Spooled) else b""

    def start_lending(self, handle: Handle, held: Held, frame: wire.NeedsFile) -> None:
        """A new file, for the state of that agent. Raises PeerFault for a request that no honest worker makes."""
        if held in self._making or not MAX_INLINE_BYTES < frame.size <= MAX_FREIGHT_BYTES:
            raise PeerFault("worker", f"asked for a file of {frame.size} bytes, or for two at once")
        self.take_back(held)
        if handle.leased and frame.size > MAX_STATE_BYTES:
            handle.tell(wire.Lent(frame.agent, not_held(frame.size)))
            return
        if handle.lent + frame.size > self._most:
            reason = f"its host lends one worker {self._most} bytes at a time (host.toml: [workers] lent)"
            handle.tell(wire.Lent(frame.agent, f"a state of {frame.size} bytes is too large here: {reason}"))
            return
        held.lent = frame.size
        making = asyncio.get_running_loop().create_task(self._make(handle, held, frame))
        self._making[held] = making
        making.add_done_callback(lambda done: self._making.pop(held))

    def redeem(self, held: Held, state: bytes | Freight) -> Stowed:
        """What a worker says that it captured. Raises PeerFault when it was not lent a file for that."""
        if isinstance(state, Freight):
            return self.redeem_file(held, state)
        self.take_back(held)
        return state

    def redeem_file(self, held: Held, state: Freight) -> Spooled:
        name, held.file, held.lent = held.file, None, 0
        if name is None or self._spool.size(name) != state.size:
            if name is not None:
                self._spool.remove(name)
            raise PeerFault("worker", f"told of a state of {state.size} bytes, for which it was lent no file")
        return Spooled(state, name)

    def take_back(self, held: Held) -> None:
        """What it was lent last, if that is its still."""
        name, held.file, held.lent = held.file, None, 0
        if name is not None:
            self._spool.remove(name)

    async def _make(self, handle: Handle, held: Held, frame: wire.NeedsFile) -> None:
        try:
            name = await self._spool.create(frame.size)
        except Unavailable as error:
            held.lent = 0
            handle.tell(wire.Lent(frame.agent, str(error)))
            return
        if handle.agents.get(frame.agent) is not held or held.state not in (State.CREATING, State.RUNNING):
            self._spool.remove(name)  # it ended meanwhile, or is a liar
            held.lent = 0
            return
        held.file = name
        try:
            key = self._lend(handle, name, write=True)
        except Unavailable as error:
            handle.tell(wire.Lent(frame.agent, str(error)))
        else:
            handle.tell(wire.Lent(frame.agent, None, key))

    def _lend(self, handle: Handle, name: str, *, write: bool) -> bytes:
        key = self._spool.key(name)
        descriptor = self._spool.descriptor(name, write=write)
        try:
            handle.lend(descriptor)
        finally:
            os.close(descriptor)
        return key

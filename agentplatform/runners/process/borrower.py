"""The worker's side of what its daemon lends (lender.py): files that large states are written to and opened from."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from agentplatform.parcel import state as states
from agentplatform.parcel.freight import MAX_FREIGHT_BYTES, MAX_INLINE_BYTES, Freight, Spooled, Stowed
from agentplatform.runners.process import wire
from ledger.errors import Misuse, Unavailable


class Borrower:
    """Implements agentplatform.runners.stowage.Stowage."""

    def __init__(self, files: socket.socket, tell: Callable[[wire.Up], None]) -> None:
        """`files`: where descriptors come, each before the frame that speaks of it."""
        self._files, self._tell = files, tell
        self._lent: dict[str, asyncio.Future[tuple[int, bytes]]] = {}  # agents that wait for a file and its key

    async def pack(self, agent: str, parts: Sequence[states.Part]) -> Stowed:
        """The state itself when it is small; else it is written to a file that the daemon lends."""
        if states.size(parts) <= MAX_INLINE_BYTES:
            return states.join(parts)
        parts = states.for_file(parts)
        size = states.size(parts)
        if size > MAX_FREIGHT_BYTES:
            raise Misuse(f"its state has {size} bytes; at most {MAX_FREIGHT_BYTES} travel")
        file, key = await self._borrow(agent, size)
        try:
            return Spooled(await asyncio.to_thread(states.write, parts, file, key), "")
        except OSError as error:
            raise Unavailable(f"its state could not be written to the disk: {error.strerror or error}") from error
        finally:
            os.close(file)

    async def borrow(self, agent: str, size: int) -> int:
        file, key = await self._borrow(agent, size)
        assert not key  # so large a file is not sealed (parcel.spool.MAX_SEALED_BYTES)
        return file

    async def _borrow(self, agent: str, size: int) -> tuple[int, bytes]:
        lent = self._lent[agent] = asyncio.get_running_loop().create_future()
        self._tell(wire.NeedsFile(agent, size))
        return await lent

    def lent(self, frame: wire.Lent) -> None:
        """The daemon's answer to NeedsFile."""
        file = self._receive() if frame.refusal is None else -1
        lent = self._lent.pop(frame.agent, None)
        if lent is None or lent.done():
            if file >= 0:
                os.close(file)
        elif frame.refusal is None:
            lent.set_result((file, frame.key))
        else:
            lent.set_exception(Unavailable(frame.refusal))

    def opened(self, freight: Freight, key: bytes) -> memoryview:
        """The file that was lent to be opened."""
        file = self._receive()
        try:
            return states.opened(file, freight.size, key) if key else states.mapped(file, freight.size)
        finally:
            os.close(file)

    def _receive(self) -> int:
        _, (file,), _, _ = socket.recv_fds(self._files, 1, 1)
        return file

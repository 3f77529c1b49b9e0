"""The source's side of a large state on its way: sends the pieces that the destination asks for."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from agentplatform.custody.pieces import WINDOW, Fetch, Piece
from agentplatform.parcel.freight import Spooled
from agentplatform.parcel.spool import Spool
from ledger import codec
from ledger.errors import PeerFault, Unavailable

RETRY_SECONDS = 0.05  # when too much waits for that link


class _Load(msgspec.Struct, eq=False):
    """One large state on offer."""

    to: str
    state: Spooled
    wanted: deque[int] = msgspec.field(default_factory=deque)
    serving: asyncio.Task[None] | None = None


class Supply:
    def __init__(
        self,
        spool: Spool,
        stream: Callable[[str, bytes], bool],
        alive: Callable[[bytes], None],
        failed: Callable[[bytes, str], None],
    ) -> None:
        """`alive(transfer)`: the destination is at work. `failed(transfer, reason)`: a piece cannot be read."""
        self._spool, self._stream, self._alive, self._failed = spool, stream, alive, failed
        self._loads: dict[bytes, dict[str, _Load]] = {}  # by transfer, by agent

    def offer(self, transfer: bytes, to: str, states: Mapping[str, Spooled]) -> None:
        if states:
            self._loads[transfer] = {agent: _Load(to, state) for agent, state in states.items()}

    def has(self, transfer: bytes) -> bool:
        return transfer in self._loads

    def withdraw(self, transfer: bytes) -> None:
        """Nobody may have it any more, or nobody needs it."""
        for load in self._loads.pop(transfer, {}).values():
            self._forget(load)

    def lost(self, host: str) -> None:
        """The link to it is down: it will say what it misses when it is back."""
        for loads in self._loads.values():
            for load in loads.values():
                if load.to == host:
                    self._forget(load)

    def receive(self, host: str, fetch: Fetch) -> None:
        """Raises PeerFault for what a destination must not ask. Of an offer that is off, it does nothing."""
        loads = self._loads.get(fetch.transfer, {})
        load = loads.get(fetch.agent)
        if load is None or load.to != host:
            raise PeerFault(host, f"asked for a state of {fetch.agent} that was not offered to it")
        numbers = range(fetch.first, fetch.first + fetch.count)
        if fetch.count < 0 or fetch.first < 0 or numbers.stop > load.state.freight.count:
            raise PeerFault(host, f"asked for pieces of {fetch.agent} that there are not")
        if len(load.wanted) + fetch.count > WINDOW:
            raise PeerFault(host, f"asked for more than {WINDOW} pieces of {fetch.agent} at a time")
        self._alive(fetch.transfer)
        load.wanted.extend(numbers)
        if load.serving is None and load.wanted:
            load.serving = asyncio.get_running_loop().create_task(self._serve(fetch.transfer, fetch.agent, load))

    async def _serve(self, transfer: bytes, agent: str, load: _Load) -> None:
        while load.wanted:
            number = load.wanted.popleft()
            try:
                body = await self._spool.get(load.state.file, load.state.freight, number)
            except Unavailable as error:
                load.serving = None
                self._failed(transfer, str(error))
                return
            piece = codec.encode(Piece(transfer, agent, number, body))
            while not self._stream(load.to, piece):  # noqa: ASYNC110  links tell of no such moment
                await asyncio.sleep(RETRY_SECONDS)
        load.serving = None

    def _forget(self, load: _Load) -> None:
        load.wanted.clear()
        if load.serving is not None:
            load.serving.cancel()
            load.serving = None

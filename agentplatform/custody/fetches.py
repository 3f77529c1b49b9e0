"""The destination's side of a large state on its way: asks for its pieces, verifies them, writes them to the spool.

How many it asks for ahead follows from how long they take: when they take longer than the quickest by more than
QUEUE_SECONDS, they wait somewhere, in a queue that mail and votes wait in too, and it asks for fewer. (After LEDBAT:
S. Shalunov and others, RFC 6817, 2012.)
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from agentplatform.custody.pieces import SLOWEST, WINDOW, Fetch, Piece
from agentplatform.parcel.freight import PIECE_BYTES, Freight, Spooled
from agentplatform.parcel.spool import Spool
from ledger import codec
from ledger.errors import PeerFault, PlatformError, Unavailable

Key = tuple[bytes, str]  # transfer and agent
QUEUE_SECONDS = 0.02  # by which pieces may hold up what comes behind them


class _Haul(msgspec.Struct, eq=False):
    """One large state that comes."""

    source: str
    freight: Freight
    arrived: "asyncio.Future[None]"
    heard: float  # when a piece came last, by the loop's clock
    latest: float = math.inf  # by then all of it must be here
    file: str = ""
    next: int = 0  # the first piece that was not asked for yet
    asked: dict[int, float] = msgspec.field(default_factory=dict)  # and not stored yet; when
    window: int = 1  # pieces that may be asked for, and not be stored yet
    quickest: float = math.inf  # seconds from the request of a piece to its arrival
    storing: set[int] = msgspec.field(default_factory=set)
    unsaid: bool = False  # a request did not leave


class Fetches:
    def __init__(
        self,
        spool: Spool,
        stream: Callable[[str, bytes], bool],
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`patience`: seconds that it waits for the next piece."""
        self.clock = clock
        self._spool, self._stream, self._patience = spool, stream, patience
        self._hauls: dict[Key, _Haul] = {}
        self._turns: dict[str, asyncio.Lock] = {}  # by source: one state at a time has the window
        self._tasks: set[asyncio.Task[None]] = set()

    async def fetch(self, source: str, transfer: bytes, agent: str, freight: Freight) -> Spooled:
        """Brings a state into the spool; `finish` is to be called when it was opened.

        Raises Unavailable when there is no room, or nothing comes; PeerFault for a piece that is not what was signed.
        Then nothing is left of it.
        """
        haul = _Haul(source, freight, asyncio.get_running_loop().create_future(), self.clock())
        self._hauls[transfer, agent] = haul
        try:
            async with self._turns.setdefault(source, asyncio.Lock()):
                if not haul.arrived.done():
                    haul.file = await self._spool.create(freight.size)
                haul.heard = self.clock()
                haul.latest = haul.heard + self._patience + freight.size / SLOWEST
                self._ask_more((transfer, agent), haul)
                await haul.arrived
        except BaseException:
            self._hauls.pop((transfer, agent), None)
            if haul.file:
                self._spool.remove(haul.file)
            raise
        return Spooled(freight, haul.file)

    def receive(self, host: str, piece: Piece) -> None:
        """Raises PeerFault for what nobody asked that host for."""
        key = piece.transfer, piece.agent
        haul = self._hauls.get(key)
        if haul is None:
            return  # it was called off meanwhile
        if haul.source != host or len(piece.body) > PIECE_BYTES:
            raise PeerFault(host, f"sent a piece of {piece.agent} that it was not asked for")
        if piece.number not in haul.asked or piece.number in haul.storing or haul.arrived.done():
            return  # it was asked for twice: a link broke in between
        haul.heard = self.clock()
        _pace(haul, haul.heard - haul.asked[piece.number])
        haul.storing.add(piece.number)
        task = asyncio.get_running_loop().create_task(self._store(key, haul, piece))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self, transfer: bytes, reason: str) -> None:
        """The handoff is off."""
        for _, haul in self._of(transfer):
            _fail(haul, Unavailable(reason))

    def finish(self, transfer: bytes) -> None:
        """All states of the transfer are here and opened, or it failed."""
        for key, _ in list(self._of(transfer)):
            del self._hauls[key]

    def linked(self, host: str) -> None:
        """A new link to it: what was asked for over the old one is lost."""
        for key, haul in self._hauls.items():
            if haul.source == host:
                self._ask(key, haul, haul.asked.keys() - haul.storing)

    def remind(self) -> None:
        """From time to time: tells the sources that all is well, and gives up what does not come."""
        now = self.clock()
        for key, haul in list(self._hauls.items()):
            if haul.asked and not haul.storing and now - haul.heard > self._patience:
                _fail(haul, Unavailable(f"{haul.source} sent nothing of {key[1]} for {self._patience:g} s"))
            elif haul.asked and now > haul.latest:
                _fail(haul, Unavailable(f"{haul.source} sent {key[1]} more slowly than {SLOWEST} bytes a second"))
            elif haul.unsaid:
                self._ask(key, haul, haul.asked.keys() - haul.storing)
            else:
                self._stream(haul.source, codec.encode(Fetch(*key, 0, 0)))

    async def _store(self, key: Key, haul: _Haul, piece: Piece) -> None:
        try:
            good = await self._spool.put(haul.file, haul.freight, piece.number, piece.body)
        except PlatformError as error:
            _fail(haul, error)
            return
        if not good:
            _fail(haul, PeerFault(haul.source, f"sent piece {piece.number} of {key[1]}, which is not what it signed"))
            return
        del haul.asked[piece.number]
        haul.storing.discard(piece.number)
        self._ask_more(key, haul)

    def _ask_more(self, key: Key, haul: _Haul) -> None:
        if haul.arrived.done():
            return
        upto = min(haul.freight.count, haul.next + haul.window - len(haul.asked))
        new = range(haul.next, upto)
        haul.next = max(upto, haul.next)
        if new:
            self._ask(key, haul, new)
        elif not haul.asked:
            haul.arrived.set_result(None)

    def _ask(self, key: Key, haul: _Haul, numbers: Collection[int]) -> None:
        haul.asked |= dict.fromkeys(numbers, self.clock())
        # Once one did not leave, all are asked for again when it can.
        haul.unsaid = not all(
            [self._stream(haul.source, codec.encode(Fetch(*key, run.start, len(run)))) for run in _runs(numbers)]
        )

    def _of(self, transfer: bytes) -> Iterator[tuple[Key, _Haul]]:
        return ((key, haul) for key, haul in self._hauls.items() if key[0] == transfer)


def _pace(haul: _Haul, took: float) -> None:
    haul.quickest = min(haul.quickest, took)
    haul.window += 1 if took - haul.quickest <= QUEUE_SECONDS else -1
    haul.window = max(1, min(haul.window, WINDOW))


def _fail(haul: _Haul, error: PlatformError) -> None:
    if not haul.arrived.done():
        haul.arrived.set_exception(error)
        haul.arrived.exception()  # it may not be waited for yet, or any more


def _runs(numbers: Iterable[int]) -> Iterator[range]:
    """The same numbers, as ranges that are as long as can be."""
    run = range(0)
    for number in sorted(numbers):
        if run and number == run.stop:
            run = range(run.start, number + 1)
            continue
        if run:
            yield run
        run = range(number, number + 1)
    if run:
        yield run

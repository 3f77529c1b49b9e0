"""The edge of catching up by a snapshot: asks peers for a decided state, piece by piece, and serves it to them.

A replica that is further behind than `behind` blocks need not run them all: it takes the state at a height that the
members decided (ledger.snapshot), and goes on by blocks from there. Every piece is checked and durable when it comes,
so that nothing is fetched twice, after a restart neither. The engine catches up by blocks all the while; whichever
is there first counts. In memory there is one piece at a time, until the whole state is loaded.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from ledger import snapshot
from ledger.chain import Chain, Snapshot
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable
from ledger.genesis import Genesis
from ledger.light import LightClient
from ledger.proof import StateProof
from ledger.rates import Rates
from ledger.snapshot import EMPTY, PIECES, Ask, Buckets, Offer, Piece, Want
from ledger.store import Store

log = logging.getLogger(__name__)
BEHIND = 2_000  # blocks; fewer are caught up with one by one
ASK_EVERY = 30.0  # seconds
PATIENCE = 10.0  # seconds for one piece
KEPT = 120.0  # seconds that a copy of the state is kept for who asks for pieces of it, since it last did
MAX_OFFERS = 4  # considered at a time
SERVED_PER_SECOND = 16 * 1024 * 1024  # bytes to one peer

Adopt = Callable[[Snapshot, tuple[StateProof, ...]], Coroutine[Any, Any, None]]


class StateTransfer:
    def __init__(
        self,
        host: str,
        genesis: Genesis,
        store: Store,
        chain: Callable[[], Chain],
        send: Callable[[str, bytes], None],
        peers: Callable[[], Iterable[str]],
        blame: Callable[[PeerFault], None],
        adopt: Adopt,
        clock: Callable[[], float],
        behind: int = BEHIND,
    ) -> None:
        """`peers` have a link. `adopt` makes a verified state the replica's own, `blame` hears of those that lied."""
        self._host, self._genesis, self._store, self._behind = host, genesis, store, behind
        self._chain, self._send, self._peers, self._blame, self._adopt = chain, send, peers, blame, adopt
        self._clock = clock
        self._served = Rates(clock, SERVED_PER_SECOND, 4 * SERVED_PER_SECOND)
        self._offers: dict[str, Offer] = {}  # verified, of those that may be asked
        self._answer: tuple[str, int, int, asyncio.Future[Buckets | None]] | None = None  # sender, height, piece
        self._copy: _Copy | None = None
        self.told: dict[str, int] = {}  # host -> its height, by its own word
        self._asked: set[str] = set()  # from whom we await an offer
        self._awaited: set[str] = set()  # who awaits one that is being made
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching = False
        self._drop_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Until cancelled: asks again now and then, since a replica can fall behind with all its links up."""
        while True:
            await asyncio.sleep(ASK_EVERY)
            for host in self._peers():
                self.ask(host)

    def ask(self, host: str) -> None:
        """Tells a peer our height; one that is far above it makes an offer."""
        self._asked.add(host)
        self._send(host, snapshot.encode(Ask(self._height)))

    def receive(self, sender: str, raw: bytes) -> None:
        """Raises PeerFault for what must not be sent."""
        match snapshot.decode(raw, sender):
            case Ask(height=height):
                self.told[sender] = height
                if self._height - height > self._behind and sender not in self._awaited:
                    self._awaited.add(sender)
                    self.start(self._make_offer(sender, height))
            case Want() as want:
                self._serve(sender, want)
            case Offer() as offer:  # one for each question: much work goes into checking it
                asked = sender in self._asked
                self._asked.discard(sender)
                if asked and self._is_useful(offer) and (sender in self._offers or len(self._offers) < MAX_OFFERS):
                    self.start(self._consider(sender, offer))
            case Piece() as piece:
                self._arrived(sender, piece)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._copy = None
        if self._drop_timer is not None:
            self._drop_timer.cancel()

    @property
    def _height(self) -> int:
        return self._chain().best.header.height

    def _is_useful(self, offer: Offer) -> bool:
        return offer.height - self._height > self._behind

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """As a task that `stop` ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):  # of the disk: the replica hears of it by itself
            log.error("%s: the exchange of states with a peer has ended: %s", self._host, error)

    # Asking

    async def _consider(self, sender: str, offer: Offer) -> None:
        client = LightClient(self._genesis)
        try:
            for change in await self._store.changes():
                client.follow(change)
            offer.check(sender, client)
        except PeerFault as fault:
            self._blame(fault)
            return
        self._offers[sender] = offer
        if not self._fetching:
            self._fetching = True
            try:
                await self._fetch()
            finally:
                self._fetching = False
                self._offers.clear()

    async def _fetch(self) -> None:
        """Tries the offers one after the other, until the pieces of one are all here."""
        while self._offers:
            sender, offer = next(iter(self._offers.items()))
            if self._is_useful(offer):
                try:
                    await self._fetch_from(sender, offer)
                    return
                except PeerFault as fault:
                    self._blame(fault)
                except Unavailable as reason:
                    log.info("%s: the state of height %d: %s", self._host, offer.height, reason)
                except Misuse as damage:  # what is on the disk is not what was written
                    log.error("%s: the state of height %d: %s", self._host, offer.height, damage)
                    await self._store.drop_pieces(range(PIECES))
            del self._offers[sender]

    async def _fetch_from(self, sender: str, offer: Offer) -> None:
        here = await self._store.arrived()
        useless = [piece for piece, digest in here.items() if offer.nodes[piece] != digest]
        await self._store.drop_pieces(useless)
        for piece, digest in enumerate(offer.nodes):
            if digest not in (EMPTY, here.get(piece)):
                buckets = await self._request(sender, offer.height, piece)
                snapshot.check_piece(buckets, piece, digest, sender)
                await self._store.keep_piece(piece, digest, buckets)
            if not self._is_useful(offer):
                raise Unavailable("blocks were faster")
        await self._adopt(Snapshot(await self._store.arrived_state(), offer.block, offer.certificate), offer.changes)

    async def _request(self, sender: str, height: int, piece: int) -> Buckets:
        answer: asyncio.Future[Buckets | None] = asyncio.get_running_loop().create_future()
        self._answer = (sender, height, piece, answer)
        try:
            self._send(sender, snapshot.encode(Want(height, piece)))
            async with asyncio.timeout(PATIENCE):
                buckets = await answer
        except TimeoutError:
            raise Unavailable(f"{sender} does not answer") from None
        finally:
            self._answer = None
        if buckets is None:
            raise Unavailable(f"{sender} does not keep it any more")
        return buckets

    def _arrived(self, sender: str, piece: Piece) -> None:
        if self._answer is not None and self._answer[:3] == (sender, piece.height, piece.piece):
            answer = self._answer[3]
            if not answer.done():
                answer.set_result(piece.buckets)

    # Serving

    async def _make_offer(self, sender: str, height: int) -> None:
        """At most one copy of the state is kept; a new one is made when nobody uses it, or it is old."""
        try:
            copy = self._copy
            if copy is None or self._is_outdated(copy):
                copy = self._copy = _Copy(self._chain(), self._clock())
                self._drop_later()
            changes = await self._store.changes()
            new = tuple(change for change in changes if height < change.header.height <= copy.height)
            raw = snapshot.encode(Offer(copy.taken.block, copy.taken.certificate, copy.nodes, new))
            if self._served.allow(sender, len(raw)):
                self._send(sender, raw)
        except PlatformError as error:
            log.error("%s: no state for %s: %s", self._host, sender, error)
        finally:
            self._awaited.discard(sender)

    def _is_outdated(self, copy: "_Copy") -> bool:
        """Nobody fetches it now, and whoever did would be far behind again."""
        return copy.last_use + PATIENCE < self._clock() and copy.height + self._behind / 2 < self._height

    def _serve(self, sender: str, want: Want) -> None:
        copy, buckets = self._copy, None
        if not 0 <= want.piece < PIECES:
            raise PeerFault(sender, f"asks for piece {want.piece} of a state; there are {PIECES}")
        if copy is not None and copy.height == want.height:
            copy.last_use = self._clock()
            buckets = copy.taken.state.below(snapshot.LEVEL, want.piece)
        raw = snapshot.encode(Piece(want.height, want.piece, buckets))
        if self._served.allow(sender, len(raw)):  # else it asks again, or somebody else
            self._send(sender, raw)

    def _drop_later(self) -> None:
        if self._drop_timer is not None:
            self._drop_timer.cancel()
        self._drop_timer = asyncio.get_running_loop().call_later(KEPT, self._drop)

    def _drop(self) -> None:
        if self._copy is not None and self._copy.last_use + KEPT <= self._clock():
            self._copy = None
        elif self._copy is not None:
            self._drop_later()


class _Copy:
    """A state that stays as it was while the chain goes on. What neither changes is there once."""

    def __init__(self, chain: Chain, now: float) -> None:
        self.taken = chain.copy()
        self.nodes = self.taken.state.level(snapshot.LEVEL)
        self.height = self.taken.block.header.height
        self.last_use = now

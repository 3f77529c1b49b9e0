"""Performs what an engine asks for: the writes of one step as one transaction, and behind it what waits for them.

Messages, and the news of a final block, stand in a queue (ledger.outbox) behind the writes ahead of them: what they
promise is durable before they are seen. The engine's wish to be woken is a timer of the loop.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

from ledger import store
from ledger.block import Block
from ledger.certificate import Members
from ledger.chain import Chain
from ledger.consensus.engine import Accuse, Admit, Decide, Effect, Engine, Persist, Send, Serve, WakeAt
from ledger.consensus.messages import MAX_BLOCKS_BYTES
from ledger.contracts import trust
from ledger.database import Statement
from ledger.engines import EngineKind
from ledger.errors import PlatformError, Unavailable
from ledger.evidence import Evidence
from ledger.light import MEMBERS_KEY
from ledger.links.base import Passport
from ledger.merkle import Changes
from ledger.outbox import Outbox
from ledger.proof import StateProof
from ledger.store import Store

log = logging.getLogger(__name__)


class Appended(NamedTuple):
    """What appending a block did to the state, until the block is durable."""

    state: list[Statement]  # what keeps it
    members: Members
    registry: Mapping[str, Passport] | None  # None: as before
    proof: StateProof | None  # of a change of members


class Performer:
    """Between one engine and the world. Whoever owns it says which engine, with `begin`, and when that rests."""

    def __init__(
        self,
        host: str,
        opened: Store,
        kind: EngineKind,
        clock: Callable[[], float],
        wall: Callable[[], int],
        send: Callable[[str | None, bytes], None],
        adopt: Callable[[Block, Appended], None],
        admit: Callable[[str, Sequence[bytes]], None],
        accuse: Callable[[Accuse], None],
        failed: Callable[[Unavailable], None],
    ) -> None:
        """`send(host, message)`: to one host, or to all (None). `adopt` hears of each block when it is durable,
        `admit` of transactions that a peer passed on, `failed` once when nothing more is done.
        """
        self._host, self._store, self._kind, self._clock, self._wall = host, opened, kind, clock, wall
        self._send, self._adopt, self._admit, self._accuse, self._failed = send, adopt, admit, accuse, failed
        self._outbox = Outbox(self.disk_failed)
        self._appended: dict[int, Appended] = {}  # by height: appended by the engine, not yet in a transaction
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running = True
        self.engine: Engine
        self._chain: Chain

    def begin(self, chain: Chain, engine: Engine) -> None:
        """With a chain and an engine that are fresh from the disk. `chain` tells `on_append` of its blocks."""
        self._chain, self.engine = chain, engine
        self._perform(engine.start(self._clock(), self._wall()))

    def on_append(self, block: Block, changes: Changes) -> None:
        """Keeps what the engine's `append` did to the chain until its Decide comes."""
        height, members = block.header.height, self._chain.members()
        state = self._store.append(height, changes, self._chain.state_below)
        registry = trust.registry(self._chain.state) if trust.REGISTRY in changes else None
        proof = self._chain.prove(MEMBERS_KEY) if MEMBERS_KEY in changes else None
        self._appended[height] = Appended(state, members, registry, proof)

    # What happens

    def message(self, sender: str, message: bytes) -> None:
        """Raises PeerFault for one that must not be sent."""
        self._perform(self.engine.message(sender, message, self._clock(), self._wall()))

    def command(self, transactions: Sequence[bytes]) -> None:
        self._perform(self.engine.command(transactions, self._clock(), self._wall()))

    def _tick(self) -> None:
        self._timer = None
        try:
            self._perform(self.engine.tick(self._clock(), self._wall()))
        except Exception as error:
            log.exception("%s: the engine failed", self._host)
            self._failed(Unavailable(f"{self._host}: the engine failed ({error!r}); start the replica anew"))
        self.check_complete()

    def check_complete(self) -> None:
        """What the engine appended must have come back as a Decide; else memory is ahead of the disk for good."""
        if self._appended and self._running:
            self._failed(Unavailable(f"{self._host}: the engine appended a block without deciding it; start anew"))

    def rest(self) -> None:
        """No tick until the next `begin` or `wake`, if nothing else is done meanwhile."""
        if self._timer is not None:
            self._timer.cancel()

    def wake(self) -> None:
        """A tick now: the engine looks what it missed."""
        self._wake_at(self._clock())

    def halt(self) -> None:
        """Nothing is sent any more; writes that are under way end by themselves."""
        self._running = False
        self._outbox.close()
        self.rest()

    async def stopped(self) -> None:
        """After `halt`: when nothing reads from the store any more."""
        tasks = list(self._serving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What follows

    def _perform(self, effects: list[Effect]) -> None:
        statements: list[Statement] = []
        behind: list[Callable[[], None]] = []
        admitted: list[Admit] = []
        for effect in effects:
            act: Callable[[], None] | None = None
            match effect:
                case Persist():
                    statements.append(store.persist(effect))
                case Decide(block=block):
                    appended = self._appended.pop(block.header.height)
                    statements += store.decide(effect, appended.state, appended.proof)
                    act = partial(self._adopt, block, appended)
                case Send(to=to, message=message):
                    act = partial(self._send, to, message)
                case Serve():
                    act = partial(self._serve, effect)
                case WakeAt(time=at):
                    self._wake_at(at)
                case Admit():
                    admitted.append(effect)
                case Accuse():
                    self._accuse(effect)
                    statements.append(store.accuse(Evidence(effect.host, effect.domain, effect.first, effect.second)))
            if act is not None and statements:
                behind.append(act)
            elif act is not None:
                self._outbox.put(act)
        if statements:
            self._outbox.behind(self._store.write(*statements))
        for act in behind:
            self._outbox.put(act)
        for sender, group in groupby(admitted, lambda each: each.sender):
            self._admit(sender, [each.transaction for each in group])

    def _wake_at(self, at: float) -> None:
        self.rest()
        if self._running:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._tick)

    def _serve(self, effect: Serve) -> None:
        """One at a time for each peer: it asks again."""
        if effect.to not in self._serving and self._running:
            task = asyncio.get_running_loop().create_task(self._serve_blocks(effect))
            self._serving[effect.to] = task
            task.add_done_callback(lambda _: self._serving.pop(effect.to, None))

    async def _serve_blocks(self, effect: Serve) -> None:
        try:
            blocks = await self._store.some_blocks(effect.first, effect.last, MAX_BLOCKS_BYTES)
        except PlatformError as error:
            log.error("%s: blocks for %s cannot be read: %s", self._host, effect.to, error)
            return
        if blocks and blocks[0][0].header.height == effect.first:  # else they are missing here: it asks others too
            self._send(effect.to, self._kind.encode_blocks(blocks))

    def disk_failed(self, error: BaseException) -> None:
        self._failed(
            Unavailable(f"the replica of {self._host} cannot write ({error}); it sends nothing more: start it anew")
        )

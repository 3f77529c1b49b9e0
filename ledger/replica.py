"""A host's replica of the ledger: the edge that performs what the engine asks for.

The effects of one step are one transaction on disk. Messages, and the news of a final block, wait behind it
(ledger.outbox): what they promise is durable before they are seen. When the disk fails the replica sends
nothing more and says so; it must be started anew.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import NamedTuple

from ledger import codec, state_transfer, store
from ledger.block import Block
from ledger.certificate import Members
from ledger.chain import Chain, Changes, Snapshot, UnknownRules
from ledger.consensus.engine import RESTORED, Accuse, Admit, Decide, Effect, Engine, Persist, Send, Serve, WakeAt
from ledger.contracts import trust
from ledger.contracts.state import View
from ledger.contracts.trust import Proposal, Standing
from ledger.disk import Disk, Statement
from ledger.engines import EngineKind
from ledger.errors import PeerFault, PlatformError, Unavailable
from ledger.evidence import Evidence
from ledger.genesis import Genesis
from ledger.identity import Identity
from ledger.light import FORMAT, MEMBERS_KEY, Export
from ledger.links.base import Channel, Links, Passport
from ledger.outbox import Outbox
from ledger.proof import StateProof
from ledger.rates import Rates
from ledger.requests import Requests
from ledger.state_transfer import StateTransfer
from ledger.store import Store

log = logging.getLogger(__name__)

# The first byte of a message on Channel.LEDGER: what follows it.
ENGINE = b"\x00"
TRANSACTIONS = b"\x01"
STATE = b"\x02"

BlockObserver = Callable[[Block], None]


class _Appended(NamedTuple):
    """What appending a block did to the state, until the block is durable."""

    changes: Changes
    members: Members
    registry: Mapping[str, Passport] | None  # None: as before
    proof: StateProof | None  # of a change of members


class Replica:
    """One host's copy of the chain. A host without a seat follows the chain and does not vote."""

    def __init__(
        self,
        host: str,
        identity: Identity,
        genesis: Genesis,
        disk: Disk,
        links: Links,
        engine: EngineKind,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        leap_behind: int = state_transfer.BEHIND,
    ) -> None:
        """`links` are started and stopped by their owner; the replica listens to them and tells them the registry.

        `clock` is in seconds (only differences matter), `wall` in milliseconds since 1970. When more than
        `leap_behind` blocks are missing, the state is fetched instead of them.
        """
        self.host = host
        self.faults: Counter[str] = Counter()  # messages that each peer should not have sent
        self.failure: Unavailable | None = None  # why the replica has stopped by itself
        self._identity = identity
        self._genesis = genesis
        self._disk = disk
        self._links = links
        self._kind = engine
        self._clock = clock
        self._wall = wall
        self._rates = Rates(clock)
        self._observers: list[BlockObserver] = []
        self._failure_observers: list[Callable[[Unavailable], None]] = []
        self._appended: dict[int, _Appended] = {}  # by height: appended by the engine, not yet in a transaction
        self._requests = Requests(
            host,
            lambda: self._chain if self._running and not self._leaping else None,
            lambda: self._final,
            lambda: [member.host for member in self._members.members],
            lambda member, raw: self._send(member, TRANSACTIONS + raw),
            lambda raws: self._perform(self._engine.command(raws, self._clock(), self._wall())),
            self._shielded,
            self._blame,
            engine.clients_broadcast,
        )
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._outbox = Outbox(self._disk_failed)
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self._leaping = False  # the chain is being exchanged: the engine rests
        self._leap_behind = leap_behind
        self._store: Store | None = None
        # Set by `start`.
        self._loop: asyncio.AbstractEventLoop
        self._chain: Chain
        self._engine: Engine
        self._final: Block
        self._members: Members
        self._registry: Mapping[str, Passport]
        self._transfer: StateTransfer
        links.on_message(self._receive)
        links.on_change(self._link_changed)

    async def start(self) -> None:
        """Raises Misuse for a disk that holds another chain, a damaged one, or one older than its own votes."""
        self._loop = asyncio.get_running_loop()
        opened = await store.open_store(self._disk, self._genesis)
        try:
            stored = await opened.load()
            self._chain = Chain(self._genesis, stored.snapshot, self._on_append)
            self._chain.check_rules()
            self._engine = self._kind.create(
                self.host, self._identity, self._chain, stored.engine, certificate=self._chain.certificate
            )
        except PlatformError:
            await opened.close()
            raise
        self._store = opened
        self._running = True
        self._transfer = StateTransfer(
            self.host,
            self._genesis,
            opened,
            lambda: self._chain,
            lambda host, raw: self._send(host, STATE + raw),
            self._links.up,
            self._blame,
            self._leap,
            self._clock,
            self._leap_behind,
        )
        self._transfer.start(self._transfer.run())
        self._begin()

    async def stop(self) -> None:
        """Ends when what was written is durable. Whoever waits for a transaction hears that it is unknown."""
        if self._store is None:
            return
        self._halt(Unavailable(f"the replica of {self.host} was stopped; ask again when it runs", retry_after=1.0))
        await self._transfer.stop()
        for task in list(self._serving.values()):
            task.cancel()
        await asyncio.gather(*self._serving.values(), return_exceptions=True)
        await self._store.close()

    # What it knows. All of it is final and, but for `state` (ahead by one write at most), durable.

    @property
    def height(self) -> int:
        return self._final.header.height

    @property
    def best(self) -> Block:
        return self._final

    @property
    def chain_id(self) -> bytes:
        return self._chain.id

    @property
    def state(self) -> View:
        """The state for the queries of ledger.contracts; it follows the chain."""
        return self._chain.state

    def registry(self) -> Mapping[str, Passport]:
        """The trusted hosts by name."""
        return self._registry

    def members(self) -> Members:
        """Those who decide the next height."""
        return self._members

    def organisations(self) -> dict[str, Standing]:
        return trust.organisations(self._chain.state)

    def proposals(self) -> tuple[Proposal, ...]:
        return trust.proposals(self._chain.state)

    def next_nonce(self, key: bytes) -> int:
        """For the key's next transaction, behind those that wait here."""
        return self._chain.mempool.next_free(key, self._chain.nonce(key))

    def prove(self, key: bytes) -> StateProof:
        return self._chain.prove(key)

    async def export(self, *proofs: StateProof) -> Export:
        """What convinces someone who knows the chain's id alone of `proofs` (see `prove`)."""
        return Export(FORMAT, codec.encode(self._genesis), await self._opened().changes(), proofs)

    async def evidence(self) -> Export:
        """Who signed twice, as far as it was seen here, for anyone to check."""
        opened = self._opened()
        return Export(FORMAT, codec.encode(self._genesis), await opened.changes(), (), await opened.evidence())

    def on_block(self, observer: BlockObserver) -> None:
        """`observer(block)` for every block from now on, in order, when it is final and durable.

        When the replica leaps over blocks that it lacks, only the one that it comes to is told.
        """
        self._observers.append(observer)

    def on_failure(self, observer: Callable[[Unavailable], None]) -> None:
        """`observer(why)` when the replica stops by itself."""
        self._failure_observers.append(observer)

    def _opened(self) -> Store:
        if self._store is None or not self._running:
            raise self.failure or Unavailable(f"the replica of {self.host} does not run; start it first")
        return self._store

    # Transactions

    async def submit(self, raw: bytes) -> int:
        """Sends a signed transaction to all members and waits; returns the height at which it became final.

        Raises PeerFault or Misuse, with the reason, for one that is badly made or cannot run, NonceLost for one
        that must be signed again, Unavailable when there is no room or the replica stops. Give it a deadline:
        without a quorum nothing becomes final.
        """
        return await asyncio.shield(self.offer(raw))

    def offer(self, raw: bytes) -> "asyncio.Future[int]":
        """Like `submit`, with the height as a future; what can be refused at once is raised here."""
        self._opened()
        if self._leaping:
            raise Unavailable(f"the replica of {self.host} is just taking over a later state", retry_after=1.0)
        return self._requests.offer(raw, self._chain)

    # What comes in

    def _receive(self, sender: str, channel: Channel, message: bytes) -> None:
        if channel != Channel.LEDGER or not self._running or self._leaping:
            return
        with self._shielded(sender):
            if not self._rates.allow(sender, len(message)):
                raise PeerFault(sender, "sends more than this host takes; the message is dropped")
            kind, body = message[:1], message[1:]
            if kind == ENGINE:
                self._perform(self._engine.message(sender, body, self._clock(), self._wall()))
            elif kind == TRANSACTIONS:
                self._requests.receive(sender, body)
            elif kind == STATE:
                self._transfer.receive(sender, body)
            else:
                raise PeerFault(sender, f"sent a ledger message of the unknown kind {kind!r}")

    @contextmanager
    def _shielded(self, sender: str) -> Iterator[None]:
        """A peer must not be able to stop a replica with a message that finds a bug of ours."""
        try:
            yield
        except PeerFault as fault:
            self._blame(fault)
        except UnknownRules as unknown:
            self._fail(unknown)
        except Exception:
            self.faults[sender] += 1
            log.exception("%s: a message from %s could not be worked on", self.host, sender)
        self._check_complete()

    def _check_complete(self) -> None:
        """What the engine appended must have come back as a Decide; else memory is ahead of the disk for good."""
        if self._appended and self._running:
            self._fail(Unavailable(f"{self.host}: the engine appended a block without deciding it; start anew"))

    def _blame(self, fault: PeerFault) -> None:
        self.faults[fault.peer] += 1
        log.warning("%s: %s", self.host, fault)

    def _link_changed(self, host: str, up: bool) -> None:
        if up and self._running:
            self._transfer.ask(host)
        if up and self._running and host in {member.host for member in self._members.members}:
            self._requests.linked(host)

    def _tick(self) -> None:
        self._timer = None
        try:
            self._perform(self._engine.tick(self._clock(), self._wall()))
        except Exception as error:
            log.exception("%s: the engine failed", self.host)
            self._fail(Unavailable(f"{self.host}: the engine failed ({error!r}); start the replica anew"))
        self._check_complete()

    # What goes out

    def _on_append(self, block: Block, changes: Changes) -> None:
        members = self._chain.members()
        registry = trust.registry(self._chain.state) if trust.REGISTRY in changes else None
        proof = self._chain.prove(MEMBERS_KEY) if MEMBERS_KEY in changes else None
        self._appended[block.header.height] = _Appended(changes, members, registry, proof)

    def _perform(self, effects: list[Effect]) -> None:
        """One step: its writes as one transaction, and behind it what waits for them."""
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
                    statements += store.decide(effect, appended.changes, appended.proof)
                    act = partial(self._adopt, block, appended)
                case Send(to=to, message=message):
                    act = partial(self._broadcast if to is None else partial(self._send, to), ENGINE + message)
                case Serve():
                    act = partial(self._serve, effect)
                case WakeAt(time=at):
                    self._wake_at(at)
                case Admit():
                    admitted.append(effect)
                case Accuse(host=host):
                    self.faults[host] += 1
                    log.error("%s: %s signed two different things where one is allowed: %s", self.host, host, effect)
                    statements.append(store.accuse(Evidence(host, effect.domain, effect.first, effect.second)))
            if act is not None and statements:
                behind.append(act)
            elif act is not None:
                self._outbox.put(act)
        if statements:
            assert self._store is not None
            self._outbox.behind(self._store.write(*statements))
        for act in behind:
            self._outbox.put(act)
        for sender, group in groupby(admitted, lambda each: each.sender):
            self._requests.put(sender, (each.transaction for each in group))

    def _send(self, host: str, message: bytes) -> None:
        if host != self.host and self._running:
            self._links.send(host, Channel.LEDGER, message)

    def _broadcast(self, message: bytes) -> None:
        """To every trusted host: those without a seat follow the chain by it."""
        for host in self._registry:
            self._send(host, message)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, at - self._clock()), self._tick)

    def _serve(self, effect: Serve) -> None:
        """One at a time for each peer: it asks again."""
        if effect.to not in self._serving and self._running:
            task = self._loop.create_task(self._serve_blocks(effect))
            self._serving[effect.to] = task
            task.add_done_callback(lambda _: self._serving.pop(effect.to, None))

    async def _serve_blocks(self, effect: Serve) -> None:
        assert self._store is not None
        try:
            blocks = await self._store.blocks(effect.first, effect.last)
        except PlatformError as error:
            log.error("%s: blocks for %s cannot be read: %s", self.host, effect.to, error)
            return
        if blocks and blocks[0][0].header.height == effect.first:  # else they are missing here: it asks others too
            self._send(effect.to, ENGINE + self._kind.encode_blocks(blocks))

    # What became final

    def _adopt(self, block: Block, appended: "_Appended") -> None:
        self._final = block
        if appended.registry is not None:
            self._trust(appended.members, appended.registry)
        self._requests.final(block)
        self._tell(block)

    def _tell(self, block: Block) -> None:
        for observer in self._observers:
            try:
                observer(block)
            except Exception:
                log.exception("%s: an observer of blocks failed at height %d", self.host, block.header.height)
        try:
            self._chain.check_rules()
        except UnknownRules as unknown:
            self._fail(unknown)

    async def _leap(self, snapshot: Snapshot, changes: tuple[StateProof, ...]) -> None:
        """Goes on from a state that was verified, as after a restart with it.

        The engine gets what it must not forget, as it does then: it signs nothing that a restart would not allow.
        """
        chain = await asyncio.to_thread(Chain, self._genesis, snapshot, self._on_append)
        if not self._running or chain.best.header.height <= self._chain.best.header.height:
            return
        assert self._store is not None
        self._leaping = True
        if self._timer is not None:
            self._timer.cancel()
        statements = store.leap(snapshot, changes)
        if self._chain.best.header.height == 0:  # the disk may have been lost, and with it what we signed
            statements.append(store.persist(Persist(RESTORED, b"")))
        try:
            await self._store.write(*statements)
            recovered = await self._store.engine()
        except PlatformError as error:
            self._disk_failed(error)
        if self._running:
            self._chain, self._leaping = chain, False
            self._engine = self._kind.create(
                self.host, self._identity, chain, recovered, certificate=chain.certificate
            )
            self._begin()
            self._tell(chain.best)

    def _begin(self) -> None:
        """With a chain and an engine that are fresh from the disk."""
        self._final = self._chain.best
        self._trust(self._chain.members(), trust.registry(self._chain.state))
        self._requests.take_again(self._chain)
        self._perform(self._engine.start(self._clock(), self._wall()))

    def _trust(self, members: Members, registry: Mapping[str, Passport]) -> None:
        self._members, self._registry = members, registry
        self._links.admit(registry)

    # What went wrong

    def _disk_failed(self, error: BaseException) -> None:
        self._fail(
            Unavailable(f"the replica of {self.host} cannot write ({error}); it sends nothing more: start it anew")
        )

    def _fail(self, failure: Unavailable) -> None:
        log.critical("%s", failure)
        self.failure = failure
        self._halt(failure)
        for observer in self._failure_observers:
            observer(failure)

    def _halt(self, reason: Unavailable) -> None:
        self._running = False
        self._outbox.close()
        if self._timer is not None:
            self._timer.cancel()
        self._requests.give_up(reason)

"""A host's replica of the ledger: an engine, its store and its links, and what others may ask it.

ledger.performer does what the engine asks for. When the disk fails the replica sends nothing more and says so; it
must be started anew. While the disk is full it rests: it takes no blocks and signs nothing, and catches up afterwards.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from ledger import codec, state_transfer, store
from ledger.block import Block
from ledger.certificate import Members
from ledger.chain import Chain, Snapshot, UnknownRules
from ledger.consensus.engine import RESTORED, Engine, Persist
from ledger.contracts import trust
from ledger.contracts.state import View
from ledger.contracts.trust import Proposal, Standing
from ledger.currency import Currency, currency
from ledger.disk import Disk
from ledger.engines import EngineKind
from ledger.errors import PeerFault, PlatformError, Unavailable
from ledger.genesis import Genesis
from ledger.identity import Identity
from ledger.inbox import ENGINE, HEARTBEAT, PROPOSAL, STATE, TRANSACTIONS, Inbox
from ledger.leases import Leases, suspended_clock
from ledger.light import FORMAT, Export
from ledger.links.base import Channel, Links, Passport
from ledger.performer import Appended, Performer
from ledger.proof import StateProof
from ledger.proposals import Proposals
from ledger.rates import Rates
from ledger.requests import OWN_CLIENT, Requests
from ledger.state_transfer import StateTransfer
from ledger.store import Store

log = logging.getLogger(__name__)
BlockObserver = Callable[[Block], None]


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
        lease_clock: Callable[[], float] = suspended_clock,
    ) -> None:
        """`links` are started and stopped by their owner; the replica listens to them and tells them the registry.

        `clock` is in seconds (only differences matter), `wall` in milliseconds since 1970. When more than
        `leap_behind` blocks are missing, the state is fetched instead of them. `lease_clock` counts suspended time.
        """
        self.host = host
        self.failure: Unavailable | None = None  # why the replica has stopped by itself
        self._identity = identity
        self._genesis = genesis
        self._disk = disk
        self._links = links
        self._kind = engine
        self._clock = clock
        self._wall = wall
        self._observers: list[BlockObserver] = []
        self._failure_observers: list[Callable[[Unavailable], None]] = []
        self._inbox = Inbox(
            host,
            Rates(clock),
            {
                ENGINE: lambda sender, body: self._performer.message(sender, body),
                TRANSACTIONS: lambda sender, body: self._requests.receive(sender, body),
                STATE: lambda sender, body: self._transfer.receive(sender, body),
                HEARTBEAT: lambda sender, body: self.leases.receive(sender, body),
                PROPOSAL: lambda sender, body: self._proposals.receive(sender, body),
            },
            failed=self._fail,
            check=lambda: self._performer.check_complete(),
        )
        self.faults = self._inbox.faults  # messages that each peer should not have sent
        self._proposals = Proposals(
            height=lambda: self._chain.best.header.height,
            send=lambda member, raw: self._send(member, PROPOSAL + raw),
            deliver=self._put_together,
            shielded=self._inbox.shielded,
            later=lambda seconds, act: asyncio.get_running_loop().call_later(seconds, act),
        )
        self._requests = Requests(
            host,
            chain=lambda: self._chain if self._running and not self._rests else None,
            final=lambda: self._final,
            members=lambda: [member.host for member in self._members.members],
            send=lambda member, raw: self._send(member, TRANSACTIONS + raw),
            command=lambda raws: self._performer.command(raws),
            shielded=self._inbox.shielded,
            blame=self._inbox.blame,
            heard=self._proposals.heard,
            broadcast=engine.clients_broadcast,
        )
        self._running = False
        self._leaping = False  # the chain is being exchanged: the engine rests
        self._leap_behind = leap_behind
        self._lease_clock = lease_clock
        self._store: Store | None = None
        self._since = clock()
        self._heard: dict[str, float] = {}  # linked host -> when its last message came
        # Set by `start`.
        self.leases: Leases
        self._chain: Chain
        self._performer: Performer
        self._final: Block
        self._members: Members
        self._registry: Mapping[str, Passport]
        self._transfer: StateTransfer
        links.on_message(self._receive)
        links.on_change(self._link_changed)
        disk.on_failure(self._disk_failed)
        disk.room.on_change(self._room_changed)

    async def start(self) -> None:
        """Raises Misuse for a disk that holds another chain, a damaged one, or one older than its own votes."""
        opened = await store.open_store(self._disk, self._genesis)
        try:
            stored = await opened.load()
            self._performer = Performer(
                self.host,
                opened,
                self._kind,
                clock=self._clock,
                wall=self._wall,
                send=self._send_engine,
                adopt=self._adopt,
                admit=self._requests.put,
                accuse=self._inbox.accuse,
                failed=self._fail,
            )
            self._chain = Chain(self._genesis, stored.snapshot, self._performer.on_append)
            self._chain.check_rules()
            engine = self._make_engine(stored.engine)
            self.leases = Leases(
                self.host,
                self._identity,
                stored.engine,
                chain=lambda: self._chain,
                engine=lambda: self._performer.engine,
                send=lambda host, raw: self._send(host, HEARTBEAT + raw),
                write=lambda kept: opened.write(store.persist(kept)),
                clock=self._lease_clock,
            )
            await self.leases.started()
        except PlatformError:
            await opened.close()
            raise
        self._store = opened
        self._running, self._since = True, self._clock()
        self._transfer = StateTransfer(
            self.host,
            self._genesis,
            opened,
            chain=lambda: self._chain,
            send=lambda host, raw: self._send(host, STATE + raw),
            peers=self._links.up,
            blame=self._inbox.blame,
            adopt=self._leap,
            clock=self._clock,
            behind=self._leap_behind,
        )
        self._transfer.start(self._transfer.run())
        self._begin(engine)

    async def stop(self) -> None:
        """Ends when what was written is durable. Whoever waits for a transaction hears that it is unknown."""
        if self._store is None:
            return
        self._halt(Unavailable(f"the replica of {self.host} was stopped; ask again when it runs", retry_after=1.0))
        await self._transfer.stop()
        await self._performer.stopped()
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

    def currency(self) -> Currency:
        """How far it is behind the members, by their word."""
        told, now = self._transfer.told, self._clock()
        return currency(self._members, self.host, self.height, told, self._heard, self._since, now)

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

    def on_fault(self, observer: Callable[[str, PeerFault], None]) -> None:
        """`observer(sender, fault)` for every message that was refused (ledger.inbox)."""
        self._inbox.on_fault(observer)

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
        self._disk.room.check()
        if self._leaping:
            raise Unavailable(f"the replica of {self.host} is just taking over a later state", retry_after=1.0)
        return self._requests.offer(raw, self._chain)

    # What comes in

    @property
    def _rests(self) -> bool:
        return self._leaping or self._disk.room.full is not None

    def _receive(self, sender: str, channel: Channel, message: bytes) -> None:
        if channel != Channel.LEDGER or not self._running or self._leaping:
            return
        self._heard[sender] = self._clock()
        if not self._rests or message[:1] == HEARTBEAT:  # those need no room, and others hold their leases by them
            self._inbox.receive(sender, message)

    def _put_together(self, sender: str, proposal: bytes) -> None:
        """It counts as if it had come whole: few bytes must not buy the work of many."""
        if self._rests:
            return
        self._inbox.count(sender, proposal)
        self._performer.message(sender, proposal)

    def _link_changed(self, host: str, up: bool) -> None:
        if up and self._running:
            self._transfer.ask(host)
        if up and self._running and host in {member.host for member in self._members.members}:
            self._requests.linked(host)
            self.leases.linked()

    # What goes out

    def _send(self, host: str, message: bytes) -> None:
        if host != self.host and self._running:
            self._links.send(host, Channel.LEDGER, message)

    def _send_engine(self, to: str | None, message: bytes) -> None:
        """To all (None) is to every trusted host: those without a seat follow the chain by it.

        A proposal goes to the members alone, and short where they have heard the transactions from their clients.
        """
        short = self._proposals.shorten(message, self.host) if to is None and self._kind.short_proposals else None
        if short is not None:
            for member in self._members.members:
                self._send(member.host, PROPOSAL + short)
            return
        for host in self._registry if to is None else (to,):
            self._send(host, ENGINE + message)

    # What became final

    def _adopt(self, block: Block, appended: Appended) -> None:
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
        self.leases.follow(self._members, block.header.height)
        try:
            self._chain.check_rules()
        except UnknownRules as unknown:
            self._fail(unknown)

    async def _leap(self, snapshot: Snapshot, changes: tuple[StateProof, ...]) -> None:
        """Goes on from a state that was verified, as after a restart with it.

        The engine gets what it must not forget, as it does then: it signs nothing that a restart would not allow.
        """
        chain = await asyncio.to_thread(Chain, self._genesis, snapshot, self._performer.on_append)
        if not self._running or chain.best.header.height <= self._chain.best.header.height:
            return
        assert self._store is not None
        self._leaping = True
        self._performer.rest()
        statements = self._store.leap(snapshot, changes)
        if self._chain.best.header.height == 0:  # the disk may have been lost, and with it what we signed
            statements += [store.persist(Persist(RESTORED, b"")), store.persist(self.leases.forgot())]
        try:
            await self._store.write(*statements)
            recovered = await self._store.engine()
        except PlatformError as error:
            self._fail(Unavailable(f"the replica of {self.host} cannot keep a later state ({error}); start it anew"))
        if self._running:
            self._chain, self._leaping = chain, False
            self.leases.recover(recovered)
            self._begin(self._make_engine(recovered))
            self._tell(chain.best)

    def _make_engine(self, recovered: Mapping[str, bytes]) -> Engine:
        return self._kind.create(self.host, self._identity, self._chain, recovered, certificate=self._chain.certificate)

    def _begin(self, engine: Engine) -> None:
        """With a chain and an engine that are fresh from the disk."""
        self._final = self._chain.best
        self._trust(self._chain.members(), trust.registry(self._chain.state))
        self._requests.take_again(self._chain)
        self._performer.begin(self._chain, engine)

    def _trust(self, members: Members, registry: Mapping[str, Passport]) -> None:
        self._members, self._registry = members, registry
        self._links.admit(registry)
        self._proposals.trust({*registry, OWN_CLIENT})

    # What went wrong

    def _disk_failed(self, failure: Unavailable) -> None:
        """Whosever write it was: those that no engine waits for fail too."""
        if self._running:
            self._performer.disk_failed(failure)

    def _room_changed(self, full: Unavailable | None) -> None:
        if not self._running or self._leaping:
            return
        if full is not None:
            self._performer.rest()
        else:
            self._performer.wake()

    def _fail(self, failure: Unavailable) -> None:
        if self.failure is not None:  # one message is enough
            return
        log.critical("%s", failure)
        self.failure = failure
        self._halt(failure)
        for observer in self._failure_observers:
            observer(failure)

    def _halt(self, reason: Unavailable) -> None:
        self._running = False
        self.leases.drop()
        self._performer.halt()
        self._requests.give_up(reason)

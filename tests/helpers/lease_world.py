"""A host that runs a held agent, members that may give it a new home, their clocks, and a chain that each hears late.

The contracts, ledger.leases and ledger.heartbeats are those of production. `step` draws what happens next; stories call
the same methods. After each the rule is checked: once the chain gave the agent a new home, the old one does not run it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

from ledger import codec, contracts, heartbeats, leases
from ledger.chain import founding_state
from ledger.contracts import accounts, owners, residence, trust
from ledger.contracts.accounts import Create
from ledger.contracts.membership import RemoveHost
from ledger.contracts.residence import FOUND, Found, Hold, Statement, VoteRehome, WithdrawVote
from ledger.contracts.state import Overlay
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.heartbeats import DRIFT, LEASE, Ask, Heartbeat
from ledger.transaction import Transaction
from tests.helpers.founders import CHAIN, NAMES, genesis, identity

HOME, NEXT = "north-2", "south-2"  # of the agent: now, and if its host is gone
REPLACED, SUCCESSOR = "west-1", "west-2"  # whose seat passes to whom
DRIFT_RATE = 1 / 21.001  # what DRIFT is good for
AGENT = codec.digest("an agent")
ANN = identity("ann")
SUBJECT = residence.subject(ANN.public, AGENT)


class TwoHomes(AssertionError):
    """The agent runs in its old home, and may run in the new one."""


class Block(NamedTuple):
    height: int
    state: dict[bytes, bytes]


class Party:
    """A host: a member, one that may become one, or the agent's home."""

    def __init__(self, world: "World", host: str, rate: float) -> None:
        self.world, self.host, self.rate = world, host, rate
        self.height = 0
        self.pledged: Block | None = None
        self.kept: dict[str, bytes] = {}
        self.asleep = 0.0  # real seconds in which its machine was suspended
        self.start()

    def start(self) -> None:
        """Also again: what is not in `kept` is lost."""
        key = identity(self.host)
        self.leases = leases.Leases(
            self.host, key, self.kept, lambda: self.chain, lambda: self, self.send, self.write, self.clock
        )
        self.leases.started()
        if self.host == HOME:
            self.leases.keep(lambda holds: None)

    @property
    def votes(self) -> bool:
        return self.chain.members().key_of(self.host) is not None

    @property
    def chain(self) -> Any:
        state = self.world.blocks[self.height].state
        return SimpleNamespace(
            id=CHAIN,
            best=SimpleNamespace(header=SimpleNamespace(height=self.height)),
            state=state,
            members=lambda: trust.members(state),
            changes_members=lambda block: trust.members(block.state) != trust.members(state),
        )

    def clock(self) -> float:
        return 100 + self.rate * self.world.now

    def send(self, host: str, raw: bytes) -> None:
        self.world.network.append((self.host, host, raw))

    def write(self, kept: Any) -> "asyncio.Future[None]":
        self.kept[kept.key] = kept.value
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def receive(self, sender: str, raw: bytes) -> None:
        with suppress(PeerFault):  # no link brings what an earlier start sent behind what a later one did
            self.leases.receive(sender, raw)

    def learn(self) -> None:
        """The next block comes."""
        if self.height < len(self.world.blocks) - 1:
            self.height += 1
            self.pledged = None
            self.leases.follow(self.chain.members(), self.height)


class Traitor(Party):
    """Gives heartbeats to whoever asks, of the kind that is wanted."""

    def receive(self, sender: str, raw: bytes) -> None:
        message = heartbeats.decode(raw, sender)
        if isinstance(message, Ask):
            version = self.world.parties[HOME].chain.members().version
            said = Heartbeat(CHAIN, version, 0, 1, sender, message.nonce)
            self.send(sender, heartbeats.encode(heartbeats.beat(said, identity(self.host))))


class World:
    def __init__(
        self, members: int = 4, traitor: str = "", random: Random | None = None, party: type[Party] = Party
    ) -> None:
        self.random = random or Random(0)  # noqa: S311  a simulation must be repeatable
        self.now = 0.0
        self.network: list[tuple[str, str, bytes]] = []  # all that was ever sent: it may come late, again, or never
        self._came: set[int] = set()
        self.waiting: list[Transaction] = []
        self.proposal: Block | None = None
        # Of what is drawn: some mistakes only show in a lopsided world.
        self._weights = [self.random.choice([0.1, 0.3, 1.0, 4.0]) for _ in range(6)]
        self.blocks = [Block(0, _founding(members))]
        self.seats = [f"{name}-1" for name in NAMES[:members]]
        hosts = [*self.seats, SUCCESSOR, HOME]
        self.parties = {
            host: (Traitor if host == traitor else party)(self, host, 1 + DRIFT_RATE * (-1 if host == HOME else 1))
            for host in hosts
        }
        self.home = self.parties[HOME]

    # What happens

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.check()

    def ask(self) -> None:
        self.home.leases._ask()

    def deliver(self, *hosts: str, answers: bool = True) -> None:
        """What was sent between the agent's home and these and has not come yet, and what is answered to it."""
        for at, (sender, receiver, raw) in enumerate(self.network):  # which grows meanwhile
            if at not in self._came and {sender, receiver} <= {HOME, *hosts} and (answers or sender == HOME):
                self._came.add(at)
                self.parties[receiver].receive(sender, raw)
        self.check()

    def lease(self, *hosts: str) -> None:
        self.ask()
        self.deliver(*hosts)

    async def vote(self, host: str) -> None:
        """Raises Unavailable when the host has to wait."""
        party = self.parties[host]
        nonce = self._next_nonce(host)
        if isinstance(party, Traitor):
            now = residence.find(self.blocks[-1].state, SUBJECT)
            epoch, version = (now.epoch + 1 if now else 0), trust.members(self.blocks[-1].state).version
        else:
            promise = await party.leases.promise(SUBJECT, nonce)
            epoch, version = promise.epoch, promise.version
        self._submit(host, "residence", VoteRehome(SUBJECT, epoch, NEXT, version), nonce)

    def withdraw(self, host: str) -> None:
        self._submit(host, "residence", WithdrawVote(SUBJECT, 4))

    def replace(self) -> None:
        """West gives its seat to its other host: one member for another, in one block."""
        self._submit("west", "membership", RemoveHost(REPLACED, "moved to other premises"))

    def propose(self) -> bool:
        """A block of the first waiting transaction that can run; False when there is none."""
        while self.waiting and self.proposal is None:
            overlay = Overlay(self.blocks[-1].state)
            try:
                contracts.run(overlay, self.waiting.pop(0), len(self.blocks))
            except Misuse:
                continue
            kept = {key: value for key, value in overlay.changes.items() if value is not None}
            gone = {key for key, value in overlay.changes.items() if value is None}
            below = {key: value for key, value in self.blocks[-1].state.items() if key not in gone}
            self.proposal = Block(len(self.blocks), below | kept)
        return self.proposal is not None

    def commit(self, host: str) -> None:
        """The host gives its COMMIT to the proposal; the last one that is needed decides it, and nobody hears of it."""
        party, block = self.parties[host], self.proposal
        if block is not None and party.height == block.height - 1 and party.votes:
            party.pledged = block
            members = trust.members(self.blocks[-1].state)
            given = [each for each in self.parties.values() if each.pledged == block]
            if len(given) >= members.quorum:
                self.blocks.append(block)
                self.proposal = None
                self.check()

    def decide(self, *hosts: str) -> None:
        """All that waits, by these, who learn it."""
        while self.propose():
            for host in hosts:
                self.commit(host)
            assert self.proposal is None, "too few to decide"
            for host in hosts:
                self.learn(host)

    def learn(self, host: str) -> None:
        self.parties[host].learn()
        self.check()

    # The rule

    def runs(self) -> bool:
        here = residence.find(self.home.chain.state, SUBJECT)
        return self.home.leases.holds() and here is not None and here.host == HOME

    def moved(self) -> bool:
        there = residence.find(self.blocks[-1].state, SUBJECT)
        return there is not None and there.host == NEXT

    def check(self) -> None:
        if self.runs() and self.moved():
            raise TwoHomes(f"at {self.now:.1f} s, height {self.home.height} there and {len(self.blocks) - 1} here")

    # At random

    async def step(self) -> None:
        some = [host for host in self.parties if host != HOME and self.random.random() < 0.7]
        self.random.shuffle(some)
        acts: list[tuple[Callable[[], Any], float]] = [
            (lambda: self.wait(self.random.choice([0.1, 4.0, LEASE, LEASE + 2 * DRIFT])), 3),
            (lambda: self.lease(*some), self._weights[0]),
            (self.ask, 0.5),
            (self._deliver_any, 1),
            (lambda: self._vote_all(some), self._weights[1]),
            (lambda: self.withdraw(some[0]), self._weights[2] / 10),
            (self.replace, self._weights[3] / 10),
            (lambda: self._decide_by(some), 3),
            (lambda: self.learn(HOME), self._weights[4]),
            (lambda: self.parties[some[0]].start(), self._weights[5]),
        ]
        (act,) = self.random.choices([act for act, _ in acts], [weight for _, weight in acts])
        done = act() if some else None
        if asyncio.iscoroutine(done):
            await done
        self.check()

    async def _vote_all(self, hosts: list[str]) -> None:
        for host in hosts:
            with suppress(Unavailable, Misuse):
                await self.vote(host)

    def _decide_by(self, hosts: list[str]) -> None:
        """As far as it goes: these catch up, and commit; then some of them hear what was decided."""
        for host in hosts:
            while self.parties[host].height < len(self.blocks) - 1:
                self.learn(host)
        while self.propose():
            height = len(self.blocks)
            for host in hosts:
                self.commit(host)
            if len(self.blocks) == height:
                return
            for host in hosts:
                if self.random.random() < 0.8:
                    self.learn(host)

    def _deliver_any(self) -> None:
        for sender, receiver, raw in self.random.sample(self.network, min(10, len(self.network))):
            self.parties[receiver].receive(sender, raw)

    def stop(self) -> None:
        for party in self.parties.values():
            party.leases.drop()

    def _submit(self, caller: str, contract: str, action: object, nonce: int | None = None) -> None:
        key = identity(caller).public
        nonce = self._next_nonce(caller) if nonce is None else nonce
        self.waiting.append(Transaction(CHAIN, key, nonce, contract, codec.encode(action)))

    def _next_nonce(self, caller: str) -> int:
        key = identity(caller).public
        waiting = [each.nonce + 1 for each in self.waiting if each.account == key]
        return max([accounts.nonce(self.blocks[-1].state, key), *waiting])


def _founding(members: int) -> dict[bytes, bytes]:
    state = Overlay(founding_state(genesis(members, hosts=2)))
    statement = Statement(CHAIN, FOUND, SUBJECT, 3, "", HOME)
    signed = statement.sign(ANN, owners.DOMAIN), statement.sign(identity(HOME))
    for caller, contract, action in (
        ("north", "accounts", Create(ANN.public, 5)),
        (HOME, "residence", Found(ANN.public, AGENT, 3, HOME, *signed)),
        (HOME, "residence", Hold(SUBJECT, 3, (NEXT,))),
    ):
        key = identity(caller).public
        contracts.run(state, Transaction(CHAIN, key, accounts.nonce(state, key), contract, codec.encode(action)), 1)
    return {**founding_state(genesis(members, hosts=2)), **{k: v for k, v in state.changes.items() if v is not None}}

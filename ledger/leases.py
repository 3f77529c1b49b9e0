"""A replica's part in leases: asks for one while that is wanted, gives others heartbeats, and keeps its promises.

The rules are in ledger.heartbeats. While nobody wants a lease nothing is sent.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping

from ledger import codec, heartbeats
from ledger.certificate import Members
from ledger.chain import Chain
from ledger.consensus.engine import RESTORED, Engine, Persist
from ledger.contracts import residence
from ledger.errors import Misuse, Unavailable
from ledger.heartbeats import LEASE, NONCE_BYTES, Ask, Giver, Heartbeat, Lease, Promise
from ledger.identity import Identity

RENEW_EVERY = LEASE / 5  # seconds between two questions, also while there is no lease
ASK_AGAIN = 0.2  # seconds after a question in which a link that comes up is no reason for another
INCARNATION = "heartbeats/incarnation"
PROMISES = "heartbeats/promises"
FORGOTTEN = 1_000_000  # starts that an old copy of data may lack: so many are counted at once
OWN = "this replica's own records"

LeaseObserver = Callable[[bool], None]


def suspended_clock() -> float:
    """Seconds, also those in which the machine is suspended (macOS counts them in CLOCK_MONOTONIC)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Leases:
    def __init__(
        self,
        host: str,
        identity: Identity,
        recovered: Mapping[str, bytes],
        chain: Callable[[], Chain],
        engine: Callable[[], Engine],
        send: Callable[[str, bytes], None],
        write: "Callable[[Persist], asyncio.Future[None]]",
        clock: Callable[[], float],
    ) -> None:
        """`recovered` is what `write` kept. `clock` counts suspended time, in seconds."""
        self._host, self._identity = host, identity
        self._chain, self._engine, self._send, self._write, self._clock = chain, engine, send, write, clock
        known = codec.decode(recovered[INCARNATION], int, OWN) if INCARNATION in recovered else 0
        self.incarnation = known + 1  # how often this host was started on its data
        if recovered.get(RESTORED) == b"":
            self.incarnation += FORGOTTEN
        kept = codec.decode(recovered.get(PROMISES, codec.encode(())), tuple[Promise, ...], OWN)
        best, members = chain().best.header.height, chain().members()
        self._giver = Giver(clock(), members.version, kept)
        self._lease = Lease(chain().id, host, members, best)
        self._observer: LeaseObserver | None = None
        self._told = False
        self._asked = float("-inf")
        self._next_question: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    def started(self) -> "asyncio.Future[None]":
        """Durable before anything else is done here."""
        return self._write(Persist(INCARNATION, codec.encode(self.incarnation)))

    def forgot(self) -> Persist:
        """The disk was lost, and with it the number of starts: to be kept with the note that says so (RESTORED)."""
        return Persist(INCARNATION, codec.encode(self.incarnation + FORGOTTEN))

    def recover(self, recovered: Mapping[str, bytes]) -> None:
        """After `forgot`: a number that is told before it is durable would be taken back by a crash."""
        self.incarnation = codec.decode(recovered[INCARNATION], int, OWN)

    # The host's side

    def keep(self, observer: LeaseObserver) -> None:
        """From now on there is to be a lease; `observer(holds)` when it begins to hold, and when it has ended.

        It is told of an end by a timer of the loop, and those stand still while the machine is suspended: whoever
        lets something out that needs a lease asks `holds` first.
        """
        self._observer = observer
        self._told = False
        self._look()
        self._ask()

    def drop(self) -> None:
        """No lease is wanted any more."""
        self._observer = None
        for timer in (self._next_question, self._end):
            if timer is not None:
                timer.cancel()

    def holds(self) -> bool:
        return self._lease.holds(self._clock())

    @property
    def until(self) -> float | None:
        """When the lease ends, by CLOCK_BOOTTIME; None when there is none."""
        return self._lease.until if self.holds() else None

    def linked(self) -> None:
        """A link came up."""
        if self._observer is not None and not self.holds() and self._clock() >= self._asked + ASK_AGAIN:
            self._ask()

    def _ask(self) -> None:
        self._asked = self._clock()
        question = self._lease.ask(self._asked, self.incarnation, secrets.token_bytes(NONCE_BYTES))
        if self._next_question is not None:
            self._next_question.cancel()
        self._next_question = asyncio.get_running_loop().call_later(RENEW_EVERY, self._ask)
        for member in self._chain().members().members:
            self._deliver(member.host, question)

    def _look(self) -> None:
        if self._observer is None:
            return
        if self._end is not None:
            self._end.cancel()
        left = self._lease.until - self._clock()
        if left > 0:
            self._end = asyncio.get_running_loop().call_later(left, self._look)
        if (left > 0) != self._told:
            self._told = left > 0
            self._observer(self._told)

    # The member's side

    def wait(self, host: str) -> float:
        """Seconds until this host may vote that `host`'s agents get a new home, if that asks for no lease; 0: now."""
        now = self._clock()
        self._giver.follow(self._chain().members().version, now)
        return self._giver.wait(host, now)

    async def promise(self, subject: bytes, nonce: int) -> Promise:
        """Before a vote on the new home of the agent `subject` leaves, as a transaction with this nonce.

        Raises Misuse when there is nothing to vote on, Unavailable when it is too early.
        """
        chain = self._chain()
        there = residence.find(chain.state, subject)
        if there is None or not there.host:
            raise Misuse(f"agent {subject.hex()[:16]} is not in held custody; there is nothing to vote on")
        if not self._engine().votes:
            raise Misuse(f"{self._host} has no seat, or is not to sign yet: it has no vote on where an agent goes")
        if (wait := self.wait(there.host)) > 0:
            raise Unavailable(f"{there.host} may still hold a lease; vote in {wait:.1f} s if it stays away", wait)
        promise = Promise(there.host, subject, there.epoch + 1, chain.members().version, nonce)
        self._giver.promise(promise)
        await self._write(Persist(PROMISES, codec.encode(tuple(self._giver.promises.values()))))
        return promise

    def _answer(self, host: str, ask: Ask) -> None:
        """The chain is asked, not what is durable of it: a change of members counts when it is decided."""
        chain, engine, now = self._chain(), self._engine(), self._clock()
        if not engine.votes or (engine.pledged is not None and chain.changes_members(engine.pledged)):
            return
        version = chain.members().version
        self._giver.follow(version, now)
        self._giver.settle(chain.state, self._host, self._identity.public)
        if self._giver.give(host, ask, now):
            height = chain.best.header.height
            said = Heartbeat(chain.id, version, height, self.incarnation, host, ask.nonce)
            self._deliver(host, heartbeats.beat(said, self._identity))

    # Both

    def receive(self, sender: str, raw: bytes) -> None:
        """Raises PeerFault for what must not be sent."""
        self._hear(sender, heartbeats.decode(raw, sender))

    def follow(self, members: Members, height: int) -> None:
        """The chain is there, durably, and whoever observes it has heard of it."""
        self._giver.follow(members.version, self._clock())
        self._lease.follow(members, height)
        self._look()

    def _hear(self, sender: str, message: heartbeats.Message) -> None:
        if isinstance(message, Ask):
            self._answer(sender, message)
        else:
            self._lease.take(sender, message)
            self._look()

    def _deliver(self, host: str, message: heartbeats.Message) -> None:
        if host == self._host:  # a member's own heartbeat counts for itself, by the same rules
            self._hear(host, message)
        else:
            self._send(host, heartbeats.encode(message))

"""Clients' transactions on their way into a block: offered on this host, or passed on by a peer."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Annotated

import msgspec

from ledger import codec
from ledger.block import Block
from ledger.chain import Chain
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable
from ledger.intake import Intake
from ledger.submissions import Submissions

log = logging.getLogger(__name__)

RESEND_EVERY = 2.0  # seconds between repeats of own transactions that are not final yet, SPREAD at a time
REVIEW_EVERY = 0.1  # seconds between two looks for own transactions that can no longer run
SPREAD = 256  # transactions in one message
_Spread = Annotated[tuple[bytes, ...], msgspec.Meta(max_length=SPREAD)]
MANY = 8  # transactions, after which the next ones wait for more to join them
GATHER = 0.04  # seconds that they do
OWN_CLIENT = "this host's client"


class Requests:
    def __init__(
        self,
        host: str,
        chain: Callable[[], Chain | None],
        final: Callable[[], Block],
        members: Callable[[], Iterable[str]],
        send: Callable[[str, bytes], None],
        command: Callable[[list[bytes]], None],
        shielded: Callable[[str], AbstractContextManager[None]],
        blame: Callable[[PeerFault], None],
        heard: Callable[[str, Sequence[bytes]], None],
        broadcast: bool,
    ) -> None:
        """`chain` is None while it takes nothing; `final` is its last block that is durable. `command` tells the
        engine what the mempool has taken; `heard` is told of all, as it comes. `broadcast`: clients' transactions go
        to all `members` at once.
        """
        self._host, self._chain, self._final, self._members, self._send = host, chain, final, members, send
        self._command, self._shielded, self._blame = command, shielded, blame
        self._heard, self._broadcast = heard, broadcast
        self._submissions = Submissions()
        self._offered: list[bytes] = []  # not passed on yet
        self._next_pass = 0.0  # by the loop's clock
        self._intake = Intake(self._admit, lambda work: asyncio.get_running_loop().call_soon(work))
        self._resend: asyncio.TimerHandle | None = None
        self._review: asyncio.TimerHandle | None = None

    # Own clients

    def offer(self, raw: bytes, chain: Chain) -> "asyncio.Future[int]":
        """See ledger.replica.Replica.offer."""
        earlier = self._submissions.find(raw)
        if earlier is not None:
            return earlier.height
        if raw not in chain.mempool:
            chain.take(raw, OWN_CLIENT)
        submission = self._submissions.add(raw, chain.open(raw, OWN_CLIENT))
        loop = asyncio.get_running_loop()
        if not self._offered:
            loop.call_at(self._next_pass, self._pass_on)
        self._offered.append(raw)
        if self._resend is None:
            self._resend = loop.call_later(RESEND_EVERY, self._spread_again)
        return submission.height

    def _pass_on(self) -> None:
        """All that was offered in one turn of the loop goes on together; when it was much, what follows is gathered."""
        offered, self._offered = self._offered, []
        if len(offered) >= MANY:
            self._next_pass = asyncio.get_running_loop().time() + GATHER
        if self._chain() is not None:
            self._heard(OWN_CLIENT, offered)
            if self._broadcast:
                self._spread(offered, self._members())
            with self._shielded(OWN_CLIENT):
                self._command(offered)

    def _spread(self, raws: list[bytes], hosts: Iterable[str]) -> None:
        for start in range(0, len(raws), SPREAD):
            message = codec.encode(raws[start : start + SPREAD])
            for host in hosts:
                self._send(host, message)

    def _spread_again(self) -> None:
        self._resend = None
        if self._submissions:
            self._spread(self._submissions.next_to_repeat(SPREAD), self._members())  # all would choke a busy chain
            self._resend = asyncio.get_running_loop().call_later(RESEND_EVERY, self._spread_again)

    def linked(self, host: str) -> None:
        """A member that may have missed what was sent."""
        self._spread(self._submissions.raws(), [host])

    # Peers

    def receive(self, sender: str, message: bytes) -> None:
        """What `_spread` sent there. Raises PeerFault."""
        self.put(sender, codec.decode(message, _Spread, sender))

    def put(self, sender: str, raws: Sequence[bytes]) -> None:
        """Refusing one tells nobody: its client waits elsewhere. What is dropped costs no work, not even a hash."""
        fitting = raws[: self._intake.room(sender)]
        self._heard(sender, fitting)
        self._intake.put(sender, fitting)

    def _admit(self, sender: str, raws: list[bytes]) -> None:
        chain = self._chain()
        if chain is not None:
            with self._shielded(sender):
                if taken := [raw for raw in raws if self._take(chain, sender, raw)]:
                    self._command(taken)

    def _take(self, chain: Chain, sender: str, raw: bytes) -> bool:
        if raw in chain.mempool:
            return False
        try:
            chain.take(raw, sender)
        except PeerFault as fault:
            self._blame(fault)
        except (Misuse, Unavailable) as refusal:
            log.debug("%s: a transaction from %s is not taken: %s", self._host, sender, refusal)
        else:
            return True
        return False

    # What became of them

    def final(self, block: Block) -> None:
        """`block` is durable. Those that can no longer run are told so soon, not left to wait."""
        self._submissions.final(block)
        if self._review is None and self._submissions:
            self._review = asyncio.get_running_loop().call_later(REVIEW_EVERY, self._review_all)

    def _review_all(self) -> None:
        self._review = None
        chain = self._chain()
        if chain is None or not self._submissions:
            return
        if chain.best is not self._final():  # its newest block is not durable yet
            self._review = asyncio.get_running_loop().call_later(REVIEW_EVERY, self._review_all)
            return
        for transaction in self._submissions.review(chain.nonce, chain.refusal):
            chain.drop(transaction)

    def take_again(self, chain: Chain) -> None:
        """`chain` is new in the place of the one that took them."""
        self._submissions.review(chain.nonce, chain.refusal)
        for raw in self._submissions.raws():
            with suppress(PlatformError):
                chain.take(raw, OWN_CLIENT)

    def give_up(self, reason: Unavailable) -> None:
        """Takes nothing any more; whoever waits hears `reason`."""
        self._intake.clear()
        for timer in (self._resend, self._review):
            if timer is not None:
                timer.cancel()
        self._submissions.give_up(reason)

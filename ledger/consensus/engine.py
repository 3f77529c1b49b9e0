"""The contract that every consensus engine keeps: command, message or tick in, effects out. Pure.

An engine reads no clock and does no I/O: `now` is an argument (seconds; only differences matter),
`wall` is the time that goes into block headers (milliseconds since 1970), effects are returned. The edge
(ledger.replica, or ledger.simulation) performs them in order, and no Send leaves before every Persist and
Decide ahead of it in the order is durable.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ledger.block import Block
from ledger.certificate import Certificate, Members
from ledger.identity import Signed

RESTORED = "restored"
"""A key of what is persisted that the edge writes too, with no value: the data is an old copy of itself, or what this
host signed is lost. An engine that finds it signs nothing before the chain is beyond what it may have signed."""


class Persist(msgspec.Struct, frozen=True):
    """Keep `value` under `key` (None: forget it); what is kept comes back to the engine after a restart."""

    key: str
    value: bytes | None


class Send(msgspec.Struct, frozen=True):
    """A message to one member, or to all others (`to` is None). It may be lost, doubled or delayed."""

    to: str | None
    message: bytes


class Decide(msgspec.Struct, frozen=True):
    """A block is final. The edge writes block, certificate, state and head, and `forget`, in one transaction."""

    block: Block
    certificate: Certificate
    forget: tuple[str, ...] = ()


class WakeAt(msgspec.Struct, frozen=True):
    """Call `tick` at `time` at the latest; the newest WakeAt replaces the one before."""

    time: float


class Serve(msgspec.Struct, frozen=True):
    """Send the decided blocks `first`..`last` with their certificates to `to` (the engine keeps no history)."""

    to: str
    first: int
    last: int


class Accuse(msgspec.Struct, frozen=True):
    """`host` signed two different things where the rule allows one. Both signatures, for `domain`, were verified.

    The edge keeps it as evidence that anyone can check: see ledger.evidence, which knows the domains.
    """

    host: str
    domain: str
    first: Signed
    second: Signed


class Admit(msgspec.Struct, frozen=True):
    """A peer passed on a client's transaction: the edge offers it to the mempool; if taken, it calls `command`."""

    sender: str
    transaction: bytes


Effect = Persist | Send | Decide | WakeAt | Serve | Accuse | Admit


class Chain(Protocol):
    """What an engine needs to know of the state: ledger.chain.Chain in production, and in the simulator."""

    @property
    def best(self) -> Block: ...

    def members(self) -> Members:
        """Those who decide height best + 1."""

    def build(self, wall: int, proposer: str) -> Block | None:
        """A fresh block on the best one from what waits in the mempool; None when nothing can run."""

    def backlog(self) -> float:
        """What waits in the mempool, in blocks: 1.0 fills one."""

    def first_in_line(self) -> Sequence[bytes]:
        """Of each account the waiting transaction that has its next nonce."""

    def can_run(self, transaction: bytes) -> bool:
        """Whether one of those could run on the state as it is."""

    def has_room(self, block: Block) -> bool:
        """Whether whoever built `block` could well have put more into it."""

    def check(self, block: Block) -> str | None:
        """Why `block` is no valid successor of the best one (None: it is valid). Clocks are the engine's matter."""

    def append(self, block: Block, certificate: Certificate) -> None:
        """Makes `block` the best. Raises Misuse if it does not fit."""


class Engine(Protocol):
    @property
    def votes(self) -> bool:
        """Whether this host votes on the next height: it has a seat, and its data is no old copy of itself."""

    @property
    def pledged(self) -> Block | None:
        """The block of the next height that this host would help to decide: others may have decided it already."""

    def start(self, now: float, wall: int) -> list[Effect]:
        """Once, after construction from what was persisted."""

    def command(self, transactions: Sequence[bytes], now: float, wall: int) -> list[Effect]:
        """Clients' transactions that the mempool has taken."""

    def message(self, sender: str, message: bytes, now: float, wall: int) -> list[Effect]:
        """A message that the link says came from `sender`. Raises PeerFault for one that must not be sent."""

    def tick(self, now: float, wall: int) -> list[Effect]: ...

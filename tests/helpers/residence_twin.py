"""The ledger of residences without a chain: all hosts' entries in one place, final at once. And a lease for ever."""

from collections.abc import Callable, Mapping
from typing import Any

from ledger import codec
from ledger.contracts import losses, owners
from ledger.contracts.losses import Declaration, Declare
from ledger.contracts.residence import (
    FOUND,
    MOVE,
    Abort,
    End,
    Forgo,
    Found,
    Move,
    Passage,
    Residence,
    Statement,
    subject,
)
from ledger.errors import Misuse, Unavailable
from ledger.identity import Identity
from tests.helpers.linked_hosts import CHAIN, identity

OWNER = Identity(b"owner".ljust(32, b"."))  # of all agents


class Entries:
    def __init__(self) -> None:
        self.known: dict[bytes, Residence] = {}
        self.quorum = True
        self.late: list[tuple[str, Any]] = []  # submitted without a quorum: any of them may be decided yet
        self.followers: dict[str, Callable[[], None]] = {}  # host -> its Residences.follow
        self.declared: dict[bytes, Declaration] = {}  # by digest of the agent's id
        self.members: set[str] = set()  # hosts that have to sign a declaration

    def decide(self, caller: str, action: Any) -> None:
        """As ledger.contracts.residence, for what these tests do."""
        if isinstance(action, Move):
            self._move(caller, action)
            return
        place = subject(action.owner, action.agent) if isinstance(action, Found | Forgo) else action.subject
        now = self.known.get(place)
        if isinstance(action, Found | Forgo):
            if now is not None and (now.host or now.epoch >= action.epoch):
                raise Misuse("this comes too late or too early")
            said = Statement(CHAIN, FOUND, place, action.epoch, "", action.host)
            if caller != action.host or action.owner_signature != OWNER.sign(owners.DOMAIN, codec.encode(said)):
                raise Misuse("the owner did not sign this")
            host = action.host if isinstance(action, Found) else ""
            self.known[place] = Residence(action.owner, action.epoch, host, (), 1)
            return
        if now is None or (now.host, now.epoch + 1) != (caller, action.epoch):
            raise Misuse("this comes too late or too early")
        to = "" if isinstance(action, End) else caller
        self.known[place] = Residence(now.owner, action.epoch, to, (), 1)

    def _move(self, caller: str, action: Move) -> None:
        """All of it or nothing."""
        entered = dict[bytes, Residence]()
        for part in action.parts:
            for going in part.agents:
                now = self.known.get(going.subject)
                if now is None or (now.host, now.epoch + 1) != (part.source, going.epoch):
                    raise Misuse("this comes too late or too early")
                entered[going.subject] = Residence(now.owner, going.epoch, action.destination, (), 1, part.transfer)
        said = Passage(CHAIN, MOVE, action.destination, action.parts)
        sources = [part.source for part in action.parts]
        signatures = (*action.source_signatures, action.destination_signature)
        signed = zip((*sources, action.destination), signatures, strict=True)
        for host, signature in signed:
            if signature != said.sign(identity(host)) and (signature or host != caller):
                raise Misuse(f"{host} did not sign this")
        self.known |= entered

    def declare(self, caller: str, action: Declare) -> None:
        """As ledger.contracts.losses, for what these tests do."""
        said = losses.Statement(CHAIN, action.transfer, action.source, caller, action.copies)
        for host in self.members - {caller}:
            if dict(action.signatures).get(host) != said.sign(identity(host)):
                raise Misuse(f"{host} did not sign this")
        for copy in action.copies:
            before = self.declared.get(copy.agent)
            if copy.since != (0 if before is None else before.epoch) or copy.epoch <= copy.since:
                raise Misuse("this comes too late")
            self.declared[copy.agent] = Declaration(copy.epoch, action.source, caller, action.transfer, 1)

    def follow(self) -> None:
        for follow in list(self.followers.values()):
            follow()


class LedgerTwin:
    """Implements agentplatform.custody.residences.Ledger and custody.declarations.Chain."""

    def __init__(self, host: str, entries: Entries) -> None:
        self._host, self._entries = host, entries

    def find(self, subject: bytes) -> Residence | None:
        return self._entries.known.get(subject)

    async def submit(self, action: Found | Forgo | Move | Abort | End) -> None:
        if not self._entries.quorum:
            self._entries.late.append((self._host, action))
            raise Unavailable("there is no quorum")
        self._entries.decide(self._host, action)
        self._entries.follow()

    def declaration(self, agent: bytes) -> Declaration | None:
        return self._entries.declared.get(agent)

    def declarations(self) -> int:
        return len(self._entries.declared)

    def signers(self) -> Mapping[str, bytes | None]:
        return {host: identity(host).public for host in sorted(self._entries.members - {self._host})}

    async def declare(self, action: Declare) -> None:
        self._entries.declare(self._host, action)
        self._entries.follow()


class Lease:
    """Implements agentplatform.custody.keeper.Leases."""

    until: float | None = float("inf")

    def keep(self, observer: Callable[[bool], None]) -> None:
        observer(True)

"""Held custody's edge to the ledger: signs and submits entries, and tells the machine what the chain says."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

from msgspec.structs import replace

from agentplatform.custody.convoys import Convoys, part_of
from agentplatform.custody.events import Decided, Event, GiveUp
from agentplatform.custody.messages import Accept, Cargo
from agentplatform.custody.state import Custody
from agentplatform.parcel.manifest import Birth, agent_digest
from ledger import codec
from ledger.contracts import owners, residence
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
)
from ledger.errors import Misuse, PlatformError
from ledger.identity import Identity, verify

log = logging.getLogger(__name__)


class Ledger(Protocol):
    def find(self, subject: bytes) -> Residence | None:
        """As this host's chain has it now."""

    def submit(self, action: Any) -> Awaitable[object]:
        """Signed with this host's key; done when it is final. Raises Misuse when the contract refuses, Unavailable when
        it is not known what came of it."""


def subject_of(owner: bytes, agent: str) -> bytes:
    return residence.subject(owner, agent_digest(agent))


def consent(chain: bytes, owner: Identity, agent: str, host: str, epoch: int = 0) -> bytes:
    """The owner's signature for an agent that is to come into held custody on `host`, at its birth or at `epoch`."""
    subject = subject_of(owner.public, agent)
    return Statement(chain, FOUND, subject, epoch, "", host).sign(owner, owners.DOMAIN)


class Residences:
    def __init__(
        self,
        host: str,
        identity: Identity,
        chain: bytes,
        ledger: Ledger,
        machine: Custody,
        step: Callable[[Event], None],
        key_of: Callable[[str], bytes | None],
    ) -> None:
        self._host, self._identity, self._chain = host, identity, chain
        self._ledger, self._machine, self._step = ledger, machine, step
        self._promises: dict[bytes, bytes] = {}  # transfer -> its destination's signature
        self._asking: set[bytes] = set()  # entries on their way to the ledger
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: dict[str, Decided] = {}  # agent -> what the machine heard last
        self.convoys = Convoys(host, identity, chain, machine, step, ledger.find, self.submit, key_of)
        self._unopened = set(machine.arriving)  # transfers that a restart has still to open again

    # The beginning

    async def found(self, birth: Birth, consent: bytes) -> bytes:
        """The agent comes under held custody here, before it is created. Returns its subject. Raises PlatformError."""
        await self._ledger.submit(self._found(birth, 0, consent))
        return subject_of(birth.owner, birth.agent)

    def entry(self, birth: Birth, epoch: int, consent: bytes) -> bytes:
        """What the ledger is asked for that a resident agent be in held custody from `epoch` on. Raises Misuse when its
        owner did not sign for that."""
        subject = subject_of(birth.owner, birth.agent)
        said = Statement(self._chain, FOUND, subject, epoch, "", self._host)
        if not verify(birth.owner, owners.DOMAIN, codec.encode(said), consent):
            raise Misuse(
                f"the owner of {birth.agent} did not sign that it be in held custody on {self._host} from epoch {epoch}"
                " on; a signature is for one host and epoch: if the agent moved meanwhile, let the owner sign again"
            )
        return codec.encode(self._found(birth, epoch, consent))

    def _found(self, birth: Birth, epoch: int, consent: bytes) -> Found:
        return Found(birth.owner, agent_digest(birth.agent), epoch, self._host, consent, b"")

    # Handoffs

    def unfit(self, source: str, load: Cargo, birth: Birth) -> str | None:
        """Why an offer does not go with what the ledger says, if so."""
        subject = subject_of(birth.owner, birth.agent)
        now = self._ledger.find(subject)
        if not load.held:
            if now is not None and now.host:
                return f"the ledger says that {load.agent} is in held custody on {now.host}, at epoch {now.epoch}"
            return None
        if load.subject != subject:
            return f"{load.agent} stands under another subject on the ledger than its offer says"
        if now is None or (now.host, now.epoch + 1) != (source, load.epoch):
            known = "nothing" if now is None else f"epoch {now.epoch} on {now.host or 'no host'}"
            return f"the ledger does not say here that {load.agent} is on {source} at epoch {load.epoch - 1}: {known}"
        return None

    def promise(self, source: str, message: Accept) -> Accept:
        """With this host's signature for the entry: RECEIVED is durable [H3]. For a convoy it asks by itself."""
        held = self._machine.arriving.get(message.transfer)
        if held is None or self.convoys.received(message.transfer):
            return message
        said = Passage(self._chain, MOVE, self._host, (part_of(source, message.transfer, held.cargo),))
        return replace(message, promise=said.sign(self._identity))

    def promised(self, message: Accept) -> None:
        if message.transfer in self._machine.leaving:
            self._promises[message.transfer] = message.promise

    def ask(self, transfer: bytes, to: str, cargo: tuple[Cargo, ...], entry: bytes) -> None:
        """This host signs by submitting: PREPARE, or CONVERT, is durable [H2]."""
        promise = self._promises.get(transfer)
        if to == self._host:
            (load,) = cargo
            change = codec.decode(entry, Found) if entry else End(load.subject, load.epoch, b"")
            self.submit(change, lambda reason: self._step(GiveUp(transfer, reason)))
        elif promise:  # else its destination asks for the convoy that it is a part of
            self.submit(Move(to, (part_of(self._host, transfer, cargo),), (b"",), promise))

    def withdraw(self, transfer: bytes, cargo: tuple[Cargo, ...], entry: bytes) -> None:
        self._promises.pop(transfer, None)
        if entry:
            found = codec.decode(entry, Found)
            signed = found.owner_signature
            self.submit(Forgo(found.owner, found.agent, found.epoch, found.host, signed, b""))
        else:
            for load in cargo:
                self.submit(Abort(load.subject, load.epoch, b""))

    def dismiss(self, subject: bytes, epoch: int) -> None:
        self.submit(End(subject, epoch, b""))

    def submit(self, action: Any, refused: Callable[[str], None] = lambda reason: None) -> None:
        """What comes of it comes from the chain, here and where the agent goes. The machine asks again."""
        key = codec.digest("agentplatform/asking", codec.encode(action))
        if key in self._asking:
            return
        self._asking.add(key)

        async def submit() -> None:
            try:
                await self._ledger.submit(action)
            except Misuse as error:  # as a rule it was decided already
                log.info("the ledger refused a %s: %s", type(action).__name__, error)
                self.follow()
                refused(str(error))
            except PlatformError as error:
                log.warning("a %s is not on the ledger yet: %s", type(action).__name__, error)
            finally:
                self._asking.discard(key)
            self.follow()

        task = asyncio.ensure_future(submit())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The chain

    def follow(self) -> None:
        """Tells the machine what is new. Call it for every block, and at a start before any agent runs."""
        self._unopened &= self._machine.arriving.keys()
        unopened = {load.agent for each in self._unopened for load in self._machine.arriving[each].cargo}
        words = []
        for agent, subject in self._concerned():
            # Of one that is not opened there is nothing yet that could be activated.
            now = None if agent in unopened else self._ledger.find(subject)
            if now is not None:
                words.append(Decided(agent, now.epoch, now.host, now.transfer))
        words.sort(key=lambda word: word.transfer != self._machine.arriving_by.get(word.agent))
        for word in words:
            if self._told.get(word.agent) != word:
                self._told[word.agent] = word
                self._step(word)
        self.convoys.follow()

    def opened(self, transfer: bytes) -> None:
        """After a restart: its copies are there again, and the ledger's word on them counts."""
        self._unopened.discard(transfer)
        self.follow()

    def _concerned(self) -> Iterator[tuple[str, bytes]]:
        machine = self._machine
        for known in machine.agents.values():
            if known.held and (known.here or known.agent in machine.ended):
                yield known.agent, known.subject
        for held in (*machine.leaving.values(), *machine.arriving.values()):
            if held.by_ledger:
                yield from ((load.agent, load.subject) for load in held.cargo)

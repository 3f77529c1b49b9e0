"""The beginning and the end of a life in custody here, and how it is with an agent in between."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, Protocol

from agentplatform.custody import events
from agentplatform.custody.arrivals import Arrivals
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.copies.vault import Checkpoint
from agentplatform.custody.departures import Departures
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.journal import Journal
from agentplatform.custody.keeper import Keeper
from agentplatform.custody.messages import Cargo
from agentplatform.custody.records import Beginning
from agentplatform.custody.reopening import Reopening
from agentplatform.custody.residences import Residences, subject_of
from agentplatform.custody.residents import Residents
from agentplatform.custody.surroundings import Surroundings
from agentplatform.lifecycle import Event
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Arrival, Custody, Mover
from agentplatform.parcel.manifest import (
    TRANSFER_BYTES,
    Birth,
    certify_clone,
    code_digest,
    open_birth,
    open_certificate,
)
from agentplatform.runners.base import Runner
from ledger import codec
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable
from ledger.identity import Identity

LEASE_PATIENCE = 10.0  # seconds for the lease of an agent that is to be in held custody


class Child(NamedTuple):
    """A clone that is not born yet."""

    certificate: bytes
    subject: bytes = b""  # held custody: as in Cargo


class Perform(Protocol):
    def __call__(
        self, effects: Iterable[events.Effect], beside: tuple[bytes, ...] = (), parent: str | None = None
    ) -> None:
        """Performs what the machine decided. `beside`: what is kept with its record; `parent`: of a clone."""


class Lifetimes:
    def __init__(
        self,
        host: str,
        identity: Identity,
        chain: bytes,
        machine: Handoff,
        perform: Perform,
        log_end: Callable[[], Awaitable[None]],
        residents: Residents,
        departures: Departures,
        arrivals: Arrivals,
        reopening: Reopening,
        residences: Residences,
        keeper: Keeper,
        replication: Replication,
        journal: Journal,
        gateway: Gateway,
        mailroom: Mailroom,
        runner: Runner,
        surroundings: Surroundings,
    ) -> None:
        """`log_end` waits until all that was handed to the log is durable."""
        self._host, self._identity, self._chain = host, identity, chain
        self._machine, self._perform, self._log_end = machine, perform, log_end
        self._residents, self._departures, self._arrivals = residents, departures, arrivals
        self._reopening, self._residences, self._keeper = reopening, residences, keeper
        self._replication, self._journal, self._gateway = replication, journal, gateway
        self._mailroom, self._runner = mailroom, runner
        self._surroundings = surroundings
        self._ending: set[str] = set()  # agents that are disposed of

    # The beginning

    async def create(self, certificate: bytes, code: bytes, init: bytes, consent: bytes = b"") -> Birth:
        """A new agent, born here; `consent` is its owner's, for held custody (residences.consent). Raises PeerFault for
        a false certificate, Misuse with the agent's own error."""
        birth = open_birth(certificate, "the client")
        if code_digest(code) != birth.code:
            raise PeerFault("the client", f"sent other code than the birth certificate of {birth.agent} names")
        if birth.agent in self._machine.agents:
            raise Misuse(f"{birth.agent} was on {self._host} before: an agent's id is never used again")
        self._check_open()
        self._check_room()
        if birth.custody == "held":
            await self._replication.findable(birth)
        subject = await self._found(birth, consent) if birth.custody == "held" else b""
        try:
            await self._runner.create(birth, code, init, Arrival(self._host, 0, None))
            try:
                self._check_open()  # it may be closed meanwhile
            except Unavailable:
                self._runner.discard(birth.agent)
                raise
        except PlatformError:
            if subject:
                self._residences.dismiss(subject, 1)
            raise
        self._residents.keep_code(birth.code, code)
        self._journal.owned(birth.agent, birth.owner)
        born = self._machine.step(events.Created(birth.agent, subject))
        self._perform(born, beside=(codec.encode((certificate, init)),))
        self._residents.born(birth, certificate)
        self._gateway.release(birth.agent, lambda: self._surroundings.located(birth.agent, 0, self._host))
        await self._log_end()
        await self._replication.ready(birth.agent)
        return birth

    def _check_open(self) -> None:
        if (closed := self._surroundings.closed()) is not None:
            raise Unavailable(f"{closed} and takes no new agents; name another host, or try again when it is open")

    def _check_room(self) -> None:
        if (shortage := self._surroundings.shortage()) is not None:
            raise Unavailable(f"{self._host} takes no new agents: {shortage}", retry_after=1.0)

    async def _found(self, birth: Birth, consent: bytes) -> bytes:
        """Before anything of it runs: the ledger has it here, and this host has a lease."""
        subject = await self._residences.found(birth, consent)
        await self._keeper.granted()
        return subject

    async def conceive(self, agent: str, salt: bytes = b"", consent: bytes = b"") -> Child:
        """The certificate of a clone that is to be made of a resident agent. With its owner's `consent` (to the agent
        that `salt` makes, here) the clone of one in held custody begins in that too: the ledger has it when this
        returns. Either `clone` it or `forsake` it. Raises Misuse and Unavailable."""
        held = bool(consent) and self._machine.custody(agent) == "held"
        salt = salt if held else os.urandom(TRANSFER_BYTES)  # an id that the ledger does not know is drawn here
        certificate = self._residents.known[agent].certificate
        certificate = certify_clone(certificate, agent, salt, self._chain, self._host, self._identity)
        if not held:
            return Child(certificate)
        birth = open_certificate(certificate, self._host)
        self._residences.entry(birth, 0, consent)
        await self._replication.findable(birth)
        return Child(certificate, await self._found(birth, consent))

    def forsake(self, child: Child) -> None:
        """It is not born."""
        if child.subject:
            self._residences.dismiss(child.subject, 1)

    async def clone(self, agent: str, child: Child | None = None) -> str:
        """Makes another agent of a resident one, from its last checkpoint, and returns its id. It has lived here from
        epoch 0 on when this returns. Raises Misuse when `agent` is not here, or on its way, and Unavailable when the
        clone cannot be opened; then nothing is left of it."""
        return await asyncio.shield(asyncio.ensure_future(self._clone(agent, child)))  # also when the caller gives up

    async def _clone(self, agent: str, child: Child | None) -> str:
        if child is None:
            self._machine.free(agent)
            child = await self.conceive(agent)
        birth = open_certificate(child.certificate, self._host)
        try:
            self._machine.free(agent)
            self._check_open()
            self._check_room()
            born = self._machine.step(events.Created(birth.agent, child.subject))
        except PlatformError:
            self.forsake(child)
            raise
        self._journal.owned(birth.agent, birth.owner)
        self._perform(born, (codec.encode((child.certificate, b"")),), parent=agent)
        if not await self._reopening.reopen(birth.agent, Event.CLONED):
            self._perform(self._machine.step(events.Disposed(birth.agent)))
            raise Unavailable(f"the clone of {agent} could not be opened; see the log of {self._host}", retry_after=1.0)
        return birth.agent

    async def copied(self, agent: str) -> None:
        """Until its holders have it, if it has any."""
        await self._replication.ready(agent)

    def free_for(self, agent: str) -> bool:
        """Whether it may go on here from a checkpoint: no other copy of it is in custody here."""
        machine = self._machine
        return machine.here(agent) is None and agent not in machine.leaving_by and agent not in machine.arriving_by

    async def rehome(self, agent: str, epoch: int, subject: bytes, found: Checkpoint) -> None:
        """The ledger gave it to this host, which has its checkpoint. Returns when that is in the journal."""
        birth = open_certificate(found.certificate, "the copies")
        self._keeper.want()
        self._residents.keep_code(birth.code, found.code)
        self._journal.owned(agent, birth.owner)
        self._journal.adopt(agent, found.rows)
        beginning = Beginning(found.certificate, found.init, found.luggage)
        self._perform(self._machine.step(events.Rehomed(agent, epoch, subject)), beside=(codec.encode(beginning),))
        await self._log_end()

    # The end

    async def dispose(self, agent: str) -> None:
        """Ends a resident agent, after its `on_disposing`. Raises Misuse if it is not here, or on its way."""
        await asyncio.shield(asyncio.ensure_future(self._dispose(agent)))  # also when the caller gives up

    async def _dispose(self, agent: str) -> None:
        if agent not in self._machine.quarantined:
            self._machine.cargo([agent])
        if agent in self._residents.known:
            await self._reopening.dormitory.awake(agent)
            await self._end(agent)
        self.ended(agent)
        await self._log_end()

    async def _end(self, agent: str) -> None:
        self._ending.add(agent)
        self._mailroom.pause(agent)
        try:
            await self._runner.dispose(agent)
        except PlatformError:
            if agent in self._residents.known:  # it did not die meanwhile
                self._mailroom.reopen(agent)
            raise
        finally:
            self._ending.discard(agent)

    def ended(self, agent: str) -> None:
        """A resident agent is gone from its worker for good."""
        if self._machine.here(agent) is None:
            return
        self._perform(self._machine.step(events.Disposed(agent)))
        self._reopening.dormitory.forget(agent)
        self._residents.forget(agent)

    def died(self, agent: str) -> str:
        """The worker of an agent ended. Returns what becomes of the agent, for people to read."""
        epoch = self._machine.here(agent)
        if epoch is None:
            self._arrivals.died(agent)
            return "its copy here was inert"
        if self._reopening.died(agent):
            return "it was only being opened, and stays on the disk"
        if self._departures.died(agent) or agent in self._reopening.dormitory.asleep:
            return "its state was captured before"
        resident = self._residents.known.get(agent)
        if resident is None:
            return "it did not live there yet, and stays on the disk"
        if agent in self._ending or not resident.birth.kept:
            self.ended(agent)
            return "it has ended"
        self._residents.forget(agent)
        return self._reopening.revive(agent)

    # In between

    async def change_custody(self, agent: str, custody: Custody, consent: bytes, by: Mover, why: str) -> None:
        """Has the ledger put a resident agent into `custody` here, from its next epoch on; `consent` is its owner's,
        for held custody (residences.consent). Returns when it goes on in that, and its holders have it; for one that
        is in it already, at once. Raises Misuse for what cannot be, Unavailable when it goes on as it was."""
        epoch = self._machine.free(agent)
        if self._machine.custody(agent) == custody:
            return
        self._check_room()
        birth, entry = self._residents.known[agent].birth, b""
        if custody == "held":
            entry = self._residences.entry(birth, epoch + 1, consent)
            await self._replication.findable(birth)
            await self._leased(agent)
        await self._reopening.dormitory.awake(agent)
        load = Cargo(agent, epoch + 1, subject_of(birth.owner, agent))
        await self._departures.convert(load, entry, by, why)
        await self._log_end()
        await self._replication.ready(agent)

    async def _leased(self, agent: str) -> None:
        """Who could not run in held custody does not come into it."""
        try:
            async with asyncio.timeout(LEASE_PATIENCE):
                await self._keeper.granted()
        except TimeoutError:
            raise Unavailable(
                f"{agent} stays in local custody: {self._host} has no lease from a quorum of the members after"
                f" {LEASE_PATIENCE:g} s; see to the members, then ask again",
                retry_after=LEASE_PATIENCE,
            ) from None

    async def activate(self, agent: str) -> None:
        """Wakes a resident that is deactivated, or opens one again that is stranded. Does nothing for one that runs.
        Raises Misuse when it is not here, Unavailable when it cannot be opened, or this host is closed."""
        if (closed := self._surroundings.closed()) is not None and self.state_of(agent) != "runs":
            go_on = "name a host where it can go on (agentplatform dispatch), or try again when it is open"
            raise Unavailable(f"{closed}, so {agent} stays as it is; {go_on}")
        if self._machine.here(agent) is None or agent in self._machine.quarantined:
            self._machine.free(agent)
        if agent in self._residents.known:
            await self._reopening.dormitory.awake(agent)
        elif not await self._reopening.reopen(agent, Event.ARRIVE) and agent not in self._residents.known:
            raise Unavailable(f"{agent} could not be opened; see the log of {self._host}", retry_after=1.0)

    async def owner_of(self, agent: str) -> bytes | None:
        """The key that owns an agent in custody here; None when it is not."""
        if (resident := self._residents.known.get(agent)) is not None:
            return resident.birth.owner
        known = self._machine.agents.get(agent)
        return (await self._arrivals.birth_of(agent, known.kept)).owner if known is not None and known.here else None

    def state_of(self, agent: str) -> str | None:
        """How it is with an agent, for people: runs, on its way, deactivated, quarantined, stranded (in custody, not
        opened); None: not here."""
        if self._machine.here(agent) is None:
            return None
        if agent in self._machine.quarantined:
            return "quarantined"
        if agent not in self._residents.known:
            return "stranded"
        if agent in self._reopening.dormitory.asleep:
            return "deactivated"
        return "on its way" if self._departures.moving(agent) else "runs"

"""The edge of the handoff: freezes, packs, sends, opens, and performs what the pure machine decides.

One instance serves all transfers of a host, in both directions. Everything here runs on the event loop.
"""

import asyncio
import logging
import os
import platform
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from agentplatform.custody import events
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Accept, Cargo, HandoffMessage, Notice, Offer, Refuse
from agentplatform.custody.records import BIRTH, Active, Closed, Prepare, Received, Record
from agentplatform.mail import Letter, Luggage
from agentplatform.mailroom import Mailroom
from agentplatform.parcel.manifest import (
    TRANSFER_BYTES,
    Birth,
    Manifest,
    Parcel,
    code_digest,
    luggage_digest,
    open_birth,
    open_parcel,
    sign_manifest,
    state_digest,
)
from agentplatform.runners.base import Arrival, Runner
from agentplatform.settings import Handoff as Deadlines
from ledger import codec
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable
from ledger.identity import Identity, Signed
from services.tms.verdicts import Verdict

log = logging.getLogger(__name__)
_MESSAGE: Any = HandoffMessage
PYTHON = ".".join(platform.python_version_tuple()[:2])


class Resident(msgspec.Struct, frozen=True):
    """An agent that lives here."""

    birth: Birth
    certificate: bytes  # the birth certificate, encoded and signed
    since: float  # seconds since 1970


class Hop(msgspec.Struct, frozen=True):
    """One completed handoff, as its source saw it."""

    transfer: bytes
    cargo: tuple[Cargo, ...]
    manifests: tuple[bytes, ...]  # signed, in the order of the cargo: what the ledger's record is a digest of
    source: str
    destination: str
    why: str
    bytes: int  # of the offer
    downtime_ms: float  # from the freeze to the destination's word that they run: an upper bound
    at: float  # seconds since 1970


class Surroundings(Protocol):
    """What the handoff asks of the rest of the host (the composition root provides it)."""

    def send(self, host: str, message: bytes) -> bool:
        """Over the link; False when there is none now."""

    def verdict(self, host: str) -> Verdict:
        """The TMS's."""

    def key_of(self, host: str) -> bytes | None:
        """The registry's."""

    def shortage(self, state_bytes: int) -> str | None:
        """What this host lacks to take that much (the RMS's word), or None."""

    def located(self, agent: str, epoch: int, host: str) -> None:
        """An agent is on `host` now; "" means that it ended."""

    def hopped(self, hop: Hop) -> None:
        """A handoff from here was completed."""


class _Journey(msgspec.Struct):
    """What the edge keeps of a transfer that leaves."""

    to: str
    cargo: tuple[Cargo, ...]
    parcels: tuple[Parcel, ...]
    why: str
    frozen_at: float
    outcome: "asyncio.Future[Hop]"
    size: int = 0  # bytes of the offer
    mail: tuple[bytes, ...] | None = None  # of its notice; the same in every repeat [L6]


class _Guest(msgspec.Struct):
    """What the edge keeps of one agent that arrives."""

    birth: Birth
    certificate: bytes
    luggage: Luggage


class Carrier:
    def __init__(
        self,
        host: str,
        identity: Identity,
        chain: bytes,
        machine: Handoff,
        journal: Journal,
        gateway: Gateway,
        mailroom: Mailroom,
        runner: Runner,
        surroundings: Surroundings,
        deadlines: Deadlines,
    ) -> None:
        self.host = host
        self.machine = machine
        self.residents: dict[str, Resident] = {}
        self._identity, self._chain = identity, chain
        self._journal, self._gateway, self._mailroom, self._runner = journal, gateway, mailroom, runner
        self._surroundings, self._deadlines = surroundings, deadlines
        self._journeys: dict[bytes, _Journey] = {}
        self._parcels: dict[bytes, tuple[Parcel, ...]] = {}  # offered to us, until RECEIVED is written
        self._guests: dict[bytes, dict[str, _Guest]] = {}  # transfers that arrive
        self._known_code: dict[str, set[bytes]] = {}  # what a host has, as far as its answers tell
        self._code: dict[bytes, bytes] = {}  # bundles seen since the start, by digest
        self._tasks: set[asyncio.Task[None]] = set()

    def state_of(self, agent: str) -> str | None:
        """How it is with an agent, for people: runs, on its way, stranded (in custody, not opened); None: not here."""
        if self.machine.here(agent) is None:
            return None
        if agent not in self.residents:
            return "stranded"
        moving = any(load.agent == agent for journey in self._journeys.values() for load in journey.cargo)
        return "on its way" if moving else "runs"

    # The beginning and the end of a life

    async def create(self, certificate: bytes, code: bytes, init: bytes) -> Birth:
        """A new agent, born here. Raises PeerFault for a false certificate, Misuse with the agent's own error."""
        birth = open_birth(certificate, "the client")
        if code_digest(code) != birth.code:
            raise PeerFault("the client", f"sent other code than the birth certificate of {birth.agent} names")
        if birth.agent in self.machine.agents:
            raise Misuse(f"{birth.agent} was on {self.host} before: an agent's id is never used again")
        await self._runner.create(birth, code, init, Arrival(self.host, 0, None))
        self._keep_code(birth.code, code)
        self._perform(self.machine.step(events.Created(birth.agent)), beside=(codec.encode((certificate, init)),))
        self._settle(birth, certificate, 0, Luggage(), ())
        return birth

    async def dispose(self, agent: str) -> None:
        """Ends a resident agent, after its `on_disposing`."""
        self.machine.cargo([agent])  # raises Misuse if it is not here, or on its way
        self._mailroom.close(agent)
        try:
            await self._runner.dispose(agent)
        except PlatformError:
            self._mailroom.reopen(agent)
            raise
        self.ended(agent)

    def ended(self, agent: str) -> None:
        """A resident agent is gone from its worker: it disposed of itself, or its worker died."""
        epoch = self.machine.here(agent)
        if epoch is None:
            return
        self._perform(self.machine.step(events.Disposed(agent)))
        self._forget(agent)
        self._surroundings.located(agent, epoch, "")

    def _settle(
        self, birth: Birth, certificate: bytes, epoch: int, luggage: Luggage, waiting: Iterable[Letter]
    ) -> None:
        self.residents[birth.agent] = Resident(birth, certificate, time.time())
        self._surroundings.located(birth.agent, epoch, self.host)
        self._mailroom.admit(birth.agent, epoch, luggage, waiting)

    def _forget(self, agent: str) -> None:
        self.residents.pop(agent, None)
        self._mailroom.remove(agent)

    # A departure

    async def depart(
        self, agents: Sequence[str], to: str, why: str, captured: Mapping[str, bytes] | None = None
    ) -> Hop:
        """Moves resident agents to `to` as one: all arrive, or all stay. Returns when they run there.

        `captured` has the states of agents that asked to go and are frozen already. When they stay, they go on with
        `on_move_failed`, and the reason is raised: Misuse for what cannot be asked, Unavailable for what went wrong.
        """
        frozen_at = time.monotonic()
        states = dict(captured or {})
        try:
            cargo = self.machine.cargo(agents)
            self._check_destination(to)
            states |= await self._capture([agent for agent in agents if agent not in states], to)
            # The freeze took a while: ask again what may have changed.
            cargo = self.machine.cargo(agents)
            self._check_destination(to)
        except PlatformError as error:
            for agent in states:
                self._thaw(agent, str(error))
            raise
        transfer = os.urandom(TRANSFER_BYTES)
        parcels = tuple(self._pack(transfer, to, load, states[load.agent]) for load in cargo)
        outcome: asyncio.Future[Hop] = asyncio.get_running_loop().create_future()
        self._journeys[transfer] = _Journey(to, cargo, parcels, why, frozen_at, outcome)
        self._perform(self.machine.step(events.Depart(transfer, to, cargo)))
        deadline = self._deadlines.offer_deadline
        timer = asyncio.get_running_loop().call_later(
            deadline, self.give_up, transfer, f"{to} did not answer the offer within {deadline:g} s"
        )
        try:
            return await asyncio.shield(outcome)
        finally:
            timer.cancel()

    def give_up(self, transfer: bytes, reason: str) -> None:
        self._perform(self.machine.step(events.GiveUp(transfer, reason)))

    def _check_destination(self, to: str) -> None:
        if to == self.host:
            raise Misuse(f"the agents are on {to} already; name another host")
        verdict = self._surroundings.verdict(to)
        if not verdict.trusted:
            raise Misuse(f"{to} is not trusted by the ledger at height {verdict.height}: {verdict.reason}")

    async def _capture(self, agents: Sequence[str], to: str) -> dict[str, bytes]:
        """The states of the agents, all frozen; if one cannot be frozen, the others go on."""
        results = await asyncio.gather(*(self._runner.capture(agent, to) for agent in agents), return_exceptions=True)
        failure = next((result for result in results if isinstance(result, BaseException)), None)
        if failure is None:
            return {agent: state for agent, state in zip(agents, results, strict=True) if isinstance(state, bytes)}
        for agent, result in zip(agents, results, strict=True):
            if isinstance(result, bytes):
                self._thaw(agent, str(failure))
        raise failure

    def _thaw(self, agent: str, reason: str) -> None:
        self._mailroom.close(agent)  # what it was handed and did not answer is handed to it again
        self._runner.thaw(agent, reason)
        self._mailroom.reopen(agent)

    def _pack(self, transfer: bytes, to: str, load: Cargo, state: bytes) -> Parcel:
        resident = self.residents[load.agent]
        birth = resident.birth
        luggage = codec.encode(self._mailroom.close(load.agent))
        manifest = Manifest(
            self._chain,
            transfer,
            self.host,
            to,
            birth.agent,
            birth.owner,
            load.epoch,
            resident.certificate,
            birth.code,
            state_digest(state),
            luggage_digest(luggage),
            PYTHON,
            int((time.time() + self._deadlines.parcel_life) * 1000),
        )
        code = None if birth.code in self._known_code.get(to, ()) else self._code[birth.code]
        return Parcel(sign_manifest(manifest, self._identity), state, luggage, code)

    # Messages and time

    def receive(self, host: str, raw: bytes) -> None:
        """A handoff message from another host. Raises PeerFault for one that must not be sent."""
        message: HandoffMessage = codec.decode(raw, _MESSAGE, host)
        if isinstance(message, Offer) and not self._verified(host, message):
            return
        if isinstance(message, Accept) and not (verdict := self._surroundings.verdict(host)).trusted:
            # Revoked while the offer was out: arrivals there stop at once. COMMIT is not written yet.
            self.give_up(message.transfer, f"{host} is not trusted any more: {verdict.reason}")
            return
        self._perform(self.machine.step(events.Message(host, message)))

    def remind(self) -> None:
        """Asks again about all that waits for another host."""
        self._perform(self.machine.step(events.Remind()))

    def lost(self, host: str) -> None:
        """The link to `host` went down: what was only offered stays here."""
        self._known_code.pop(host, None)
        for transfer in self.machine.offered(host):
            self.give_up(transfer, f"the link to {host} was lost before it accepted")

    def _verified(self, host: str, offer: Offer) -> bool:
        """Verify, then parse, then act: signatures and digests of all parcels, before the machine hears of them."""
        try:
            key = self._surroundings.key_of(host)
            if key is None:
                raise PeerFault(host, "is not registered with the ledger, or is revoked")
            if len(offer.cargo) != len(offer.parcels):
                raise PeerFault(host, "offered a handoff whose parcels are not those of its cargo")
            wall = int(time.time() * 1000)
            guests = {}
            for load, parcel in zip(offer.cargo, offer.parcels, strict=True):
                manifest, birth = open_parcel(
                    parcel, chain=self._chain, source=host, source_key=key, destination=self.host, wall=wall
                )
                if (manifest.transfer, manifest.agent, manifest.epoch) != (offer.transfer, load.agent, load.epoch):
                    raise PeerFault(host, f"offered {load.agent} with the manifest of another transfer, agent or epoch")
                guests[birth.agent] = _Guest(birth, manifest.birth, codec.decode(parcel.luggage, Luggage, host))
        except PeerFault as fault:
            log.warning("an offer was refused: %s", fault)
            self._post(host, Refuse(offer.transfer, str(fault)))
            return False
        if offer.transfer not in self._guests:  # a repeat changes nothing
            self._parcels[offer.transfer] = offer.parcels
            self._guests[offer.transfer] = guests
        return True

    # What the machine decides

    def _perform(self, effects: Iterable[events.Effect], beside: tuple[bytes, ...] = ()) -> None:
        for effect in effects:
            match effect:
                case events.Write(record):
                    self._write(record, beside)
                case events.Send(to, message):
                    self._dispatch(to, message)
                case events.Examine(transfer, source, cargo):
                    self._start(self._examine(transfer, source, cargo))
                case events.Activate(transfer, source, cargo, mail):
                    self._activate(transfer, source, cargo, mail)
                case events.Discard(transfer, cargo, reason):
                    log.info("inert copies of %s were discarded: %s", _names(cargo), reason)
                    self._drop_guests(transfer)
                case events.Resume(transfer, _, cargo, reason):
                    self._resume(transfer, cargo, reason)
                case events.Release(transfer, to, cargo):
                    self._release(transfer, to, cargo)
                case events.Restore(transfer, _, cargo, reason):
                    self._start(self._restore(transfer, cargo, reason))
                case events.Restart(agent, epoch, kept, mail):
                    self._start(self._restart(agent, epoch, kept, mail))
                case events.Reopen(transfer, _, cargo):
                    self._start(self._reopen(transfer, cargo))

    def _write(self, record: Record, beside: tuple[bytes, ...]) -> None:
        if isinstance(record, Prepare):
            beside = tuple(codec.encode(parcel) for parcel in self._journeys[record.transfer].parcels)
        elif isinstance(record, Received):
            beside = tuple(codec.encode(parcel) for parcel in self._parcels.pop(record.transfer))
        durable = self._journal.write(record, beside)
        if isinstance(record, Active):
            for agent in self._guests[record.transfer]:
                self._gateway.hold(agent, durable)
        elif isinstance(record, Closed):
            self._arrived(record.transfer)
        durable.add_done_callback(lambda future: self._durable(record, future))

    def _durable(self, record: Record, future: "asyncio.Future[None]") -> None:
        if not future.cancelled() and future.exception() is None:  # else the disk failed, and the daemon stops
            self._perform(self.machine.step(events.Durable(record)))

    def _dispatch(self, to: str, message: HandoffMessage) -> None:
        """Puts in what the machine does not carry."""
        journey = self._journeys.get(message.transfer)
        if isinstance(message, Offer) and journey is not None:
            message = msgspec.structs.replace(message, parcels=journey.parcels)
        elif isinstance(message, Notice) and journey is not None:
            if journey.mail is None:
                waiting = (letter for load in journey.cargo for letter in self._mailroom.waiting(load.agent))
                journey.mail = tuple(codec.encode(letter) for letter in waiting)
            message = msgspec.structs.replace(message, mail=journey.mail)
        size = self._post(to, message)
        if isinstance(message, Offer) and journey is not None:
            journey.size = size

    def _post(self, to: str, message: HandoffMessage) -> int:
        raw = codec.encode(message)
        if not self._surroundings.send(to, raw) and isinstance(message, Offer):
            # Not from within this step: the machine is still handing out its effects.
            asyncio.get_running_loop().call_soon(self.give_up, message.transfer, f"there is no link to {to} now")
        return len(raw)

    # Source

    def _resume(self, transfer: bytes, cargo: tuple[Cargo, ...], reason: str) -> None:
        journey = self._journeys.pop(transfer)
        self._known_code.pop(journey.to, None)  # it may have refused because the code was not there
        for load in cargo:
            self._thaw(load.agent, reason)
        if not journey.outcome.done():
            journey.outcome.set_exception(Unavailable(f"{_names(cargo)} stayed on {self.host}: {reason}"))

    def _release(self, transfer: bytes, to: str, cargo: tuple[Cargo, ...]) -> None:
        for load in cargo:
            resident = self.residents.get(load.agent)
            if resident is not None:
                self._known_code.setdefault(to, set()).add(resident.birth.code)
            self._runner.discard(load.agent)
            self._forget(load.agent)
            self._surroundings.located(load.agent, load.epoch, to)

    def _arrived(self, transfer: bytes) -> None:
        journey = self._journeys.pop(transfer, None)
        if journey is None:
            return  # committed before a restart: nobody here waits for it
        hop = Hop(
            transfer,
            journey.cargo,
            tuple(parcel.manifest for parcel in journey.parcels),
            self.host,
            journey.to,
            journey.why,
            journey.size,
            (time.monotonic() - journey.frozen_at) * 1000,
            time.time(),
        )
        if not journey.outcome.done():
            journey.outcome.set_result(hop)
        self._surroundings.hopped(hop)

    # Destination

    async def _examine(self, transfer: bytes, source: str, cargo: tuple[Cargo, ...]) -> None:
        refusal = None
        try:
            await self._open(transfer, source)
        except PlatformError as error:
            refusal = str(error)
            log.info("the offer of %s from %s was refused: %s", _names(cargo), source, refusal)
        if refusal is not None:
            self._drop_guests(transfer)
            self._parcels.pop(transfer, None)
        self._perform(self.machine.step(events.Examined(transfer, refusal)))

    async def _open(self, transfer: bytes, source: str) -> None:
        """Policy, space, and every parcel opened in a worker; raises PlatformError with what does not hold."""
        verdict = self._surroundings.verdict(source)
        if not verdict.trusted:
            raise PeerFault(source, f"is not trusted by the ledger at height {verdict.height}: {verdict.reason}")
        parcels = self._parcels[transfer]
        shortage = self._surroundings.shortage(sum(len(parcel.state) for parcel in parcels))
        if shortage is not None:
            raise Unavailable(f"{self.host} has no room: {shortage}")
        await asyncio.gather(
            *(
                self._open_one(guest, parcel)
                for guest, parcel in zip(self._guests[transfer].values(), parcels, strict=True)
            )
        )

    async def _open_one(self, guest: _Guest, parcel: Parcel) -> None:
        if parcel.code is not None:
            self._keep_code(guest.birth.code, parcel.code)
        await self._runner.open(guest.birth, await self._code_of(guest.birth), parcel.state)

    def _drop_guests(self, transfer: bytes) -> None:
        for agent in self._guests.pop(transfer, {}):
            self._runner.discard(agent)

    def _activate(self, transfer: bytes, source: str, cargo: tuple[Cargo, ...], mail: tuple[bytes, ...]) -> None:
        guests = self._guests.pop(transfer)
        for load in cargo:
            guest = guests[load.agent]
            self._runner.activate(load.agent, Arrival(self.host, load.epoch, source))
            letters = _letters(mail, load.agent, source)
            self._settle(guest.birth, guest.certificate, load.epoch, guest.luggage, letters)

    # After a restart

    async def recover(self, effects: Iterable[events.Effect]) -> None:
        """Performs what Handoff.recover decided, before the links start: a notice must find its copies opened."""
        self._perform(effects)
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _restore(self, transfer: bytes, cargo: tuple[Cargo, ...], reason: str) -> None:
        for load in cargo:
            guest, parcel = await self._unpack(transfer, load.agent)
            if await self._reopened(load.agent, guest, parcel):
                self._runner.thaw(load.agent, reason)
                self._settle(guest.birth, guest.certificate, load.epoch - 1, guest.luggage, ())

    async def _restart(self, agent: str, epoch: int, kept: bytes, mail: tuple[bytes, ...]) -> None:
        if kept == BIRTH:
            await self._reborn(agent, epoch)
            return
        guest, parcel = await self._unpack(kept, agent)
        if await self._reopened(agent, guest, parcel):
            self._runner.activate(agent, Arrival(self.host, epoch, None))
            letters = _letters(mail, agent, self.host)
            self._settle(guest.birth, guest.certificate, epoch, guest.luggage, letters)

    async def _reborn(self, agent: str, epoch: int) -> None:
        raw = await self._journal.parcel(BIRTH, agent)
        certificate, init = codec.decode(raw, tuple[bytes, bytes], "the custody journal")
        birth = open_birth(certificate, "the custody journal")
        try:
            await self._runner.create(birth, await self._code_of(birth), init, Arrival(self.host, epoch, None))
        except PlatformError as error:
            log.error("%s could not be started again: %s", agent, error)
            return
        luggage = Luggage()
        await self._recall_letters(agent, luggage)
        self._settle(birth, certificate, epoch, luggage, ())

    async def _reopen(self, transfer: bytes, cargo: tuple[Cargo, ...]) -> None:
        guests = self._guests[transfer] = {}
        for load in cargo:
            guests[load.agent], parcel = await self._unpack(transfer, load.agent)
            await self._reopened(load.agent, guests[load.agent], parcel)

    async def _unpack(self, transfer: bytes, agent: str) -> tuple[_Guest, Parcel]:
        """A parcel of our own journal: it was verified before it was written."""
        source = "the custody journal"
        parcel = codec.decode(await self._journal.parcel(transfer, agent), Parcel, source)
        manifest = codec.decode(codec.decode(parcel.manifest, Signed, source).body, Manifest, source)
        luggage = codec.decode(parcel.luggage, Luggage, source)
        await self._recall_letters(agent, luggage)
        return _Guest(open_birth(manifest.birth, source), manifest.birth, luggage), parcel

    async def _recall_letters(self, agent: str, luggage: Luggage) -> None:
        """Letters that left since the parcel was written keep their numbers: a number is never used twice."""
        for receiver, sequence, raw in await self._journal.letters(agent):
            luggage.sent[receiver] = max(sequence, luggage.sent.get(receiver, 0))
            luggage.outbox = [each for each in luggage.outbox if (each.receiver, each.sequence) != (receiver, sequence)]
            if raw is not None:
                luggage.outbox.append(codec.decode(raw, Letter, "the custody journal"))

    async def _reopened(self, agent: str, guest: _Guest, parcel: Parcel) -> bool:
        try:
            await self._runner.open(guest.birth, await self._code_of(guest.birth), parcel.state)
        except PlatformError as error:
            log.error("%s is in custody here and could not be opened: %s", agent, error)
            return False
        return True

    # Helpers

    async def _code_of(self, birth: Birth) -> bytes:
        code = self._code.get(birth.code) or await self._journal.get_code(birth.code)
        if code is None:
            raise Unavailable(f"{self.host} does not have the code of {birth.agent}; it must come along")
        self._code[birth.code] = code
        return code

    def _keep_code(self, digest: bytes, code: bytes) -> None:
        if digest not in self._code:
            self._code[digest] = code
            self._journal.put_code(digest, code)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a step of a handoff failed", exc_info=error)


def _names(cargo: Iterable[Cargo]) -> str:
    return ", ".join(load.agent for load in cargo)


def _letters(mail: Iterable[bytes], agent: str, source: str) -> list[Letter]:
    """Those of a notice's letters that are for `agent`; what is no letter is left out, its sender sends it again."""
    letters = []
    for raw in mail:
        try:
            letter = codec.decode(raw, Letter, source)
        except PeerFault as fault:
            log.warning("mail in a notice was dropped: %s", fault)
            continue
        if letter.receiver == agent:
            letters.append(letter)
    return letters

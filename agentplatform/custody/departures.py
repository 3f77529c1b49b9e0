"""The source's side of the edge: freezes agents, packs them, and sees them off or takes them back."""

import asyncio
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from agentplatform.custody import events
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.messages import Cargo, HandoffMessage, Notice, Offer
from agentplatform.custody.residents import Residents
from agentplatform.custody.surroundings import Hop, Surroundings
from agentplatform.mailroom import Mailroom
from agentplatform.parcel.manifest import (
    TRANSFER_BYTES,
    Manifest,
    Parcel,
    luggage_digest,
    sign_manifest,
    state_digest,
)
from agentplatform.runners.base import Runner
from agentplatform.settings import Handoff as Deadlines
from ledger import codec
from ledger.errors import Misuse, PlatformError, Unavailable
from ledger.identity import Identity

log = logging.getLogger(__name__)
PYTHON = ".".join(platform.python_version_tuple()[:2])


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


class Departures:
    def __init__(
        self,
        identity: Identity,
        chain: bytes,
        machine: Handoff,
        step: Callable[[events.Event], None],
        residents: Residents,
        mailroom: Mailroom,
        runner: Runner,
        surroundings: Surroundings,
        deadlines: Deadlines,
    ) -> None:
        self._identity, self._chain = identity, chain
        self._machine, self._step = machine, step
        self._residents, self._mailroom, self._runner = residents, mailroom, runner
        self._surroundings, self._deadlines = surroundings, deadlines
        self._journeys: dict[bytes, _Journey] = {}
        self._known_code: dict[str, set[bytes]] = {}  # what a host has, as far as its answers tell

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
            self._check(agents, to)
            states |= await self._capture([agent for agent in agents if agent not in states], to)
            self._check(agents, to)  # the freeze took a while
        except PlatformError as error:
            for agent in states:
                self._thaw(agent, str(error))
            raise
        transfer = os.urandom(TRANSFER_BYTES)
        cargo = self._machine.cargo(agents)
        parcels = tuple(self._pack(transfer, to, load, states[load.agent]) for load in cargo)
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Hop] = loop.create_future()
        self._journeys[transfer] = _Journey(to, cargo, parcels, why, frozen_at, outcome)
        self._step(events.Depart(transfer, to, cargo))
        patience = self._deadlines.offer_deadline
        late = events.GiveUp(transfer, f"{to} did not answer the offer within {patience:g} s")
        timer = loop.call_later(patience, self._step, late)
        try:
            return await asyncio.shield(outcome)
        finally:
            timer.cancel()

    def lost(self, host: str) -> None:
        """The link to `host` went down: what was only offered stays here."""
        self._known_code.pop(host, None)
        for transfer in self._machine.offered(host):
            self._step(events.GiveUp(transfer, f"the link to {host} was lost before it accepted"))

    def moving(self, agent: str) -> bool:
        return any(load.agent == agent for journey in self._journeys.values() for load in journey.cargo)

    # What the machine decides

    def parcels(self, transfer: bytes) -> tuple[Parcel, ...]:
        return self._journeys[transfer].parcels

    def send(self, to: str, message: HandoffMessage) -> None:
        """Puts in what the machine does not carry, and sends."""
        journey = self._journeys.get(message.transfer)
        if isinstance(message, Offer) and journey is not None:
            message = msgspec.structs.replace(message, parcels=journey.parcels)
        elif isinstance(message, Notice) and journey is not None:
            if journey.mail is None:
                waiting = (letter for load in journey.cargo for letter in self._mailroom.waiting(load.agent))
                journey.mail = tuple(codec.encode(letter) for letter in waiting)
            message = msgspec.structs.replace(message, mail=journey.mail)
        raw = codec.encode(message)
        sent = self._surroundings.send(to, raw)
        if isinstance(message, Offer) and journey is not None:
            journey.size = len(raw)
            if not sent:
                # Not within this step: the machine is still handing out its effects.
                lost = events.GiveUp(message.transfer, f"there is no link to {to} now")
                asyncio.get_running_loop().call_soon(self._step, lost)

    def resume(self, transfer: bytes, cargo: tuple[Cargo, ...], reason: str) -> None:
        """They stay."""
        journey = self._journeys.pop(transfer)
        self._known_code.pop(journey.to, None)  # it may have refused because the code was not there
        for load in cargo:
            self._thaw(load.agent, reason)
        if not journey.outcome.done():
            names = ", ".join(load.agent for load in cargo)
            journey.outcome.set_exception(Unavailable(f"{names} stayed on {self._residents.host}: {reason}"))

    def release(self, to: str, cargo: tuple[Cargo, ...]) -> None:
        """They are the destination's; what comes for them from now on is forwarded."""
        for load in cargo:
            resident = self._residents.known.get(load.agent)
            if resident is not None:
                self._known_code.setdefault(to, set()).add(resident.birth.code)
                self._runner.discard(load.agent)
                self._residents.forget(load.agent)
            self._surroundings.located(load.agent, load.epoch, to)

    def arrived(self, transfer: bytes) -> None:
        """The destination acknowledged."""
        journey = self._journeys.pop(transfer, None)
        if journey is None:
            return  # committed before a restart: nobody here waits for it
        hop = Hop(
            transfer,
            journey.cargo,
            tuple(parcel.manifest for parcel in journey.parcels),
            self._residents.host,
            journey.to,
            journey.why,
            journey.size,
            (time.monotonic() - journey.frozen_at) * 1000,
            time.time(),
        )
        if not journey.outcome.done():
            journey.outcome.set_result(hop)
        self._surroundings.hopped(hop)

    # Freezing and packing

    def _check(self, agents: Sequence[str], to: str) -> None:
        self._machine.cargo(agents)  # raises Misuse for one that is not here, or on its way
        if to == self._residents.host:
            raise Misuse(f"{', '.join(agents)}: on {to} already; name another host")
        verdict = self._surroundings.verdict(to)
        if not verdict.trusted:
            raise Misuse(f"{to} is not trusted by the ledger at height {verdict.height}: {verdict.reason}")

    async def _capture(self, agents: Sequence[str], to: str) -> dict[str, bytes]:
        """The states of the agents, all frozen; if one cannot be frozen, the others go on."""
        results = await asyncio.gather(*(self._runner.capture(agent, to) for agent in agents), return_exceptions=True)
        states = {agent: result for agent, result in zip(agents, results, strict=True) if isinstance(result, bytes)}
        failure = next((result for result in results if isinstance(result, BaseException)), None)
        if failure is None:
            return states
        for agent in states:
            self._thaw(agent, str(failure))
        raise failure

    def _thaw(self, agent: str, reason: str) -> None:
        if agent not in self._residents.known:
            return  # its worker died meanwhile
        self._mailroom.close(agent)  # what it was handed and did not answer is handed to it again
        self._runner.thaw(agent, reason)
        self._mailroom.reopen(agent)

    def _pack(self, transfer: bytes, to: str, load: Cargo, state: bytes) -> Parcel:
        resident = self._residents.known[load.agent]
        birth = resident.birth
        luggage = codec.encode(self._mailroom.close(load.agent))
        manifest = Manifest(
            chain=self._chain,
            transfer=transfer,
            source=self._residents.host,
            destination=to,
            agent=birth.agent,
            owner=birth.owner,
            epoch=load.epoch,
            birth=resident.certificate,
            code=birth.code,
            state=state_digest(state),
            luggage=luggage_digest(luggage),
            python=PYTHON,
            expires=int((time.time() + self._deadlines.parcel_life) * 1000),
        )
        code = None if birth.code in self._known_code.get(to, ()) else self._residents.code_at_hand(birth)
        return Parcel(sign_manifest(manifest, self._identity), state, luggage, code)

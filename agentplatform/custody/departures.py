"""The source's side of the edge: freezes agents, sees them off or takes them back."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from agentplatform.convoy import Convoy, transfer_of
from agentplatform.custody import events
from agentplatform.custody.freezing import Freezer, told
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.journey import Journey
from agentplatform.custody.messages import Cargo, HandoffMessage, Inquire, Notice, Offer, Refuse
from agentplatform.custody.packing import Packer, check_size
from agentplatform.custody.pieces import SLOWEST, Fetch
from agentplatform.custody.residents import Residents
from agentplatform.custody.supply import Supply
from agentplatform.custody.surroundings import Hop, Surroundings
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Arrival, Move, Mover
from agentplatform.parcel.freight import Spooled, Stowed
from agentplatform.parcel.manifest import TRANSFER_BYTES, Parcel
from agentplatform.parcel.spool import Spool
from agentplatform.passes import Pass
from agentplatform.runners.base import Runner
from agentplatform.settings import Handoff as Deadlines
from ledger import codec
from ledger.errors import Misuse, PlatformError, Unavailable
from ledger.identity import Identity


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
        spool: Spool,
        make_way: Callable[[str, str], Awaitable[None]],
        release: Callable[[str, Callable[[], None]], None],
        join: Callable[[str, Convoy, tuple[Cargo, ...]], None],
    ) -> None:
        """`make_way(agent, to)`: another host than `to` holds its checkpoint, if it has holders. `release` is the
        gateway's, `join` that of custody.convoys."""
        self._machine, self._step = machine, step
        self._residents, self._mailroom, self._runner = residents, mailroom, runner
        self._surroundings, self._deadlines = surroundings, deadlines
        self._spool, self._make_way, self._release, self._join = spool, make_way, release, join
        self.supply = Supply(spool, surroundings.stream, self._alive, self._give_up)
        self.freezer = Freezer(residents, mailroom, runner, spool)
        self._packer = Packer(identity, chain, residents, mailroom, deadlines.parcel_life)
        self._journeys: dict[bytes, Journey] = {}

    async def depart(
        self,
        agents: Sequence[str],
        to: str,
        why: str,
        captured: Mapping[str, Stowed] | None = None,
        by: Mover = "decision",
        seconds: float | None = None,
        convoy: Convoy | None = None,
    ) -> Hop:
        """Moves resident agents to `to` as one: all arrive, or all stay, with the rest of the `convoy` that they are a
        part of. Returns when they run there.

        `captured` has the states of agents that asked to go and are frozen already. When they stay, they go on with
        `on_move_failed` (but for moves `by` the agent itself: who tries them tells it of the end), and the reason is
        raised: Misuse for what cannot be asked, Unavailable for what went wrong, or took more than `seconds`.
        """
        check = lambda: self._check(agents, to, convoy)  # noqa: E731
        begin = lambda transfer, cargo: events.Depart(transfer, to, cargo, convoy is not None)  # noqa: E731
        transfer = os.urandom(TRANSFER_BYTES) if convoy is None else transfer_of(convoy.nonce, self._residents.host)
        move = Move(to, by, why)
        hop = await self._shielded(self._leave(transfer, agents, move, captured or {}, seconds, check, begin))
        assert hop is not None
        return hop

    async def convert(self, load: Cargo, entry: bytes, by: Mover, why: str) -> None:
        """Has the ledger put a resident agent into the other custody (custody.changing). Returns when it goes on in
        that; when it goes on as it was, the reason is raised, as by `depart`."""
        check = lambda: self._check_change(load)  # noqa: E731
        begin = lambda transfer, cargo: events.ChangeCustody(transfer, cargo[0], entry)  # noqa: E731
        transfer, move = os.urandom(TRANSFER_BYTES), Move(self._residents.host, by, why)
        await self._shielded(self._leave(transfer, [load.agent], move, {}, None, check, begin))

    async def _shielded(self, leaving: Coroutine[Any, Any, Hop | None]) -> Hop | None:
        # A task of its own: a caller who gives up must leave neither a frozen agent nor an offer without a deadline.
        handoff = asyncio.ensure_future(leaving)
        handoff.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever waited may have gone
        return await asyncio.shield(handoff)

    async def _leave(
        self,
        transfer: bytes,
        agents: Sequence[str],
        move: Move,
        captured: Mapping[str, Stowed],
        seconds: float | None,
        check: Callable[[], tuple[Cargo, ...]],
        begin: Callable[[bytes, tuple[Cargo, ...]], events.Event],
    ) -> Hop | None:
        """`check` raises what speaks against it, and returns the cargo; `begin` is what the machine is told."""
        frozen_at, to = time.monotonic(), move.destination
        states = dict(captured)
        stays = {agent: self._residents.known.get(agent) for agent in agents}
        try:
            check()
            for agent in agents:
                await self._make_way(agent, to)
            if missing := [agent for agent in agents if agent not in states]:
                states |= await self.freezer.capture(missing, move)
            large = {agent: state for agent, state in states.items() if isinstance(state, Spooled)}
            if large:
                await asyncio.gather(*(self._spool.sync(state.file) for state in large.values()))
            cargo = check()  # all that took a while
            if gone := [agent for agent in agents if not self.freezer.stays(agent, stays[agent])]:
                # What was captured is out of date: it has gone on from its last checkpoint, or will.
                raise Unavailable(f"{', '.join(gone)} stayed on {self._residents.host}: its worker ended")
            patience = self._patience(agents, to, frozen_at, seconds, large.values())
            parcels = tuple(self._packer.parcel(transfer, to, load, states[load.agent]) for load in cargo)
            check_size(cargo, parcels)
        except PlatformError as error:
            self.freezer.give_back(states, stays, move, str(error))
            raise
        outcome: asyncio.Future[Hop | None] = asyncio.get_running_loop().create_future()
        files = {agent: state.file for agent, state in large.items()}
        bulk = sum(state.freight.size for state in large.values())
        journey = Journey(to, cargo, parcels, move, frozen_at, outcome, files, patience, bulk)
        self._journeys[transfer] = journey
        self.supply.offer(transfer, to, large)
        start = lambda: self._offer(transfer, journey, begin(transfer, cargo))  # noqa: E731
        if captured:  # at an agent's own wish: what it rests on may not be durable yet
            (agent,) = captured
            self._release(agent, start)
        else:
            start()
        try:
            return await outcome
        finally:
            if journey.late is not None:
                journey.late.cancel()

    def _offer(self, transfer: bytes, journey: Journey, begin: events.Event) -> None:
        if self._journeys.get(transfer) is not journey:
            return  # the ledger took them away meanwhile
        self._step(begin)
        journey.latest = asyncio.get_running_loop().time() + journey.patience
        self._wait(transfer, journey)

    def _wait(self, transfer: bytes, journey: Journey) -> None:
        """From now on so long for the destination's next word."""
        if journey.late is not None:
            journey.late.cancel()
        loop = asyncio.get_running_loop()
        patience = min(self._deadlines.offer_deadline, journey.latest - loop.time())  # a Ticket may have less
        late = f"{journey.to} did not answer the offer within {round(patience, 2):g} s"
        journey.late = loop.call_later(patience, self._give_up, transfer, late)

    def _alive(self, transfer: bytes) -> None:
        journey = self._journeys.get(transfer)
        if journey is not None and not journey.outcome.done():
            self._wait(transfer, journey)

    def _give_up(self, transfer: bytes, reason: str) -> None:
        self._step(events.GiveUp(transfer, reason))
        self._note(transfer, reason)

    def _note(self, transfer: bytes, reason: str) -> None:
        """Held: if they stay, whoever waits for them hears of this; the ledger's word gives no reason."""
        if (journey := self._journeys.get(transfer)) is not None:
            journey.reasons.append(reason)

    def receive(self, host: str, fetch: Fetch) -> None:
        """The destination of a large state asks for pieces of it. Raises PeerFault."""
        if self.supply.has(fetch.transfer):
            self.supply.receive(host, fetch)
        else:
            self._step(events.Message(host, Inquire(fetch.transfer)))  # it hears what became of the offer

    def lost(self, host: str) -> None:
        """The link to `host` went down: what was only offered stays here. A large state waits for the next link."""
        self._packer.forget_code(host)
        self.supply.lost(host)
        for transfer in self._machine.offered(host):
            if not self.supply.has(transfer):
                self._give_up(transfer, f"the link to {host} was lost before it accepted")

    def moving(self, agent: str) -> bool:
        return self._journey_of(agent) is not None

    def died(self, agent: str) -> bool:
        """The worker of an agent on offer ended. Its captured state is safe: it arrives, or is opened here again."""
        journey = self._journey_of(agent)
        if journey is not None:
            journey.dead.add(agent)
        return journey is not None

    def refused(self, host: str, message: Refuse) -> None:
        """A part of a convoy, which the ledger ends."""
        self._note(message.transfer, f"{host} refused: {message.reason}")

    # What the machine decides

    def files(self, transfer: bytes) -> dict[str, str]:
        return self._journeys[transfer].files

    def parcels(self, transfer: bytes) -> tuple[Parcel, ...]:
        return self._journeys[transfer].parcels

    def send(self, to: str, message: HandoffMessage) -> None:
        """Puts in what the machine does not carry, and sends."""
        journey = self._journeys.get(message.transfer) if isinstance(message, Offer | Notice) else None
        if isinstance(message, Offer) and journey is not None:
            message = msgspec.structs.replace(message, parcels=journey.parcels)
        elif isinstance(message, Notice) and journey is not None:
            if journey.mail is None:
                journey.mail = self._packer.mail(self._passes(journey), journey.cargo)
            message = msgspec.structs.replace(message, mail=journey.mail)
        raw = codec.encode(message)
        sent = self._surroundings.send(to, raw)
        if isinstance(message, Offer) and journey is not None:
            journey.size += len(raw)
            if not sent:
                # Not within this step: the machine is still handing out its effects.
                asyncio.get_running_loop().call_soon(self._give_up, message.transfer, f"there is no link to {to} now")

    def resume(self, transfer: bytes, cargo: tuple[Cargo, ...], reason: str) -> tuple[Cargo, ...]:
        """They stay. Returns those that must be opened again: their workers ended meanwhile."""
        journey = self._journeys.pop(transfer)
        self.supply.withdraw(transfer)
        self._packer.forget_code(journey.to)  # it may have refused because the code was not there
        for load in cargo:
            if load.agent in journey.dead:
                self._residents.forget(load.agent)
            else:
                self.freezer.thaw(load.agent, told(journey.move, reason))
        if not journey.outcome.done():
            names = ", ".join(load.agent for load in cargo)
            journey.outcome.set_exception(Unavailable(f"{names} stayed on {self._residents.host}: {reason}"))
        return tuple(load for load in cargo if load.agent in journey.dead)

    def returned(self, transfer: bytes, load: Cargo, reason: str) -> bool:
        """Held: the ledger left it here, at another epoch. True when it must be opened again first."""
        journey = self._journeys.get(transfer)
        if journey is None:
            self.supply.withdraw(transfer)
            return True  # this host was started again since
        self._without(transfer, journey, load.agent, f"{load.agent} stayed on {self._residents.host}: {reason}")
        resident = self._residents.known[load.agent]
        if load.agent in journey.dead:
            self._residents.forget(load.agent)
            return True
        waiting = self._mailroom.waiting(load.agent)
        luggage = self._mailroom.close(load.agent)
        self._runner.thaw(load.agent, told(journey.move, reason), Arrival(self._residents.host, load.epoch, None))
        self._residents.settle(resident.birth, resident.certificate, load.epoch, luggage, waiting)
        return False

    def changed(self, transfer: bytes, load: Cargo) -> Callable[[], None]:
        """The ledger has it in the other custody: the frozen copy ends, and it is opened again from its parcel. Call
        what is returned when that is done."""
        journey = self._journeys.pop(transfer, None)
        self.supply.withdraw(transfer)
        if journey is None:
            return lambda: None  # this host was started again since
        if load.agent not in journey.dead:
            self._runner.discard(load.agent)
        self._residents.forget(load.agent)
        return lambda: None if journey.outcome.done() else journey.outcome.set_result(None)

    def revoked(self, agent: str, reason: str) -> None:
        """Held: it is not here any more, whatever it was about to do."""
        for transfer, journey in list(self._journeys.items()):
            if any(load.agent == agent for load in journey.cargo):
                self._without(transfer, journey, agent, f"{agent} does not leave {self._residents.host}: {reason}")

    def _without(self, transfer: bytes, journey: Journey, agent: str, reason: str) -> None:
        """It does not go by that any more. When this is so of all, whoever waits for them hears why."""
        journey.drop(agent, reason)
        if not journey.cargo:
            del self._journeys[transfer]
            self.supply.withdraw(transfer)
            if not journey.outcome.done():
                journey.outcome.set_exception(Unavailable("; ".join(journey.reasons)))

    def commit(self, transfer: bytes) -> None:
        """COMMIT was handed to the log: what the notice proves is signed while that is written."""
        if (journey := self._journeys.get(transfer)) is not None:
            self._passes(journey)

    def _passes(self, journey: Journey) -> tuple[Pass, ...]:
        if not journey.passes:
            journey.passes = self._packer.passes(journey.to, journey.cargo)
        return journey.passes

    def release(self, transfer: bytes, to: str, cargo: tuple[Cargo, ...]) -> None:
        """They are the destination's; who writes to them hears where they are."""
        journey = self._journeys.get(transfer)  # None: this host was started again since
        passes = self._packer.passes(to, cargo) if journey is None else self._passes(journey)
        for load, its_pass in zip(cargo, passes, strict=True):
            resident = self._residents.known.get(load.agent)
            if resident is not None:
                self._packer.has_code(to, resident.birth.code)
                self._runner.discard(load.agent)
                self._residents.forget(load.agent)
            self._surroundings.located(load.agent, load.epoch, to, (its_pass,))

    def arrived(self, transfer: bytes) -> None:
        """The destination acknowledged."""
        journey = self._journeys.pop(transfer, None)
        self.supply.withdraw(transfer)
        if journey is None:
            return  # committed before a restart: nobody here waits for it
        hop = Hop(
            transfer,
            journey.cargo,
            tuple(parcel.manifest for parcel in journey.parcels),
            self._residents.host,
            journey.to,
            journey.move.why,
            journey.size,
            (time.monotonic() - journey.frozen_at) * 1000,
            time.time(),
        )
        if not journey.outcome.done():
            journey.outcome.set_result(hop)
        self._surroundings.hopped(hop)

    def _journey_of(self, agent: str) -> Journey | None:
        journeys = self._journeys.values()
        return next((each for each in journeys if any(load.agent == agent for load in each.cargo)), None)

    # Freezing

    def _check(self, agents: Sequence[str], to: str, convoy: Convoy | None) -> tuple[Cargo, ...]:
        cargo = self._machine.cargo(agents)  # raises Misuse for one that is not here, or on its way
        if to == self._residents.host:
            raise Misuse(f"{', '.join(agents)}: on {to} already; name another host")
        verdict = self._surroundings.verdict(to)
        if not verdict.trusted:
            raise Misuse(f"{to} is not trusted by the ledger at height {verdict.height}: {verdict.reason}")
        if verdict.lacking:
            raise Misuse(f"{', '.join(agents)} do not go to {to}: {verdict.lacking} (host.toml, [trust]); name another")
        if verdict.outdated:
            raise Unavailable(f"{', '.join(agents)} stayed on {self._residents.host}: {verdict.outdated}")
        if not self._surroundings.linked(to):  # a capture stops what the agent does, and every retry has one
            raise Unavailable(f"{', '.join(agents)} stayed on {self._residents.host}: there is no link to {to} now")
        if convoy is not None:
            self._join(to, convoy, cargo)
        if lacks := self._surroundings.lacks(to, [self._mailroom.requires(agent).needs for agent in agents]):
            names = ", ".join(agents)
            raise Unavailable(f"{names} stayed on {self._residents.host}: {to} has not what they need: {lacks}")
        return cargo

    def _check_change(self, load: Cargo) -> tuple[Cargo, ...]:
        if self._machine.free(load.agent) + 1 != load.epoch:
            raise Unavailable(f"{load.agent} moved meanwhile: its custody was to change at epoch {load.epoch}")
        return (load,)

    def _patience(
        self, agents: Sequence[str], to: str, since: float, seconds: float | None, large: Iterable[Spooled]
    ) -> float:
        """Seconds for the destination to take the offer, at most."""
        most = self._deadlines.offer_deadline + sum(state.freight.size for state in large) / SLOWEST
        if seconds is None:
            return most
        left = since + seconds - time.monotonic()
        if left <= 0:
            raise Unavailable(f"{', '.join(agents)} did not leave for {to} within {seconds:g} s")
        return min(left, most)

"""The destination's side of the edge: verifies what is offered, opens it in workers, and lets it live or go."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import msgspec

from agentplatform.custody import events
from agentplatform.custody.fetches import Fetches
from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Cargo, Notice, Offer
from agentplatform.custody.pieces import SLOWEST
from agentplatform.custody.records import BIRTH, Beginning
from agentplatform.custody.residents import Residents
from agentplatform.custody.surroundings import Asked, Surroundings
from agentplatform.mail import Letter, Luggage
from agentplatform.messages import Arrival, Custody
from agentplatform.parcel.freight import Freight, Spooled, Stowed, travelling
from agentplatform.parcel.manifest import Birth, Manifest, Parcel, open_certificate, open_parcel
from agentplatform.parcel.spool import Spool
from agentplatform.passes import Pass, joined
from agentplatform.replay import Replay
from agentplatform.runners.base import Runner
from agentplatform.settings import Handoff as Deadlines
from ledger import codec
from ledger.errors import PeerFault, PlatformError, Unavailable
from ledger.identity import Signed

log = logging.getLogger(__name__)
replace = msgspec.structs.replace
_OWN = "the custody journal"
_MAIL: Any = Letter | Pass
MAX_CARGO = 64  # agents of one offer


class Guest(msgspec.Struct, frozen=True):
    """One agent that was offered, and is not yet a resident."""

    birth: Birth
    certificate: bytes
    luggage: Luggage
    parcel: Parcel
    loose: Replay | None = None  # what it did beyond its state, if a restart brings it back
    file: str = ""  # where its state lies in the spool, if that is large and here

    @property
    def state(self) -> Stowed:
        state = self.parcel.state
        return Spooled(state, self.file) if isinstance(state, Freight) else state


class Arrivals:
    def __init__(
        self,
        chain: bytes,
        step: Callable[[events.Event], None],
        residents: Residents,
        journal: Journal,
        runner: Runner,
        surroundings: Surroundings,
        deadlines: Deadlines,
        spool: Spool,
        custody_of: Callable[[str], Custody],
    ) -> None:
        """`custody_of` an agent that is here, or on its way here: its birth certificate knows how it began."""
        self._custody_of = custody_of
        self.fetches = Fetches(spool, surroundings.stream, deadlines.parcel_life)
        self._spool, self._patience = spool, deadlines.parcel_life
        self._chain, self._step = chain, step
        self._residents, self._journal, self._runner = residents, journal, runner
        self._surroundings = surroundings
        self._offered: dict[bytes, tuple[Guest, ...]] = {}  # verified, not yet taken by the machine
        self._guests: dict[bytes, tuple[Guest, ...]] = {}
        self._opening: dict[str, asyncio.Future[None]] = {}  # agent -> when its examination has ended
        # Held: transfer -> source, agents and their epochs of an arrival that came without its notice.
        self._unnoticed: dict[bytes, tuple[str, dict[str, int]]] = {}
        self._closed: set[str] = set()  # inert copies whose worker ended, or that a restart could not open again

    def verify(self, host: str, offer: Offer) -> None:
        """Signatures and digests of all parcels, before anything acts on them. Raises PeerFault with the reason,
        and Unavailable for a parcel that is only too old."""
        key = self._surroundings.key_of(host)
        if key is None:
            raise PeerFault(host, "is not registered with the ledger, or is revoked")
        if len(offer.cargo) > MAX_CARGO:
            raise PeerFault(host, f"offered {len(offer.cargo)} agents at once; at most {MAX_CARGO} are taken")
        if len(offer.cargo) != len(offer.parcels):
            raise PeerFault(host, "offered a handoff whose parcels are not those of its cargo")
        wall = int(time.time() * 1000)
        guests = []
        for load, parcel in zip(offer.cargo, offer.parcels, strict=True):
            manifest, birth = open_parcel(
                parcel,
                chain=self._chain,
                source=host,
                source_key=key,
                destination=self._residents.host,
                wall=wall,
                was_key_of=self._surroundings.was_key_of,
            )
            if (manifest.transfer, manifest.agent, manifest.epoch) != (offer.transfer, load.agent, load.epoch):
                raise PeerFault(host, f"offered {load.agent} with the manifest of another transfer, agent or epoch")
            luggage = codec.decode(parcel.luggage, Luggage, host)
            luggage.check(birth.agent, host)
            now = replace(birth, custody="held" if load.held else "local")
            guests.append(Guest(now, manifest.birth, luggage, parcel))
        self._offered = {offer.transfer: tuple(guests)}  # the machine says at once whether it takes them

    def births(self, transfer: bytes) -> list[Birth]:
        """Of what was verified just now."""
        return [guest.birth for guest in self._offered[transfer]]

    # What the machine decides

    def examine(self, transfer: bytes, source: str) -> Coroutine[Any, Any, None]:
        """Policy, space, and every parcel opened in a worker; then the machine hears what came of it.

        The offer is taken now: before the work begins others may come, or the source's word that this one is off.
        """
        guests = self._guests[transfer] = self._offered.pop(transfer)
        for guest in guests:
            self._journal.owned(guest.birth.agent, guest.birth.owner)
        return self._examine(transfer, source)

    async def _examine(self, transfer: bytes, source: str) -> None:
        guests = self._guests.get(transfer, ())
        agents = [guest.birth.agent for guest in guests]
        # A copy of an earlier handoff, aborted since, may still be opened: when that is done it is ended by its name.
        # Held: the ledger's word may have reached the source before our COMMIT is durable, so that the agent is back
        # already while its frozen copy is here. Either takes as long as it takes; the source gives up at its deadline.
        while earlier := {each for agent in agents for each in self._before(agent) if each is not None}:
            await asyncio.wait(earlier)
        if transfer not in self._guests:
            return  # aborted meanwhile
        ended = asyncio.get_running_loop().create_future()
        self._opening |= dict.fromkeys(agents, ended)
        refusal = None
        try:
            self._check(transfer, source, guests)
            guests = await self._fetch(transfer, source, guests)
            # Code is in the log before RECEIVED, and a large state synced; but no code of what may yet be refused.
            if not any(guest.file or guest.parcel.code for guest in guests):
                self._step(events.Admitted(transfer))
            # All of them, also when one fails: what is still being opened could not be discarded.
            results = await asyncio.gather(*(self._open(guest) for guest in guests), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except PlatformError as error:
            refusal = str(error)
            log.info("%s from %s refused: %s", ", ".join(agents), source, refusal)
        finally:
            self.fetches.finish(transfer)
            for agent in agents:
                del self._opening[agent]
            ended.set_result(None)
        if refusal is not None or transfer not in self._guests:  # or aborted meanwhile
            self._surroundings.release(transfer)
            self._end(self._guests.pop(transfer, guests))
        self._step(events.Examined(transfer, refusal))

    def _before(self, agent: str) -> tuple["asyncio.Future[None] | None", ...]:
        return self._opening.get(agent), self._residents.gone(agent)

    async def _fetch(self, transfer: bytes, source: str, guests: tuple[Guest, ...]) -> tuple[Guest, ...]:
        """Large states, one after the other: they share the window. Raises what Fetches.fetch raises."""
        for place, guest in enumerate(guests):
            if not isinstance(guest.parcel.state, Freight):
                continue
            if transfer not in self._guests:
                raise Unavailable(f"the handoff was called off before {guest.birth.agent} was here")
            began = time.monotonic()
            spooled = await self.fetches.fetch(source, transfer, guest.birth.agent, guest.parcel.state)
            self._surroundings.transferred(source, guest.parcel.state.size, time.monotonic() - began)
            guests = (*guests[:place], replace(guest, file=spooled.file), *guests[place + 1 :])
            if transfer in self._guests:
                self._guests[transfer] = guests
            else:
                self._end(guests)
        return guests

    def files(self, transfer: bytes) -> dict[str, str]:
        return {guest.birth.agent: guest.file for guest in self._guests[transfer] if guest.file}

    def parcels(self, transfer: bytes) -> tuple[Parcel, ...]:
        return tuple(guest.parcel for guest in self._guests[transfer])

    def agents(self, transfer: bytes) -> list[str]:
        return [guest.birth.agent for guest in self._guests[transfer]]

    def activate(
        self, transfer: bytes, source: str, cargo: tuple[Cargo, ...], mail: tuple[bytes, ...]
    ) -> tuple[Cargo, ...]:
        """They live here from now on. Returns those that must be opened again first."""
        epochs = {load.agent: load.epoch for load in cargo}
        self._surroundings.settled(transfer)
        if cargo[0].held:
            self._unnoticed[transfer] = source, epochs
        for guest in self._guests.pop(transfer):
            agent = guest.birth.agent
            self._surroundings.arrived(agent, epochs[agent], source)
            if agent in self._closed:
                continue
            self._runner.activate(agent, Arrival(self._residents.host, epochs[agent], source))
            letters = take_in(agent, guest.luggage, mail, source)
            self._residents.settle(guest.birth, guest.certificate, epochs[agent], guest.luggage, letters)
        closed = tuple(load for load in cargo if load.agent in self._closed)
        self._closed.difference_update(epochs)
        return closed

    def noticed(self, host: str, notice: Notice) -> None:
        """In held custody the notice comes after the ledger's word, as a rule: its mail follows the agent, once."""
        source, epochs = self._unnoticed.get(notice.transfer, ("", {}))
        if source != host or not epochs.keys() & self._residents.known.keys():
            return
        del self._unnoticed[notice.transfer]
        for agent in epochs.keys() & self._residents.known.keys():
            self._residents.follow(agent, epochs[agent], partial(take_in, agent, mail=notice.mail, source=host))

    def died(self, agent: str) -> None:
        """The worker of an inert copy ended. Its parcel is in the journal: nothing is lost."""
        if any(agent == guest.birth.agent for guests in self._guests.values() for guest in guests):
            self._closed.add(agent)

    def discard(self, transfer: bytes) -> None:
        """Inert copies. Those that are being opened at this moment go when that is done."""
        self.fetches.cancel(transfer, "the handoff was called off")
        self._surroundings.release(transfer)
        self._end(self._guests.pop(transfer, ()))

    async def reopen(self, transfer: bytes, cargo: tuple[Cargo, ...], opened: Callable[[bytes], None]) -> None:
        """After a restart: the copies are in custody here, and stay inert until the source says more, or the ledger,
        which may do so from `opened(transfer)` on."""
        guests = [await self.unpack(transfer, load.agent) for load in cargo]
        self._guests[transfer] = tuple(guests)
        for guest in guests:
            if await self.open_again(guest) is not None:
                self._closed.add(guest.birth.agent)
        opened(transfer)

    # Shared with the revival of residents

    async def unpack(self, transfer: bytes, agent: str) -> Guest:
        """A parcel of our own journal: it was verified before it was written."""
        parcel = codec.decode(await self._journal.parcel(transfer, agent), Parcel, _OWN)
        manifest = codec.decode(codec.decode(parcel.manifest, Signed, _OWN).body, Manifest, _OWN)
        luggage = codec.decode(parcel.luggage, Luggage, _OWN)
        await self._journal.kept.recall(agent, luggage)
        file = await self._journal.file(transfer, agent) if isinstance(parcel.state, Freight) else ""
        return Guest(self._own(manifest.birth), manifest.birth, luggage, parcel, file=file)

    async def resident(self, kept: bytes, agent: str) -> Guest | None:
        """As its last checkpoint left it, or the parcel that the journal has under `kept`; None for an agent that was
        created here, and is to be created again."""
        checkpoint = await self._journal.kept.state(agent)
        if checkpoint is None:
            return None if kept == BIRTH else await self.unpack(kept, agent)
        if kept == BIRTH:
            birth, beginning, luggage = await self.birth(agent)
            guest = Guest(birth, beginning.certificate, luggage, Parcel(b"", b"", b"", None))
        else:
            guest = await self.unpack(kept, agent)
        loose = Replay(await self._journal.kept.loose(agent))
        file = checkpoint.file if isinstance(checkpoint, Spooled) else ""
        return replace(guest, parcel=replace(guest.parcel, state=travelling(checkpoint)), loose=loose, file=file)

    async def birth(self, agent: str) -> tuple[Birth, Beginning, Luggage]:
        """Of an agent that did not come by a handoff: its certificate, decoded and not, and its luggage as of now."""
        beginning = codec.decode(await self._journal.parcel(BIRTH, agent), Beginning)
        luggage = codec.decode(beginning.luggage, Luggage, _OWN) if beginning.luggage else Luggage()
        await self._journal.kept.recall(agent, luggage)
        return self._own(beginning.certificate), beginning, luggage

    def _own(self, certificate: bytes) -> Birth:
        """Of our own journal; with the custody that the agent is in now."""
        birth = open_certificate(certificate, _OWN)
        return replace(birth, custody=self._custody_of(birth.agent))

    async def birth_of(self, agent: str, kept: bytes) -> Birth:
        """Of an agent in custody here, by the journal."""
        return (await self.birth(agent))[0] if kept == BIRTH else (await self.unpack(kept, agent)).birth

    async def open_again(self, guest: Guest) -> PlatformError | None:
        """What kept it from being opened, if something did: then it stays in custody, and `agents` shows it as
        stranded."""
        try:
            if isinstance(guest.state, Spooled):
                await self._spool.verify(guest.file, guest.state.freight)
            await self._runner.open(guest.birth, await self._residents.code_of(guest.birth), guest.state)
        except PlatformError as error:
            log.error("%s is in custody here and could not be opened: %s", guest.birth.agent, error)
            return error
        return None

    # Helpers

    def _check(self, transfer: bytes, source: str, guests: tuple[Guest, ...]) -> None:
        verdict = self._surroundings.verdict(source)
        if not verdict.trusted:
            raise PeerFault(source, f"is not trusted by the ledger at height {verdict.height}: {verdict.reason}")
        if verdict.outdated:
            raise Unavailable(f"{self._residents.host} takes no agents: {verdict.outdated}")
        if (closed := self._surroundings.closed()) is not None:
            raise Unavailable(f"{closed} and takes no agents; name another host, or try again when it is open")
        states = [guest.parcel.state for guest in guests]
        inline = sum(len(state) for state in states if isinstance(state, bytes))
        spooled = sum(state.size for state in states if isinstance(state, Freight))
        needs = {guest.birth.agent: guest.luggage.standing.requires.needs for guest in guests}
        seconds = self._patience + (inline + spooled) / SLOWEST
        asked = Asked(guests[0].birth.owner.hex(), needs, inline, spooled, seconds)
        shortage = self._surroundings.reserve(transfer, asked)
        if shortage is not None:
            raise Unavailable(f"{self._residents.host} has no room: {shortage}")

    async def _open(self, guest: Guest) -> None:
        code = guest.parcel.code
        if code is None:
            code = await self._residents.code_of(guest.birth)
        opening = self._runner.open(guest.birth, code, guest.state)
        if guest.file:
            await asyncio.gather(opening, self._spool.sync(guest.file))
        else:
            await opening
        self._residents.keep_code(guest.birth.code, code)  # in the log before RECEIVED; nothing of what is refused

    def _end(self, guests: Iterable[Guest]) -> None:
        for guest in guests:
            self._closed.discard(guest.birth.agent)
            self._runner.discard(guest.birth.agent)
            if guest.file and guest.file not in self._spool.settled():
                self._spool.remove(guest.file)  # no record names it


def take_in(agent: str, luggage: Luggage, mail: Iterable[bytes], source: str) -> list[Letter]:
    """Those of a notice's letters that are for `agent`; its pass goes to its luggage. What is neither is left out; a
    letter is sent again by its sender."""
    letters = []
    for raw in mail:
        try:
            each: Letter | Pass = codec.decode(raw, _MAIL, source)
        except PeerFault as fault:
            log.warning("mail in a notice was dropped: %s", fault)
            continue
        if isinstance(each, Pass) and each.agent == agent:
            luggage.trail = joined(luggage.trail, (each,))
        elif isinstance(each, Letter) and each.receiver == agent:
            letters.append(each)
    return letters

"""The edge of the handoff: performs what the pure machine decides, and tells it what happened.

One instance serves all transfers of a host, in both directions (departures.py, arrivals.py). Everything here
runs on the event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec

from agentplatform.custody import events
from agentplatform.custody.arrivals import Arrivals
from agentplatform.custody.bookkeeper import Bookkeeper
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.declarations import Chain, Declarations
from agentplatform.custody.departures import Departures
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.journal import Journal
from agentplatform.custody.keeper import Keeper
from agentplatform.custody.lifetimes import Lifetimes
from agentplatform.custody.messages import (
    Accept,
    Cargo,
    Forswear,
    HandoffMessage,
    Notice,
    Offer,
    Recall,
    Recalled,
    Refuse,
)
from agentplatform.custody.pieces import Fetch, PieceMessage
from agentplatform.custody.recalls import Recalls
from agentplatform.custody.reopening import Reopening
from agentplatform.custody.residences import Ledger, Residences, subject_of
from agentplatform.custody.residents import Residents
from agentplatform.custody.surroundings import Surroundings
from agentplatform.mailroom.room import Mailroom
from agentplatform.parcel.manifest import Birth
from agentplatform.parcel.spool import Spool
from agentplatform.runners.base import Runner
from agentplatform.settings import Handoff as Deadlines
from ledger import codec
from ledger.errors import PeerFault, Unavailable
from ledger.identity import Identity

log = logging.getLogger(__name__)
_MESSAGE: Any = HandoffMessage
_PIECE_MESSAGE: Any = PieceMessage


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
        spool: Spool,
        ledger: Ledger,
        losses: Chain,
        keeper: Keeper,
        replication: Replication,
    ) -> None:
        self.host = host
        self.machine = machine
        self.residences = Residences(host, identity, chain, ledger, machine, self.step, surroundings.key_of)
        self._keeper = keeper
        subject_of = lambda agent: machine.agents[agent].subject  # noqa: E731
        self.residents = Residents(host, journal, mailroom, surroundings, replication, subject_of)
        self.departures = Departures(
            identity,
            chain,
            machine,
            self.step,
            self.residents,
            mailroom,
            runner,
            surroundings,
            deadlines,
            spool,
            replication.make_way,
            gateway.release,
            self.residences.convoys.join,
        )
        self.arrivals = Arrivals(
            chain, self.step, self.residents, journal, runner, surroundings, deadlines, spool, machine.custody
        )
        self.books = Bookkeeper(
            journal,
            spool,
            gateway,
            self.departures,
            self.arrivals,
            replication,
            self.step,
            self._start,
            lambda agent: surroundings.located(agent, machine.agents[agent].epoch, ""),
            surroundings.broken,
        )
        self.reopening = Reopening(
            host,
            machine,
            self.residents,
            self.arrivals,
            journal,
            gateway,
            mailroom,
            runner,
            surroundings,
            keeper.granted,
            self._start,
        )
        self.dormitory = self.reopening.dormitory
        self.declarations = Declarations(
            host,
            identity,
            chain,
            losses,
            machine,
            self.step,
            self.departures.send,
            self.arrivals.parcels,
            surroundings.was_key_of,
        )
        self.recalls = Recalls(
            host,
            identity,
            chain,
            ledger,
            machine,
            self.step,
            self.departures.send,
            self.books.end,
            keeper.granted,
            lambda: losses.signers().keys(),
            surroundings,
        )
        self.recalls.subject = self._subject_of
        self.lifetimes = Lifetimes(
            host,
            identity,
            chain,
            machine,
            self._perform,
            self.books.end,
            self.residents,
            self.departures,
            self.arrivals,
            self.reopening,
            self.residences,
            keeper,
            replication,
            journal,
            gateway,
            mailroom,
            runner,
            surroundings,
        )
        self._journal, self._gateway, self._runner = journal, gateway, runner
        self._surroundings = surroundings
        self._tasks: set[asyncio.Task[None]] = set()

    # Messages and time

    def receive(self, host: str, raw: bytes) -> None:
        """A handoff message from another host. Raises PeerFault for one that must not be sent."""
        message: HandoffMessage = codec.decode(raw, _MESSAGE, host)
        if isinstance(message, Offer):
            try:
                self.arrivals.verify(host, message)
                self.residences.convoys.offered(host, message)
            except PeerFault as fault:
                self.departures.send(host, Refuse(message.transfer, str(fault)))
                raise
            except Unavailable as late:
                self.departures.send(host, Refuse(message.transfer, str(late)))
                return
            births = self.arrivals.births(message.transfer)
            if reason := self._unfit(host, message.cargo, births):
                self.departures.send(host, Refuse(message.transfer, reason))
                return
        elif isinstance(message, Accept) and (reason := self._distrusted(host, message.transfer)):
            # Revoked while the offer was out: arrivals there stop at once. COMMIT is not written yet.
            self.step(events.GiveUp(message.transfer, f"{host} is not trusted any more: {reason}"))
            return
        elif self.declarations.receive(host, message) or self.recalls.receive(host, message):
            return
        if isinstance(message, Accept):
            self.residences.promised(message)
        self.step(events.Message(host, message))
        if isinstance(message, Notice):
            self.arrivals.noticed(host, message)
        elif isinstance(message, Refuse):
            self.departures.refused(host, message)

    def stream(self, host: str, raw: bytes) -> None:
        """What comes on the channel of large states. Raises PeerFault for what must not be sent."""
        message: PieceMessage = codec.decode(raw, _PIECE_MESSAGE, host)
        if isinstance(message, Fetch):
            self.departures.receive(host, message)
        else:
            self.arrivals.fetches.receive(host, message)

    def linked(self, host: str) -> None:
        """There is a new link to it."""
        self.arrivals.fetches.linked(host)
        self.recalls.linked(host)
        self.remind()

    def _unfit(self, host: str, cargo: tuple[Cargo, ...], births: Iterable[Birth]) -> str | None:
        """Why not, if the ledger does not go with an offer."""
        reasons = (self.residences.unfit(host, *each) for each in zip(cargo, births, strict=True))
        return next((reason for reason in reasons if reason), None)

    def _distrusted(self, host: str, transfer: bytes) -> str | None:
        """Why not, if `transfer` is on offer to `host`, which may not have it any more."""
        held, verdict = self.machine.leaving.get(transfer), self._surroundings.verdict(host)
        return verdict.reason if held is not None and held.peer == host and not verdict.trusted else None

    def remind(self) -> None:
        """Asks again about all that waits for another host."""
        self.arrivals.fetches.remind()
        self.step(events.Remind())
        self.residences.convoys.remind()
        self.declarations.remind()
        self.recalls.remind()

    def step(self, event: events.Event) -> None:
        """Raises what the machine raises."""
        self._perform(self.machine.step(event))

    # What the machine decides

    def _perform(
        self, effects: Iterable[events.Effect], beside: tuple[bytes, ...] = (), parent: str | None = None
    ) -> None:
        for effect in effects:
            match effect:
                case events.Write(record):
                    self.books.write(record, beside, parent)
                case events.Send(to, message):
                    if isinstance(message, Offer):
                        message = self.residences.convoys.signed(message)
                    elif isinstance(message, Accept) and message.held:
                        message = self.residences.promise(to, message)
                    elif isinstance(message, Forswear):
                        message = self.declarations.signed(to, message)
                    elif isinstance(message, Recalled):
                        message = self.recalls.with_proof(to, message)
                    self.departures.send(to, message)
                case events.Examine(transfer, source, cargo):
                    examination = self.arrivals.examine(transfer, source)
                    self._start(self._leased(examination) if cargo[0].held else examination)
                case events.Activate(transfer, source, cargo, mail):
                    for load in self.arrivals.activate(transfer, source, cargo, mail):
                        self._start(self.reopening.restart(load.agent, load.epoch, transfer, mail))
                case events.Discard(transfer, cargo, reason):
                    log.info("inert copies of %s discarded: %s", ", ".join(load.agent for load in cargo), reason)
                    self.arrivals.discard(transfer)
                case events.Resume(transfer, _, cargo, reason):
                    if dead := self.departures.resume(transfer, cargo, reason):
                        self._start(self.reopening.restore(transfer, dead, reason))
                case events.Release(transfer, to, cargo):
                    self.departures.release(transfer, to, cargo)
                case events.Restore(transfer, _, cargo, reason):
                    self._start(self.reopening.restore(transfer, cargo, reason))
                case events.Restart(agent, epoch, kept, mail):
                    self._start(self.reopening.restart(agent, epoch, kept, mail))
                case events.Reopen(transfer, _, cargo):
                    self._start(self.arrivals.reopen(transfer, cargo, self._opened))
                case events.Ask(transfer, to, cargo, entry):
                    self.residences.ask(transfer, to, cargo, entry)
                case events.Withdraw(transfer, cargo, entry):
                    self.residences.withdraw(transfer, cargo, entry)
                case events.Dismiss(_, subject, epoch):
                    self.residences.dismiss(subject, epoch)
                case events.Return(transfer, _, (load,), reason):
                    if self.departures.returned(transfer, load, reason):
                        here = msgspec.structs.replace(load, epoch=load.epoch + 1)  # as if it had been offered next
                        self._start(self.reopening.restore(transfer, (here,), reason))
                case events.Changed(transfer, load):
                    self._start(self._go_on(transfer, load, self.departures.changed(transfer, load)))
                case events.Revoke(agent, epoch, to, restored):
                    self._revoke(agent, epoch, to, restored)

    async def _leased(self, examination: Coroutine[Any, Any, None]) -> None:
        """A host that could not let the agent run does not take it; its source gives up at its deadline."""
        await self._keeper.granted()
        await examination

    async def _go_on(self, transfer: bytes, load: Cargo, told: Callable[[], None]) -> None:
        """In the other custody: it is opened as one that was in that when this host was started."""
        self._gateway.thawed()  # what waits there for a lease may need none any more
        await self.reopening.restart(load.agent, load.epoch, transfer, ())
        told()

    def _revoke(self, agent: str, epoch: int, to: str, restored: bool) -> None:
        text = f"the ledger gave it to {to or 'nobody'}, in epoch {epoch}"
        if restored:
            text = f"{self.host} was restored from a backup, and it had gone on to {to}, in epoch {epoch}"
            if not to:
                text = f"{self.host} was restored from a backup, and it had ended elsewhere, in epoch {epoch}"
        log.warning("%s ends here: %s", agent, text)
        self._gateway.drop(agent)
        self.departures.revoked(agent, f"the ledger gave it to {to or 'nobody'}")
        self._runner.discard(agent)
        self.dormitory.forget(agent)
        self.residents.forget(agent)
        self._surroundings.printed(agent, "note", f"{text}: the copy on {self.host} is gone")
        self._surroundings.located(agent, epoch, to)

    # After a restart

    async def recover(self, effects: Iterable[events.Effect]) -> None:
        """Performs what Handoff.recover decided, before the links start: a notice must find its copies opened.

        Agents that are born again run their own code to do so; nobody waits for that.
        """
        await self.books.sweep()
        self.dormitory.asleep |= await self._journal.kept.asleep()
        machine = self.machine
        here = any(known.held and known.here for known in machine.agents.values())
        if here or any(held.by_ledger for held in (*machine.leaving.values(), *machine.arriving.values())):
            self._keeper.want()
        self._perform(effects)
        self.residences.follow()
        self.declarations.follow()  # what the chain took from here meanwhile does not run again
        while waiting := self._tasks - self.reopening.births:
            await asyncio.wait(waiting)

    async def _subject_of(self, agent: str) -> bytes:
        birth = await self.arrivals.birth_of(agent, self.machine.agents[agent].kept)
        return subject_of(birth.owner, agent)

    def _opened(self, transfer: bytes) -> None:
        self.residences.opened(transfer)
        self.declarations.opened(transfer)

    # Helpers

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a step of a handoff failed", exc_info=error)


def is_recall(raw: bytes) -> bool:
    """Whether a handoff message is about lives of hosts, and no handoff. What cannot be decoded is none."""
    try:
        return isinstance(codec.decode(raw, _MESSAGE, "a host"), Recall | Recalled)
    except PeerFault:
        return False

"""The mobile agent environment of one host: the composition root, the only module that knows all rooms.

Every room gets here what it needs of the others; what they do with it stands in the rooms.
"""

import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from agentplatform import passes, rotation
from agentplatform.bulletins import Rms as RmsBulletin
from agentplatform.bulletins import Silent, Topics
from agentplatform.commands import Command, Commands, open_command
from agentplatform.custody.carry import Carrier
from agentplatform.custody.copies.holders import Candidate
from agentplatform.custody.copies.origins import Origins
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.copies.vault import Vault
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.held import Held
from agentplatform.custody.journal import Journal
from agentplatform.custody.keeper import Keeper
from agentplatform.custody.onchain import OnChain
from agentplatform.custody.rehoming import Rehoming
from agentplatform.custody.surroundings import Hop
from agentplatform.exchange import Exchange
from agentplatform.following import groups_here, user_of
from agentplatform.history import HostHistory
from agentplatform.hops import HopBook
from agentplatform.kinds import DIRECTORY, Found, Query
from agentplatform.lives import Lives
from agentplatform.logbook import Logbook
from agentplatform.mailroom.roads import Roads
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Answer, Checkpoint, Outgoing
from agentplatform.parcel.freight import Stowed
from agentplatform.parcel.manifest import Birth, open_certificate
from agentplatform.parcel.spool import FileSpool
from agentplatform.passes import Trail
from agentplatform.runners.process.pool import ProcessRunner, WorkerSettings
from agentplatform.settings import Home
from agentplatform.ticket import Ticket
from agentplatform.whereabouts import Located, Whereabouts
from agentplatform.witnesses import watched
from ledger import codec, genesisfile, keyfile
from ledger.client import Client
from ledger.contracts import trust
from ledger.disk import FileDisk
from ledger.engines import ENGINES
from ledger.errors import PeerFault, PlatformError, Unavailable
from ledger.leases import suspended_clock
from ledger.links.base import Channel
from ledger.links.tls import TlsLinks
from ledger.replica import Replica
from services.dms.sqlite import SqliteStore
from services.eds.events import Event, HostJoined, HostRevoked, UserMoved
from services.eds.explain import Outcome
from services.eds.planner import Plan
from services.eds.policies import POLICIES
from services.eds.rules import Group
from services.eds.service import Eds
from services.eds.snapshot import Resident as ResidentOfGroup
from services.eds.snapshot import Snapshot, assemble
from services.rms.probes import SystemProbe, offers
from services.rms.resources import Minima
from services.rms.service import Rms
from services.tms.service import Tms
from services.tms.verdicts import Verdict

log = logging.getLogger(__name__)
COPY_DISK_BYTES = 1 << 30  # that a host has free, by its own advert, to be asked to hold copies


class Environment:
    """One host. `start` brings it up from its folder, `stop` ends it; in between it is driven by its callbacks."""

    def __init__(self, home: Home, history: Path | None = None) -> None:
        """`history`: the folder that what happens here is written to (agentplatform.history)."""
        self.home = home
        self.settings = home.settings()
        self.host = self.settings.host
        self.history = None if history is None else HostHistory(history, self.host)
        self.started_at = time.time()
        self.stopping = asyncio.Event()
        self.whereabouts = Whereabouts(lambda each: passes.authentic(self.chain, self.key_of)(each))
        self.gateway = Gateway()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = AsyncExitStack()  # what `stop` closes, the last first

    async def start(self) -> None:
        """Raises Misuse with what is wrong with the folder, the port or the data; then `stop` is still owed."""
        home, settings = self.home, self.settings
        self.identity = keyfile.load(home.host_key)
        self.genesis = genesisfile.read(home.genesis)
        self.chain = self.genesis.chain_id()
        self.disk = FileDisk(home.data)
        self._opened.push_async_callback(self.disk.close)
        self.disk.on_failure(self._disk_failed)
        self.spool = FileSpool(home.data / "spool")
        self._opened.callback(self.spool.close)
        self.store = await SqliteStore.open(home.data / "dms.db")
        self._opened.push_async_callback(self.store.close)
        self.journal = await watched(Journal, self.history).open(self.disk)
        self.logbook = Logbook(home.data / "logs")
        self.links = TlsLinks(self.host, self.identity, self.chain, settings.listen)
        self.replica = Replica(self.host, self.identity, self.genesis, self.disk, self.links, ENGINES["ipbft"])
        self.replica.on_failure(self._disk_failed)
        self.client = Client(self.replica, self.identity)
        self.tms = Tms(self.replica)
        workers = WorkerSettings(
            warm=settings.workers.warm,
            most=settings.workers.most,
            preload=settings.workers.preload,
            private=(home.folder,),
            history=None if self.history is None else self.history.prefix,
        )
        self.runner = ProcessRunner(self, self.spool, workers)
        machine, effects = watched(Held, self.history).recover(self.host, await self.journal.load())
        self.roads = Roads(
            self.host,
            self.whereabouts,
            lambda host, raw: self.links.send(host, Channel.MAIL, raw),
            lambda host, bulletin: self.exchange.tell(host, bulletin),
            self.links.up,
        )
        on_chain = OnChain(self.host, self.replica, self.client)
        self.replication = Replication(
            self.host,
            settings.organisation,
            self.journal,
            on_chain,
            self,
            settings.holders,
            lambda: self.replica.leases.incarnation,
            Origins(self.journal, self.spool, machine).of,
        )
        self.vault = await Vault.open(
            self.disk, self.send_copy, on_chain.find, self._certified, self.host, settings.holders.room
        )
        self.mailroom = watched(Mailroom, self.history)(
            self.host,
            self.roads,
            self.gateway.release,
            self.replication,
            self.runner.deliver,
            self.runner.answer,
            lambda agent: self.carrier.dormitory.wake(agent),
            lambda subscribed: self.exchange.tell_all(Topics((subscribed,))),
            self.broken,
            lambda agent, text: self.printed(agent, "note", text),
        )
        self.keeper = Keeper(lambda: self.replica.leases, machine, self.runner.lease, suspended_clock)
        self.gateway.may_leave = lambda agent: self.keeper.may_leave(agent) and self.replication.may_leave(agent)
        self.keeper.thawed = self.replication.completed = self.gateway.thawed
        self.carrier = Carrier(
            self.host,
            self.identity,
            self.chain,
            machine,
            self.journal,
            self.gateway,
            self.mailroom,
            self.runner,
            self,
            settings.handoff,
            self.spool,
            on_chain,
            on_chain,
            self.keeper,
            self.replication,
        )
        self.rehoming = Rehoming(
            self.host,
            on_chain,
            self.vault,
            self.carrier,
            self.links.up,
            lambda host, subjects: self.exchange.tell(host, Silent(subjects)),
            lambda agent, text: self.printed(agent, "note", text),
            suspended_clock,
        )
        self.lives = Lives(
            self.host,
            self.carrier,
            self.runner,
            self.gateway,
            lambda: self.rms.adverts(),
            lambda agent, text: self.printed(agent, "note", text),
            self.start_task,
        )
        self.commands = Commands(
            self.host, self.whereabouts, lambda host, raw: self.links.send(host, Channel.COMMAND, raw), self.perform
        )
        self.rms = Rms(
            self.host,
            SystemProbe(home.data, settings.decisions.bandwidth),
            lambda host, raw: self.exchange.tell(host, RmsBulletin(raw)),
            self.links.up,
            offers=offers(),
        )
        self.hops = HopBook(self.store, self.client)
        self.eds = Eds(
            POLICIES[settings.decisions.policy](), self._snapshot, self._carry_out, self.store, groups=self.groups
        )
        self.exchange = Exchange(
            self.host,
            self.links,
            self.whereabouts,
            self.carrier,
            self.replication,
            self.rehoming,
            self._certified,
            self.roads,
            self.mailroom,
            self.commands,
            self.rms,
            self._user_moved,
            self.start_task,
        )
        self._opened.push_async_callback(self.links.stop)
        await self.replica.start()
        self._opened.push_async_callback(self.replica.stop)
        self._registry = self.replica.registry()
        if self.adopt_key():
            raise Unavailable(f"the key of {self.host} was rotated, and the new one is in place now; start it again")
        self.replica.on_block(lambda *_: self._registry_changed())
        self.replica.on_block(lambda *_: self._custody_changed())
        self._opened.push_async_callback(self.runner.stop)
        await self.runner.start()
        self.exchange.recall(await self.journal.kept.ends())
        await self.carrier.recover(effects)  # before the links: a notice must find its copies opened
        self._custody_changed()
        self._learn_declared()
        await self.links.start()
        self._opened.callback(self._cancel_tasks)
        self._opened.callback(self.rehoming.stop)
        self._opened.push_async_callback(self.eds.close)
        self.start_task(self.rms.run())
        self.start_task(self.hops.run())
        self.start_task(self.keeper.run())
        self.start_task(self.rehoming.run())
        self.start_task(self._remind())

    async def stop(self) -> None:
        """Ends in the opposite order of the start, however far that came."""
        await self._opened.aclose()

    # What the handoff asks of the rest of the host (custody.carry.Surroundings)

    def send(self, host: str, message: bytes) -> bool:
        return self.links.send(host, Channel.HANDOFF, message)

    def stream(self, host: str, message: bytes) -> bool:
        return self.links.send(host, Channel.BULK, message)

    def send_copy(self, host: str, message: bytes) -> bool:
        return self.links.send(host, Channel.COPY, message)

    def candidates(self) -> list[Candidate]:
        """For copies of held agents (custody.copies.replication.Around)."""
        adverts, up = self.rms.adverts(), self.links.up()
        full = {host for host, advert in adverts.items() if advert.resources.disk_free < COPY_DISK_BYTES}
        return [
            Candidate(host, passport.organisation)
            for host, passport in sorted(self._registry.items())
            if host in up and host not in full and self.trusted(host)
        ]

    def trusted(self, host: str) -> bool:
        return self.tms.verdict(host).trusted

    def linked(self, host: str) -> bool:
        return host in self.links.up()

    def _certified(self, certificate: bytes, sender: str) -> Birth:
        return open_certificate(certificate, sender, self.chain, self.was_key_of)

    def verdict(self, host: str) -> Verdict:
        return self.tms.verdict(host)

    def key_of(self, host: str) -> bytes | None:
        passport = self._registry.get(host)
        return None if passport is None else passport.key

    def was_key_of(self, host: str, key: bytes) -> bool:
        holder = trust.past_holder(self.replica.state, key)
        return holder is not None and holder.host == host

    def adopt_key(self) -> bool:
        """Puts this host's next key in place, if the chain has taken it. It counts from the next start on."""
        if not rotation.adopt(self.home, self.key_of(self.host)):
            return False
        log.warning("the key of %s was rotated; start the host again, with its new key", self.host)
        return True

    def shortage(self, inline: int, spooled: int) -> str | None:
        """A state lies in memory three times while it is opened: as received, in the worker, and as the live agent; one
        that is spooled in the agent alone."""
        advert = self.rms.adverts().get(self.host)
        if advert is None:
            return None
        return "; ".join(advert.resources.shortages(Minima(memory=3 * inline + spooled, disk=inline + spooled))) or None

    def located(self, agent: str, epoch: int, host: str, trail: Trail = ()) -> None:
        self.exchange.located(agent, epoch, host, trail)
        known = self.carrier.machine.agents.get(agent)
        if known is not None and known.held:  # of the others there may be thousands
            self.exchange.rehomed()

    def hopped(self, hop: Hop) -> None:
        for load in hop.cargo:
            self.printed(load.agent, "note", f"went to {hop.destination} in {hop.downtime_ms:.1f} ms: {hop.why}")
        self.hops.add(hop)

    # What agents do (runners.base.Upcalls)

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        self.lives.wants_to_go(agent, destination, state)

    def books(self, agent: str, ticket: Ticket) -> None:
        self.lives.books(agent, ticket)

    def wants_to_sleep(self, agent: str, seconds: float | None) -> None:
        self.lives.wants_to_sleep(agent, seconds)

    def wants_clone(self, agent: str) -> None:
        self.lives.wants_clone(agent)

    def wants_to_end(self, agent: str) -> None:
        self.lives.wants_to_end(agent)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        self.mailroom.checkpointed(agent, checkpoint)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        if outgoing.receiver != DIRECTORY:
            self.mailroom.sent(agent, outgoing)
        elif outgoing.call is not None:
            self.runner.answer(agent, outgoing.call, self._found(agent, outgoing.body))

    def _found(self, agent: str, query: bytes) -> Answer:
        try:
            return Answer(True, codec.encode(self.services(codec.decode(query, Query, agent))))
        except PeerFault as fault:
            return Answer(False, codec.encode(str(fault)))

    def services(self, query: Query) -> list[Found]:
        """Those of this host's directory, where they are by its whereabouts; not on hosts that are not trusted."""
        links = self.rms.links()

        def where(agent: str) -> str | None:
            host = self.whereabouts.host_of(agent)
            return host if host and self.trusted(host) else None

        def distance(host: str) -> float | None:
            link = links.get((self.host, host))
            return None if link is None else link.rtt_ms

        return self.exchange.directory.find(query, where, distance)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self.mailroom.answered(agent, ticket, answer)

    def printed(self, agent: str, stream: str, text: str) -> None:
        self.logbook.write(agent, stream, text)

    def died(self, agent: str, reason: str) -> None:
        becomes = self.carrier.died(agent)
        log.warning("the worker of %s ended: %s; %s", agent, reason, becomes)
        self.logbook.write(agent, "note", f"its worker on {self.host} ended: {reason}; {becomes}")

    # What owners and the EDS want

    async def perform(self, agent: str, command: bytes, sender: str) -> dict[str, Any]:
        """An owner's signed command for an agent that lives here (agentplatform.commands)."""
        if self.whereabouts.host_of(agent) == "":
            return {}
        owner = await self.carrier.owner_of(agent)
        if owner is None:
            raise Unavailable(f"{agent} is not on {self.host}", retry_after=1)
        order = open_command(command, owner, int(time.time() * 1000), sender)
        if order.agent != agent:
            raise PeerFault(sender, f"sent a command for {order.agent} as one for {agent}")
        return await self.obey(agent, order)

    async def obey(self, agent: str, order: Command) -> dict[str, Any]:
        """Performs it, and returns the outcome as plain data: the hop, or the id of a clone."""
        done = await self.lives.obey(agent, order)
        if isinstance(done, str):
            return {"clone": done}
        return {} if done is None else await self.hops.plain(done)

    async def happened(self, event: Event) -> None:
        """An event for the groups here; what concerns a user is told to the other hosts too."""
        await (self.exchange.happened(event) if isinstance(event, UserMoved) else self.eds.happened(event))

    async def _user_moved(self, event: UserMoved) -> None:
        for agent, resident in self.carrier.residents.known.items():
            if user_of(resident.birth) == event.user:
                self.runner.tell(agent, "on_user_moved", event.nearest)
        await self.eds.happened(event)

    def groups(self) -> list[Group]:
        births = {agent: resident.birth for agent, resident in self.carrier.residents.known.items()}
        return groups_here((box.luggage.standing.group for box in self.mailroom.boxes.values()), births)

    async def _snapshot(self, group: Group) -> Snapshot:
        residents = {}
        for agent in group.agents:
            host = self.whereabouts.host_of(agent)
            if host:
                here = self.carrier.residents.known.get(agent)
                residents[agent] = ResidentOfGroup(agent, host, here.since if here else 0.0)
        return assemble(group, time.time(), self.tms.verdicts(), self.rms.adverts(), self.rms.links(), residents)

    async def _carry_out(self, plan: Plan, why: str) -> Outcome:
        """All moves from here to one host are one handoff: they arrive together or stay together."""
        absent = [move.agent for move in plan.moves if move.agent not in self.carrier.residents.known]
        if absent:
            raise Unavailable(f"{', '.join(absent)} not on {self.host}: only a group that is in one place moves as one")
        failed: dict[str, str] = {}
        for destination in sorted({move.destination for move in plan.moves}):
            agents = [move.agent for move in plan.moves if move.destination == destination]
            try:
                await self.lives.decided(agents, destination, why)
            except PlatformError as error:
                failed |= dict.fromkeys(agents, str(error))
        return Outcome(failed)

    # The chain

    def _custody_changed(self) -> None:
        self.carrier.residences.follow()
        if self.carrier.declarations.follow():
            self._learn_declared()
        self.rehoming.follow()
        self.replication.follow()

    def _learn_declared(self) -> None:
        """Where agents are whose last host is lost: nobody else can say."""
        for each in self.whereabouts.alive():
            if (found := self.carrier.declarations.of(each.agent)) is not None and found.destination != self.host:
                self.exchange.learn(Located(each.agent, found.epoch, found.destination))

    def _registry_changed(self) -> None:
        before, self._registry = self._registry, self.replica.registry()
        if before == self._registry:
            return
        self.adopt_key()
        for host in before.keys() - self._registry.keys():
            self.start_task(self.eds.happened(HostRevoked(host, self.tms.verdict(host).reason)))
        for host in self._registry.keys() - before.keys():
            self.start_task(self.eds.happened(HostJoined(host)))

    # Time, tasks, the end

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(self.settings.handoff.remind_every)
            try:
                self.carrier.remind()
                self.mailroom.remind()
                self.replication.remind()
                self.rehoming.follow()
                self.exchange.rehomed()
                if self.journal.due:
                    self.journal.compact(self.carrier.machine)
            except Exception:
                log.exception("a round of reminding failed; the next one comes")

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def start_task(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the daemon failed", exc_info=error)

    def _disk_failed(self, failure: Unavailable) -> None:
        self.broken(str(failure))

    def broken(self, reason: str) -> None:
        """Nothing may leave any more that rests on what was not written: the only safe thing is to end."""
        log.critical("%s", reason)
        os._exit(1)

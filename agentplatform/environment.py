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

from agentplatform import backup, datakey, passes
from agentplatform.blaming import Blaming
from agentplatform.bulletins import Rms as RmsBulletin
from agentplatform.bulletins import Silent, Topics
from agentplatform.calling_back import CallingBack
from agentplatform.carrying_out import CarryingOut
from agentplatform.claiming import claim, facts
from agentplatform.commands import Command, Commands, open_command, read_command
from agentplatform.custody.carry import Carrier
from agentplatform.custody.copies.origins import Origins
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.copies.vault import Vault
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.held import Held
from agentplatform.custody.journal import Journal
from agentplatform.custody.keeper import Keeper
from agentplatform.custody.onchain import OnChain
from agentplatform.custody.rehoming import Rehoming
from agentplatform.custody.sealed import Seals
from agentplatform.deciding import Deciding
from agentplatform.drainer import Drainer
from agentplatform.exchange import Exchange
from agentplatform.history import HostHistory
from agentplatform.hops import HopBook
from agentplatform.kinds import Found, Query
from agentplatform.lives import Lives
from agentplatform.logbook import Logbook
from agentplatform.mailroom.roads import Roads, ended
from agentplatform.mailroom.room import Mailroom
from agentplatform.parcel.spool import FileSpool
from agentplatform.presence import Presence
from agentplatform.registry import Registry
from agentplatform.runners.process.runner import ProcessRunner
from agentplatform.runners.process.settings import WorkerSettings
from agentplatform.setting_out import SettingOut
from agentplatform.settings import Home
from agentplatform.surroundings import HostSurroundings
from agentplatform.upcalls import HostUpcalls
from agentplatform.whereabouts import Whereabouts
from agentplatform.witnesses import watched
from ledger import genesisfile, keyfile, store
from ledger.client import Client
from ledger.disk import FileDisk
from ledger.engines import ENGINES
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.leases import suspended_clock
from ledger.links.base import Channel
from ledger.links.tls import TlsLinks
from ledger.replica import Replica
from services.dms.sealed import SealedStore
from services.dms.sqlite import SqliteStore
from services.eds.events import Event, UserMoved
from services.eds.policies import POLICIES
from services.eds.whatif import policy_of
from services.rms.probes import SystemProbe, offers
from services.rms.service import Rms
from services.tms.service import Tms

log = logging.getLogger(__name__)


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
        self.whereabouts = Whereabouts(lambda each: passes.authentic(self.chain, self.registry.key_of)(each))
        self.presence = Presence()
        self.gateway = Gateway()
        if self.history is not None:
            self.history.release = self.gateway.release
        self._recovered = False  # custody has performed what its journal said
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = AsyncExitStack()  # what `stop` closes, the last first

    async def start(self) -> None:
        """Raises Misuse with what is wrong with the folder, the port or the data; then `stop` is still owed."""
        home, settings = self.home, self.settings
        if backup.interrupted(home):
            raise Misuse(f"a restore of {self.host} was interrupted: restore it again, or put {backup.REPLACED} back")
        self.identity = keyfile.load(home.host_key)
        self.genesis = genesisfile.read(home.genesis)
        self.chain = self.genesis.chain_id()
        self.disk = FileDisk(home.data)
        self._opened.push_async_callback(self.disk.close)
        self.disk.on_failure(self._disk_failed)
        keyring = datakey.load_or_create(home)
        seals = Seals(keyring)
        self.spool = FileSpool(home.data / "spool", keyring)
        self._opened.callback(self.spool.close)
        self.store = SealedStore(await SqliteStore.open(home.data / "dms.db"), keyring, os.urandom)
        self._opened.push_async_callback(self.store.close)
        self.journal = await Journal.open(self.disk, seals)
        self.logbook = Logbook(home.data / "logs", settings.logs)
        self.links = TlsLinks(self.host, self.identity, self.chain, settings.listen)
        self.replica = Replica(self.host, self.identity, self.genesis, self.disk, self.links, ENGINES["ipbft"])
        self.replica.on_failure(self._disk_failed)
        self.client = Client(self.replica, self.identity)
        self.tms = Tms(self.replica, required=settings.trust)
        self.registry = Registry(
            home,
            self.host,
            self.chain,
            self.replica,
            self.tms,
            lambda event: self.deciding.happened(event),
        )
        workers = WorkerSettings(
            warm=settings.workers.warm,
            most=settings.workers.most,
            preload=settings.workers.preload,
            scratch=settings.workers.scratch,
            lent=settings.workers.lent,
            private=(home.folder,),
            history=None if self.history is None else self.history.prefix,
        )
        upcalls = watched(HostUpcalls, self.history)(self.host, self.logbook, self.services)
        self.runner = upcalls.runner = ProcessRunner(upcalls, self.spool, workers)
        machine, effects = watched(Held, self.history).recover(self.host, await self.journal.load())
        self.roads = Roads(
            self.host,
            self.whereabouts,
            lambda host, raw: self.links.send(host, Channel.MAIL, raw),
            lambda host, bulletin: self.exchange.tell(host, bulletin),
            self.links.up,
        )
        self.rms = Rms(
            self.host,
            self.identity,
            SystemProbe(home.data, settings.decisions.bandwidth),
            lambda host, raw: self.exchange.tell(host, RmsBulletin(raw)),
            self.links.up,
            self.registry.key_of,
            every=settings.decisions.advert_every,
            offers=offers(),
            facts=settings.decisions.facts,
            task_weight=lambda: sum(self.mailroom.requires(agent).task_weight for agent in self.mailroom.boxes),
        )
        self.hops = HopBook(self.store, self.client)
        surroundings = HostSurroundings(
            self.host,
            self.links,
            self.registry,
            self.tms,
            self.rms,
            self.hops,
            self.logbook,
            lambda agent, epoch, host, trail: self.exchange.located(agent, epoch, host, trail),
            self.broken,
            self.disk.room,
            lambda agent, epoch, source: self.back.arrived(agent, epoch, source),
        )
        on_chain = OnChain(self.host, self.replica, self.client)
        self.replication = watched(Replication, self.history)(
            self.host,
            settings.organisation,
            self.journal,
            on_chain,
            surroundings,
            settings.holders,
            lambda: self.replica.leases.incarnation,
            Origins(self.journal, self.spool, machine).of,
        )
        self.vault = await Vault.open(
            self.disk,
            seals,
            surroundings.send_copy,
            on_chain.find,
            self.registry.certified,
            self.host,
            settings.holders.room,
        )
        self.mailroom = upcalls.mailroom = watched(Mailroom, self.history)(
            self.host,
            self.roads,
            self.gateway.release,
            self.replication,
            self.runner.deliver,
            self.runner.answer,
            lambda agent: self.carrier.dormitory.wake(agent),
            lambda subscribed: self.exchange.tell_all(Topics((subscribed,))),
            self.broken,
            self.note,
        )
        self.keeper = Keeper(lambda: self.replica.leases, machine, self.runner.lease, suspended_clock)
        self.gateway.may_leave = lambda agent: self.keeper.may_leave(agent) and self.replication.may_leave(agent)
        self.keeper.thawed = self.replication.completed = self.gateway.thawed
        self.carrier = upcalls.carrier = Carrier(
            self.host,
            self.identity,
            self.chain,
            machine,
            self.journal,
            self.gateway,
            self.mailroom,
            self.runner,
            surroundings,
            settings.handoff,
            self.spool,
            on_chain,
            on_chain,
            self.keeper,
            self.replication,
        )
        self.carrier.recalls.copies = self.vault.copies_of
        self.carrier.recalls.trail = self.whereabouts.trail
        self.carrier.recalls.authentic = passes.authentic(self.chain, self.registry.key_of)
        self.rehoming = Rehoming(
            self.host,
            on_chain,
            self.vault,
            self.carrier,
            self.links.up,
            lambda host, subjects: self.exchange.tell(host, Silent(subjects)),
            self.note,
            suspended_clock,
            self.rms.closed_hosts,
        )
        self.lives = upcalls.lives = Lives(
            self.host,
            self.carrier,
            self.runner,
            self.gateway,
            self.rms.adverts,
            self.note,
            self.start_task,
        )
        self.commands = Commands(
            self.host, self.whereabouts, lambda host, raw: self.links.send(host, Channel.COMMAND, raw), self.perform
        )
        setting_out = SettingOut(
            self.host,
            self.carrier.residents,
            self.whereabouts,
            lambda: self.deciding.concerned(),
            self.lives,
            lambda host, bulletin: self.exchange.tell(host, bulletin),
            self.links.up,
            self.start_task,
        )
        carrying_out = CarryingOut(
            self.host, self.carrier, self.lives, setting_out, on_chain.find, lambda: self.deciding.concerned()
        )
        self.deciding = Deciding(
            self.host,
            policy_of(settings.decisions.policy, settings.decisions.settings, POLICIES),
            self.store,
            self.whereabouts,
            self.carrier.residents,
            self.mailroom,
            carrying_out.carry_out,
            self.rms,
            self.tms,
            self.runner.tell,
            settings.decisions.limits,
            settings.decisions.triggers,
        )
        self.back = CallingBack(
            self.host,
            self.store,
            self.carrier,
            self.whereabouts,
            lambda host: host in self.rms.closed_hosts() or self.presence.closed(host),
            carrying_out.carry_out,
            lambda host, bulletin: self.exchange.tell(host, bulletin),
            self.start_task,
        )
        self.drainer = Drainer(
            self.host, self.store, self.rms, self.carrier, self.deciding, self.back, self.note, self.start_task
        )
        upcalls.reported = lambda agent, kind, value: self.deciding.sensing.reported(agent, kind, value)
        self.exchange = Exchange(
            self.host,
            self.links,
            self.whereabouts,
            self.carrier,
            self.replication,
            self.rehoming,
            self.registry.certified,
            self.roads,
            self.mailroom,
            self.commands,
            self.rms,
            self.deciding.user_moved,
            self.back,
            setting_out,
        )
        self.blaming = Blaming(
            self.store,
            lambda host: self.tms.verdict(host).standing != "unknown",
            self.deciding.happened,
        )
        await self.blaming.load()
        self.exchange.blamed = self.blaming.heard
        self.replica.on_fault(lambda sender, fault: self.blaming.heard(sender, "ledger", fault))
        self._opened.push_async_callback(self.blaming.write)
        self._opened.push_async_callback(self.links.stop)
        if machine.restored:  # before the replica signs anything
            await store.mark_restored(self.disk, self.genesis)
        await self.replica.start()
        self._opened.push_async_callback(self.replica.stop)
        self.registry.read()
        if self.registry.adopt_key():
            raise Unavailable(f"the key of {self.host} was rotated, and the new one is in place now; start it again")
        self.replica.on_block(lambda *_: self.registry.follow())
        self.replica.on_block(lambda *_: self._custody_changed())
        self.disk.room.on_change(self._room_changed)
        await self.disk.keep_free(settings.disk.reserve)
        self._opened.push_async_callback(self.runner.stop)
        await self.runner.start()
        await self.carrier.recalls.begin()
        self.exchange.recall(await self.journal.kept.ends())
        await self.drainer.load()
        await self.links.start()  # others may show that the data is an old copy; what else they say waits
        await self.carrier.recalls.heard()
        await self.carrier.recover(effects)  # before they are heard: a notice must find its copies opened
        self._recovered = True
        self._custody_changed()
        self.exchange.learn_declared()
        self.exchange.porch.open()
        self._opened.callback(self._cancel_tasks)
        self._opened.callback(self.rehoming.stop)
        self._opened.push_async_callback(self.deciding.eds.close)
        self.start_task(self.rms.run())
        self.start_task(self.deciding.sensing.run())
        self.start_task(self.hops.run())
        self.start_task(self.blaming.run())
        self.start_task(claim(self.host, self.replica, self.client, facts(self.runner.jail)))
        self.start_task(self.keeper.run())
        self.start_task(self.rehoming.run())
        self.start_task(self.drainer.run())
        self.start_task(self._remind())

    async def stop(self) -> None:
        """Ends in the opposite order of the start, however far that came."""
        await self._opened.aclose()

    # What callers, owners and agents want

    async def perform(self, agent: str, command: bytes, sender: str) -> dict[str, Any]:
        """An owner's signed command for an agent that lives here (agentplatform.commands)."""
        place = self.whereabouts.believed(agent)
        if place is not None and place.ended is not None:
            if read_command(command).verb == "dispose":
                return {}  # it was obeyed already, and comes again
            raise Misuse(f"{agent} {ended(place)}")
        owner = await self.carrier.lifetimes.owner_of(agent)
        if owner is None:
            raise Unavailable(f"{agent} is not on {self.host}", retry_after=1)
        order = open_command(command, owner, int(time.time() * 1000), sender)
        if order.agent != agent:
            raise PeerFault(sender, f"sent a command for {order.agent} as one for {agent}")
        return await self.obey(agent, order)

    async def obey(self, agent: str, order: Command) -> dict[str, Any]:
        """Performs it, and returns the outcome as plain data: the hop, the clone, or (encoded) what it keeps."""
        done = await self.lives.obey(agent, order)
        if isinstance(done, str):
            return {"clone": done}
        if isinstance(done, bytes):
            return {"data": done}
        return {} if done is None else await self.hops.plain(done)

    def happened(self, event: Event) -> None:
        """An event for the groups here; what concerns a user is told to the other hosts too."""
        if isinstance(event, UserMoved):
            self.exchange.happened(event)
        else:
            self.deciding.happened(event)

    def services(self, query: Query) -> list[Found]:
        """Services on hosts that are trusted, the nearest first."""
        return self.exchange.find(query, lambda host: self.tms.verdict(host).trusted)

    def note(self, agent: str, text: str) -> None:
        """For its owner's eyes."""
        self.logbook.write(agent, "note", text)

    # The chain

    def _custody_changed(self) -> None:
        if not self._recovered:
            return
        self.carrier.residences.follow()
        if self.carrier.declarations.follow():
            self.exchange.learn_declared()
        self.rehoming.follow()
        self.replication.follow()

    # Time, tasks, the end

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(self.settings.handoff.remind_every)
            try:
                self.carrier.remind()
                self.mailroom.remind()
                self.replication.remind()
                self.rehoming.follow()
                self.exchange.remind()
                self._look_for_hosts()
                if self.journal.due:
                    self.journal.compact(self.carrier.machine)
            except Exception:
                log.exception("a round of reminding failed; the next one comes")

    def _look_for_hosts(self) -> None:
        closed = {host: advert.closed for host, advert in self.rms.adverts().items()}
        others = self.tms.verdicts().keys() - {self.host}
        for event in self.presence.look(others, self.links.up(), closed, time.time()):
            self.deciding.happened(event)

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

    def _room_changed(self, full: Unavailable | None) -> None:
        if full is not None:
            log.error("%s", full)
        else:
            log.warning("there is room on the disk again; all goes on")
        self.runner.hold(full is not None)
        self.mailroom.hold(full is not None)

    def _disk_failed(self, failure: Unavailable) -> None:
        self.broken(str(failure))

    def broken(self, reason: str) -> None:
        """Nothing may leave any more that rests on what was not written: the only safe thing is to end."""
        log.critical("%s", reason)
        os._exit(1)

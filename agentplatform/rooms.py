"""The composition root of a host, the only module that knows all rooms.

Every room gets here what it needs of the others; what they do with it stands in the rooms. Some need each other in a
circle: those get a function that looks the other up when it is called.
"""

import time
from pathlib import Path
from typing import Any

from agentplatform import passes
from agentplatform.blaming import Blaming
from agentplatform.bulletins import Rms as RmsBulletin
from agentplatform.bulletins import Silent, Topics
from agentplatform.calling_back import CallingBack
from agentplatform.carrying_out import CarryingOut
from agentplatform.commands import Command, Commands, open_command, read_command
from agentplatform.custody.carry import Carrier
from agentplatform.custody.copies.origins import Origins
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.copies.vault import Vault
from agentplatform.custody.events import Effect
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.held import Held
from agentplatform.custody.keeper import Keeper
from agentplatform.custody.onchain import OnChain
from agentplatform.custody.rehoming import Rehoming
from agentplatform.deciding import Deciding
from agentplatform.drainer import Drainer
from agentplatform.exchange import Exchange
from agentplatform.ground import Ground
from agentplatform.hops import HopBook
from agentplatform.kinds import Found, Query
from agentplatform.lives import Lives
from agentplatform.mailroom.roads import Roads, ended
from agentplatform.mailroom.room import Mailroom
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
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.leases import suspended_clock
from ledger.links.base import Channel
from services.eds.policies import POLICIES
from services.eds.whatif import policy_of
from services.rms.probes import SystemProbe, offers
from services.rms.service import Rms


class Rooms(Ground):
    """A host whose rooms know each other, each an attribute. Its life is agentplatform.environment."""

    def __init__(self, home: Home, history: Path | None = None) -> None:
        super().__init__(home, history)
        self.whereabouts = Whereabouts(lambda each: passes.authentic(self.chain, self.registry.key_of)(each))
        self.presence = Presence()
        self.gateway = Gateway()
        if self.history is not None:
            self.history.release = self.gateway.release

    async def furnish(self) -> list[Effect]:
        """Makes the rooms, when the ground is laid. Returns what custody has to do first, by its journal."""
        effects = await self._agents_live()
        self._decide()
        await self._hear_others()
        return effects

    async def _agents_live(self) -> list[Effect]:
        """Workers, custody and mail."""
        settings = self.settings
        self.registry = Registry(
            self.home,
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
            readable=tuple(map(Path, settings.workers.readable)),
            gpu=settings.workers.gpu,
            scratch=settings.workers.scratch,
            lent=settings.workers.lent,
            private=(self.home.folder,),
            history=None if self.history is None else self.history.prefix,
        )
        upcalls = self.upcalls = watched(HostUpcalls, self.history)(self.host, self.logbook, self.services)
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
            SystemProbe(self.home.data, settings.decisions.bandwidth, gpu=settings.workers.gpu),
            lambda host, raw: self.exchange.tell(host, RmsBulletin(raw)),
            self.links.up,
            self.registry.key_of,
            every=settings.decisions.advert_every,
            offers=offers(gpu=settings.workers.gpu),
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
        self.on_chain = OnChain(self.host, self.replica, self.client)
        self.replication = watched(Replication, self.history)(
            self.host,
            settings.organisation,
            self.journal,
            self.on_chain,
            surroundings,
            settings.holders,
            lambda: self.replica.leases.incarnation,
            Origins(self.journal, self.spool, machine).of,
        )
        self.vault = await Vault.open(
            self.disk,
            self.seals,
            surroundings.send_copy,
            self.on_chain.find,
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
            self.on_chain,
            self.on_chain,
            self.keeper,
            self.replication,
        )
        self.carrier.recalls.copies = self.vault.copies_of
        self.carrier.recalls.trail = self.whereabouts.trail
        self.carrier.recalls.authentic = passes.authentic(self.chain, self.registry.key_of)
        self.rehoming = Rehoming(
            self.host,
            self.on_chain,
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
        return effects

    def _decide(self) -> None:
        """Who says where agents go, and has them go there."""
        settings = self.settings
        self.setting_out = SettingOut(
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
            self.host, self.carrier, self.lives, self.setting_out, self.on_chain.find, lambda: self.deciding.concerned()
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
        self.upcalls.reported = lambda agent, kind, value: self.deciding.sensing.reported(agent, kind, value)

    async def _hear_others(self) -> None:
        """What comes over the links, and what is held against who sent it."""
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
            self.setting_out,
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

    # What they want of each other

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

    def services(self, query: Query) -> list[Found]:
        """Services on hosts that are trusted, the nearest first."""
        return self.exchange.find(query, lambda host: self.tms.verdict(host).trusted)

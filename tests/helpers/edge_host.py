"""One host at the edge of custody: Carrier, Handoff, Journal, Mailroom and Gateway are those of production, its links
and disk their memory twins, and the runner is tests.helpers.runner_twin.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from agentplatform import passes
from agentplatform.bulletins import Bulletin, CallBack, Residents, Seek, StaysAway
from agentplatform.calling_back import CallingBack
from agentplatform.commands import Commands, open_command
from agentplatform.custody.carry import Carrier
from agentplatform.custody.copies.holders import Candidate
from agentplatform.custody.copies.origins import Origins
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.events import Restore
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.held import Held
from agentplatform.custody.keeper import Keeper
from agentplatform.custody.surroundings import Asked, Hop
from agentplatform.lives import Lives
from agentplatform.mail import Letter, Post, Reply, Settled
from agentplatform.messages import Answer, Checkpoint, Custody, Outgoing
from agentplatform.parcel.freight import Stowed
from agentplatform.passes import Trail
from agentplatform.settings import Holders
from agentplatform.ticket import Ticket
from agentplatform.whereabouts import Located, Whereabouts
from agentplatform.witnesses import watched
from ledger import codec
from ledger.errors import PeerFault, Unavailable
from ledger.links.base import Channel
from ledger.links.memory import MemoryLinks
from services.rms.reservations import Reservation, Reservations
from services.rms.resources import Minima, Needs, Resources
from services.tms.verdicts import Verdict
from tests.helpers.edge_ground import PATIENCE, Ground, WatchedJournal
from tests.helpers.linked_hosts import CHAIN, identity
from tests.helpers.residence_twin import LedgerTwin
from tests.helpers.runner_twin import RunnerTwin
from tests.helpers.sealing import seals

ANY_POST: Any = Post
_ANY_BULLETIN: Any = Bulletin


class EdgeHost:
    """One host between two crashes: for custody, mail and commands it is what agentplatform.rooms joins."""

    def __init__(self, world: Ground, name: str, carrier: type[Carrier], gateway: type[Gateway]) -> None:
        self.world, self.name, self.alive = world, name, True
        self.identity = identity(name)
        self.runner = RunnerTwin(name, self, world.runs, world.refuses[name], world.policy, world.spools[name])
        self.whereabouts = Whereabouts(passes.authentic(CHAIN, self.key_of))
        self.gateway = gateway()
        self.links = MemoryLinks(world.hub, name, self.identity.public, CHAIN)
        self.commands = Commands(name, self.whereabouts, self._sender(Channel.COMMAND), self.perform)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.faults: list[PeerFault] = []  # what was refused
        self.notes: list[str] = []  # why moves failed
        self.hops: list[Hop] = []
        self.printed_lines: list[str] = []
        self.short: str | None = None  # what this host lacks
        self.free: Resources | None = None  # what its probe finds; None: plenty
        self.reservations = Reservations()
        self.closed_for = ""  # why it takes no agents
        self.lacking = ""  # which claims of others are not what it asks for
        self.outdated = ""  # why nothing new is to rest on its ledger
        self.back: CallingBack | None = None  # where drains are tested
        self._kind = carrier

    async def boot(self) -> None:
        history = self.world.chronicle.begin(self.name)
        journal = watched(self.world.journal, history)
        self.journal = cast(WatchedJournal, await journal.open(self.world.disks[self.name], seals()))
        machine, effects = watched(Held, history).recover(self.name, await self.journal.load())
        clock = lambda: self.world.now  # noqa: E731
        mail = self._sender(Channel.MAIL)
        self.roads = self.world.roads(self.name, self.whereabouts, mail, self.tell, self.links.up, clock)
        self.mailroom = watched(self.world.mailroom, history)(
            self.name,
            self.roads,
            self.gateway.release,
            self.journal,
            self.runner.deliver,
            self.runner.answer,
            lambda agent: self.carrier.dormitory.wake(agent),
            lambda subscribed: None,
            self.broken,
            lambda agent, text: self.printed(agent, "note", text),
            clock,
        )
        keeper = Keeper(lambda: self.world.lease, machine, self.runner.lease, clock)
        self.gateway.may_leave, keeper.thawed = keeper.may_leave, self.gateway.thawed
        ledger = LedgerTwin(self.name, self.world.entries)
        origins = Origins(self.journal, self.world.spools[self.name], machine)
        self.world.disks[self.name].room.on_change(self._room_changed)
        none = Holders(copies=0)
        replication = Replication(self.name, "", self.journal, ledger, self, none, lambda: 1, origins.of)
        self.carrier = self._kind(
            self.name,
            self.identity,
            CHAIN,
            machine,
            self.journal,
            self.gateway,
            self.mailroom,
            self.runner,
            self,
            self.world.deadlines,
            self.world.spools[self.name],
            ledger,
            ledger,
            keeper,
            replication,
        )
        self.carrier.arrivals.fetches.clock = lambda: 0.0  # so that a run is the same whenever its schedule is
        self.world.entries.followers[self.name] = self._follow

        self.lives = Lives(
            self.name,
            self.carrier,
            self.runner,
            self.gateway,
            lambda: {},
            lambda agent, text: self.notes.append(f"{agent}: {text}"),
            self.start,
        )
        self.world.restored |= {
            load.agent for effect in effects if isinstance(effect, Restore) for load in effect.cargo
        }
        for known in machine.agents.values():
            if known.to is not None:
                self.whereabouts.learn(Located(known.agent, known.epoch + 1, known.to))
            elif not known.here:
                self.whereabouts.learn(Located(known.agent, known.epoch, self.name, 0))
        await self.world.furnish(self)
        await self.carrier.recover(effects)
        self.links.on_message(self._received)
        self.links.on_change(self._link_changed)
        self.links.admit(self.world.registry)
        await self.links.start()

    def _room_changed(self, full: Unavailable | None) -> None:
        self.short = None if full is None else str(full)
        self.mailroom.hold(full is not None)

    def _follow(self) -> None:
        self.carrier.residences.follow()
        self.carrier.declarations.follow()

    # No copies here (custody.copies.replication.Around)

    def send_copy(self, host: str, message: bytes) -> bool:
        return False

    def candidates(self) -> list[Candidate]:
        return []

    def trusted(self, host: str) -> bool:
        return self.verdict(host).trusted

    def linked(self, host: str) -> bool:
        return host in self.links.up()

    def answers(self, host: str) -> bool:
        return self.linked(host)

    # Surroundings

    def send(self, host: str, message: bytes) -> bool:
        return self._sender(Channel.HANDOFF)(host, message)

    def _sender(self, channel: Channel) -> Callable[[str, bytes], bool]:
        def send(host: str, message: bytes) -> bool:
            if not self.alive:
                return False
            if channel is Channel.MAIL:
                self._check_promise(codec.decode(message, ANY_POST))
            return self.links.send(host, channel, message)

        return send

    def _check_promise(self, post: Post) -> None:
        """Durable before visible: letters and replies rest on a checkpoint, and on the agent's being here."""
        if post.sender not in self.mailroom.boxes or isinstance(post, Settled):
            return  # a client's
        kind = "letter" if isinstance(post, Letter) else "reply"
        here = self.journal.durable.here(post.sender) is not None
        key = kind, post.sender, post.receiver, post.sequence
        checked = kind == "letter" or self.world.policy == "message"
        if not here or (checked and key not in self.journal.promised):
            self.world.broken.append(f"{type(post).__name__} of {post.sender} left {self.name} before it was durable")

    def verdict(self, host: str) -> Verdict:
        trusted = host in self.world.registry
        reason = "trusted" if trusted else "revoked by a vote"
        return Verdict(host, trusted, reason, 7, lacking=self.lacking, outdated=self.outdated)

    def key_of(self, host: str) -> bytes | None:
        passport = self.world.registry.get(host)
        return None if passport is None else passport.key

    def stream(self, host: str, message: bytes) -> bool:
        return self._sender(Channel.BULK)(host, message)

    def was_key_of(self, host: str, key: bytes) -> bool:
        return identity(host).public == key

    def closed(self) -> str | None:
        return f"{self.name} is {self.closed_for}" if self.closed_for else None

    def takes(self, host: str) -> bool:
        return True

    def shortage(self) -> str | None:
        return self.short

    def lacks(self, host: str, needs: Sequence[Needs]) -> str | None:
        return None  # only the destination knows

    def reserve(self, transfer: bytes, asked: Asked) -> str | None:
        if self.short is not None or self.free is None:
            return self.short
        least = sum((each.least for each in asked.needs.values()), Minima(memory=3 * asked.inline + asked.spooled))
        reservation = Reservation(asked.owner, tuple(asked.needs), least, self.world.now + asked.seconds)
        return "; ".join(self.reservations.take(transfer, reservation, self.free, self.world.now)) or None

    def settled(self, transfer: bytes) -> None:
        self.reservations.settled(transfer, self.world.now)

    def release(self, transfer: bytes) -> None:
        self.reservations.release(transfer)

    def transferred(self, source: str, size: int, seconds: float) -> None:
        pass

    def located(self, agent: str, epoch: int, host: str, trail: Trail = ()) -> None:
        located = Located(agent, epoch, host or self.name, None if host else 1, trail)
        if self.alive and self.whereabouts.learn(located):
            for other in sorted(self.links.up()):
                self.tell(other, Residents((located,)))
            self.mailroom.resend({agent})

    def tell(self, host: str, bulletin: Bulletin) -> None:
        if self.alive:
            self.links.send(host, Channel.ADVERT, codec.encode(bulletin))

    def arrived(self, agent: str, epoch: int, source: str) -> None:
        if self.back is not None:
            self.back.arrived(agent, epoch, source)

    def hopped(self, hop: Hop) -> None:
        self.hops.append(hop)

    def broken(self, reason: str) -> None:
        self.world.broken.append(f"{self.name}: {reason}")

    # Upcalls

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        self.lives.wants_to_go(agent, destination, state)

    def books(self, agent: str, ticket: Ticket) -> None:
        self.lives.books(agent, ticket)

    def wants_to_sleep(self, agent: str, seconds: float | None) -> None:
        self.lives.wants_to_sleep(agent, seconds)

    def wants_clone(self, agent: str) -> None:
        self.lives.wants_clone(agent)

    def wants_custody(self, agent: str, custody: Custody, consent: bytes) -> None:
        self.lives.wants_custody(agent, custody, consent)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        self.mailroom.checkpointed(agent, checkpoint)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        self.mailroom.sent(agent, outgoing)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self.mailroom.answered(agent, ticket, answer)

    def printed(self, agent: str, stream: str, text: str) -> None:
        self.printed_lines.append(text)

    def died(self, agent: str, reason: str) -> None:
        self.carrier.lifetimes.died(agent)

    def wants_to_end(self, agent: str) -> None:
        self.lives.wants_to_end(agent)

    async def perform(self, agent: str, command: bytes, sender: str) -> dict[str, Any]:
        resident = self.carrier.residents.known.get(agent)
        if resident is None:
            raise Unavailable(f"{agent} is not on {self.name}", retry_after=1)
        order = open_command(command, resident.birth.owner, self.world.wall(), sender)
        if order.agent != agent:
            raise PeerFault(sender, f"sent a command for {order.agent} as one for {agent}")
        done = await self.lives.obey(agent, order)
        return {"clone": done} if isinstance(done, str) else {}

    # Links

    def _received(self, host: str, channel: Channel, message: bytes) -> None:
        try:
            if channel is Channel.HANDOFF:
                self.carrier.receive(host, message)
            elif channel is Channel.BULK:
                self.carrier.stream(host, message)
            elif channel is Channel.MAIL:
                self.mailroom.receive(host, message)
            elif channel is Channel.COMMAND:
                self.commands.receive(host, message)
            else:
                self._heard(host, codec.decode(message, _ANY_BULLETIN, host))
        except PeerFault as fault:
            self.faults.append(fault)

    def _heard(self, host: str, bulletin: Bulletin) -> None:
        if isinstance(bulletin, Seek):
            self.roads.sought(host, bulletin.agents)
        elif isinstance(bulletin, CallBack | StaysAway):
            if self.back is not None:
                self.back.heard(host, bulletin)
        elif isinstance(bulletin, Residents):
            self.mailroom.resend({each.agent for each in bulletin.located if self._believe(host, each)})

    def _believe(self, host: str, located: Located) -> bool:
        ours = self.carrier.machine.here(located.agent) is not None or located.host == self.name
        return not ours and self.whereabouts.hear(host, located)

    def _link_changed(self, host: str, up: bool) -> None:
        if not self.alive:
            return
        self.roads.link_changed(host, up)
        if not up:
            self.carrier.departures.lost(host)
            return
        self.tell(host, Residents(tuple(self.whereabouts.on(self.name))))
        self.carrier.linked(host)
        self.mailroom.resend()

    # For tests

    def remind(self) -> None:
        self.carrier.remind()
        self.mailroom.remind()

    def start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # a test may not look at it
        return task

    def depart(self, agents: Sequence[str], to: str) -> "asyncio.Task[Hop]":
        return self.start(self.carrier.departures.depart(agents, to, "a test"))

    def ask(self, agent: str, kind: str, body: object, client: str = "client") -> "asyncio.Task[Reply]":
        return self.start(self.mailroom.clients.ask(f"{client}-{self.name}", agent, kind, codec.encode(body), PATIENCE))

    def state(self, agent: str) -> dict[str, Any]:
        return self.runner.copies[agent].state

    def end(self) -> None:
        self.alive = False
        self.world.entries.followers.pop(self.name, None)
        for task in [*self.tasks, *(self.carrier._tasks if hasattr(self, "carrier") else ())]:
            task.cancel()

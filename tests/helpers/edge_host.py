"""Hosts of one process at the edge of custody, and a world that is cranked one event at a time.

Carrier, Handoff, Journal, Mailroom and Gateway are those of production; links and disk are their memory twins, and the
runner is tests.helpers.runner_twin. An event is one message that is delivered or one disk that syncs. Nothing else
happens between two events, so a run is the same whenever its schedule is the same, and a test can put a crash at
each of its points.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, cast

from agentplatform import passes
from agentplatform.bulletins import Bulletin, Moved, Residents, Seek
from agentplatform.commands import Commands, open_command
from agentplatform.custody import residences
from agentplatform.custody.carry import Carrier
from agentplatform.custody.copies.holders import Candidate
from agentplatform.custody.copies.origins import Origins
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.events import Restore
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.held import Held
from agentplatform.custody.journal import Journal
from agentplatform.custody.keeper import Keeper
from agentplatform.custody.records import Record
from agentplatform.custody.state import Custody
from agentplatform.custody.surroundings import Hop
from agentplatform.lives import Lives
from agentplatform.mail import Change, Forwarded, Letter, Loose, Luggage, Post, Reply, Settled
from agentplatform.mailroom.roads import Roads
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Answer, Checkpoint, Outgoing
from agentplatform.parcel.freight import Stowed
from agentplatform.parcel.manifest import Birth, code_digest, give_birth, open_birth
from agentplatform.parcel.manifest import Custody as Custody_
from agentplatform.parcel.spool import MemorySpool
from agentplatform.passes import Trail
from agentplatform.replay import Replay
from agentplatform.settings import Handoff as Deadlines
from agentplatform.settings import Holders
from agentplatform.ticket import Ticket
from agentplatform.whereabouts import Located, Whereabouts
from ledger import codec
from ledger.disk import MemoryDisk
from ledger.errors import PeerFault, Unavailable
from ledger.identity import Identity
from ledger.links.base import Channel, Passport
from ledger.links.memory import Hub, MemoryLinks
from services.tms.verdicts import Verdict
from tests.helpers.linked_hosts import CHAIN, identity
from tests.helpers.residence_twin import Entries, Lease, LedgerTwin
from tests.helpers.runner_twin import RunnerTwin, Runs

OWNER = Identity(b"owner".ljust(32, b"."))
CODE = b"the code"
PATIENCE = 600.0  # seconds: what waits in these tests waits for events, not for time
TURNS = 40  # of the loop, after which all that an event set off is done; the longest chain takes about 33
_ANY_POST: Any = Post | Forwarded
_ANY_BULLETIN: Any = Bulletin


class HeldHub(Hub):
    """Messages wait on their pipes until the world delivers them."""

    def carry(self, source: str, target: str, channel: Channel, message: bytes) -> None:
        if not self.drops(source, target, channel, message):
            self.pipes[source, target].append((channel, message))

    def waiting(self) -> list[tuple[str, str]]:
        return sorted(ends for ends, pipe in self.pipes.items() if pipe)

    def deliver(self, ends: tuple[str, str]) -> None:
        self._deliver(*ends, self.pipes[ends])


class HeldDisk(MemoryDisk):
    def __init__(self) -> None:
        super().__init__(hold=True)

    def dirty(self) -> bool:
        return any(database._waiting for database in self._open.values())


class WatchedJournal(Journal):
    """Knows what is durable."""

    durable: Custody
    seen: list[Record]  # what became durable since the start
    promised: set[tuple[str, str, str, int]]  # what agents sent that may leave: kind, agent, receiver, sequence

    async def load(self) -> list[Record]:
        loaded = await super().load()
        self.durable, self.seen, self.promised = Custody(""), [], set()
        for record in loaded:
            self._note(record)
        return loaded

    def write(self, record: Record, *rest: Any, **more: Any) -> "asyncio.Future[None]":
        future = super().write(record, *rest, **more)
        future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else self._note(record))
        return future

    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        return self._keep([letter_key(letter)], super().keep_letter(letter, loose))

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        keys = [letter_key(letter) for letter in change.letters]
        keys += [("reply", agent, seen.sender, seen.sequence) for seen in change.seen]
        return self._keep(keys, super().checkpoint(agent, change))

    def _keep(self, keys: list[tuple[str, str, str, int]], future: "asyncio.Future[None]") -> "asyncio.Future[None]":
        future.add_done_callback(lambda done: done.cancelled() or done.exception() or self.promised.update(keys))
        return future

    def _note(self, record: Record) -> None:
        self.seen.append(record)
        self.durable.apply(record)
        self.durable.sink(record)


def letter_key(letter: Letter) -> tuple[str, str, str, int]:
    return "letter", letter.sender, letter.receiver, letter.sequence


class WatchedMailroom(Mailroom):
    def admit(
        self, agent: str, epoch: int, luggage: Luggage, waiting: Iterable[Letter] = (), replay: Replay | None = None
    ) -> None:
        """What an agent brings was written where it was sent, or came in a parcel that was."""
        promised = cast(WatchedJournal, self._outbox).promised
        promised |= {letter_key(each) for sent in luggage.sent.values() for each in sent.letters}
        promised |= {
            ("reply", agent, sender, each.sequence)
            for sender, memory in luggage.senders.items()
            for each in memory.replies
        }
        super().admit(agent, epoch, luggage, waiting, replay)


class EdgeHost:
    """One host between two crashes. It does what agentplatform.environment does for custody, mail and commands."""

    def __init__(self, world: "World", name: str, carrier: type[Carrier], gateway: type[Gateway]) -> None:
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
        self._kind = carrier

    async def boot(self) -> None:
        self.journal = cast(WatchedJournal, await self.world.journal.open(self.world.disks[self.name]))
        machine, effects = Held.recover(self.name, await self.journal.load())
        clock = lambda: self.world.now  # noqa: E731
        mail = self._sender(Channel.MAIL)
        self.roads = self.world.roads(self.name, self.whereabouts, mail, self.tell, self.links.up, clock)
        self.mailroom = self.world.mailroom(
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
        await self.carrier.recover(effects)
        self.links.on_message(self._received)
        self.links.on_change(self._link_changed)
        self.links.admit(self.world.registry)
        await self.links.start()

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

    # Surroundings

    def send(self, host: str, message: bytes) -> bool:
        return self._sender(Channel.HANDOFF)(host, message)

    def _sender(self, channel: Channel) -> Callable[[str, bytes], bool]:
        def send(host: str, message: bytes) -> bool:
            if not self.alive:
                return False
            if channel is Channel.MAIL:
                carried = codec.decode(message, _ANY_POST)
                if not isinstance(carried, Forwarded):
                    self._check_promise(carried)
            return self.links.send(host, channel, message)

        return send

    def _check_promise(self, post: Post) -> None:
        """Durable before visible: letters and replies rest on a checkpoint, and on the agent's being here."""
        if post.sender not in self.mailroom.boxes or isinstance(post, Settled):
            return  # forwarded, or a client's
        kind = "letter" if isinstance(post, Letter) else "reply"
        here = self.journal.durable.here(post.sender) is not None
        key = kind, post.sender, post.receiver, post.sequence
        checked = kind == "letter" or self.world.policy == "message"
        if not here or (checked and key not in self.journal.promised):
            self.world.broken.append(f"{type(post).__name__} of {post.sender} left {self.name} before it was durable")

    def verdict(self, host: str) -> Verdict:
        trusted = host in self.world.registry
        return Verdict(host, trusted, "trusted" if trusted else "revoked by a vote", 7)

    def key_of(self, host: str) -> bytes | None:
        passport = self.world.registry.get(host)
        return None if passport is None else passport.key

    def stream(self, host: str, message: bytes) -> bool:
        return self._sender(Channel.BULK)(host, message)

    def was_key_of(self, host: str, key: bytes) -> bool:
        return identity(host).public == key

    def shortage(self, inline: int, spooled: int) -> str | None:
        return self.short

    def located(self, agent: str, epoch: int, host: str, trail: Trail = ()) -> None:
        located = Located(agent, epoch, host or self.name, None if host else 1, trail)
        if self.alive and self.whereabouts.learn(located):
            for other in sorted(self.links.up()):
                self.tell(other, Residents((located,)))
            self.mailroom.resend({agent})

    def tell(self, host: str, bulletin: Bulletin) -> None:
        if self.alive:
            self.links.send(host, Channel.ADVERT, codec.encode(bulletin))

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

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        self.mailroom.checkpointed(agent, checkpoint)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        self.mailroom.sent(agent, outgoing)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self.mailroom.answered(agent, ticket, answer)

    def printed(self, agent: str, stream: str, text: str) -> None:
        self.printed_lines.append(text)

    def died(self, agent: str, reason: str) -> None:
        self.carrier.died(agent)

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
        elif isinstance(bulletin, Moved):
            self._believe(host, bulletin.located)
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


class World:
    """Hosts on one network. `seed` 0: disks sync before messages come; 1: after them; else by chance."""

    def __init__(
        self,
        *names: str,
        seed: int = 0,
        deadlines: Deadlines | None = None,
        carrier: type[Carrier] = Carrier,
        gateway: type[Gateway] = Gateway,
        journal: type[WatchedJournal] = WatchedJournal,
        mailroom: type[WatchedMailroom] = WatchedMailroom,
        roads: type[Roads] = Roads,
        policy: str = "message",
    ) -> None:
        """`policy` is the `checkpoint` of all agents: "message" or "hop"."""
        self.journal, self.mailroom, self.roads, self.policy = journal, mailroom, roads, policy
        self.now = 0.0  # seconds by the clock of the mail, which stands still unless a test moves it
        self.names = names
        self.deadlines = deadlines or Deadlines(offer_deadline=PATIENCE, parcel_life=PATIENCE)
        self.carrier, self.gateway = carrier, gateway
        self.hub = HeldHub()
        self.entries, self.lease = Entries(), Lease()
        self.disks = {name: HeldDisk() for name in names}
        self.spools = {name: MemorySpool() for name in names}
        self.hosts: dict[str, EdgeHost] = {}
        self.registry = {name: Passport(name, f"org-{name}", identity(name).public, "") for name in names}
        self.broken: list[str] = []  # promises that were not kept
        self.runs = Runs(self.broken)
        self.refuses: dict[str, dict[str, str]] = {name: {} for name in names}  # host -> agent -> why it opens it not
        self.crashed: list[str] = []
        self.restored: set[str] = set()  # agents that a restart found on offer: they must hear that the move failed
        self.index = 0  # of the next event
        self.plans: dict[tuple[int, str], Callable[[], None]] = {}  # (index, "before" or "after") -> what happens there
        self._seed, self._random = seed, random.Random(seed)  # noqa: S311  a schedule, drawn again from its seed
        self._salt = 0

    def __getitem__(self, name: str) -> EdgeHost:
        return self.hosts[name]

    def wall(self) -> int:
        return 1_700_000_000_000

    # The crank

    async def boot(self, *names: str) -> None:
        for name in names or self.names:
            if name not in self.hosts:
                host = self.hosts[name] = EdgeHost(self, name, self.carrier, self.gateway)
                booted = host.start(host.boot())
                await self.crank()
                assert booted.cancelled() or booted.result() is None  # it may have crashed meanwhile

    async def crank(self) -> None:
        """Until nothing is left to happen."""
        await self.settle()
        while events := self._events():
            await self._next(events)

    async def turn(self) -> None:
        """The next event, and all that it sets off."""
        await self.settle()
        events = self._events()
        assert events, "nothing is left to happen"
        await self._next(events)

    async def messages_only(self) -> None:
        """Until no message is left to deliver; no disk syncs meanwhile."""
        await self.settle()
        while waiting := self.hub.waiting():
            await self._next([waiting[0]])

    async def _next(self, events: list[tuple[str, ...]]) -> None:
        self._perform(self._choose(events))
        await self.settle()
        assert not self.broken, self.broken

    async def until(self, task: "asyncio.Task[Any]") -> Any:
        await self.crank()
        assert task.done(), "it waits for something that does not come"
        return task.result()

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _events(self) -> list[tuple[str, ...]]:
        messages: list[tuple[str, ...]] = [*self.hub.waiting()]
        syncs = [(name,) for name in sorted(self.disks) if self.disks[name].dirty()]
        return [*messages, *syncs] if self._seed == 1 else [*syncs, *messages]

    def _choose(self, events: list[tuple[str, ...]]) -> tuple[str, ...]:
        return events[0] if self._seed < 2 else self._random.choice(events)

    def _perform(self, event: tuple[str, ...]) -> None:
        self._planned("before")
        if len(event) == 1:
            self.disks[event[0]].sync()
        elif event in self.hub.waiting():  # it may have been lost in a fault of the plan
            self.hub.deliver((event[0], event[1]))
        self._planned("after")
        self.index += 1

    def _planned(self, when: str) -> None:
        if (act := self.plans.get((self.index, when))) is not None:
            act()

    # Faults

    def crash(self, name: str) -> None:
        """Power loss: the host is gone, with all that was not durable."""
        host = self.hosts.pop(name, None)
        if host is None:
            return
        host.end()
        self.crashed.append(name)
        for agent in host.runner.copies:
            self.runs.end(agent, name)
        self.hub.hosts.pop(name, None)
        self.hub.review()
        self.disks[name].crash()
        self.spools[name].crash()

    async def heal(self) -> None:
        """The faults are over: every host is up, every link too, and all who wait ask until nothing is in doubt."""
        self.plans.clear()
        for one in self.names:
            for other in self.names:
                self.hub.heal(one, other)
        await self.boot()
        for _ in range(3):
            for host in self.hosts.values():
                host.remind()
            await self.crank()

    def close(self) -> None:
        for host in self.hosts.values():
            host.end()

    # Agents

    async def create(self, host: str, name: str, custody: Custody_ = "local") -> str:
        birth, raw = self.birth(name, custody=custody)
        consent = residences.consent(CHAIN, OWNER, birth.agent, host)
        await self.until(self[host].start(self[host].carrier.create(raw, CODE, b"", consent)))
        return birth.agent

    def birth(self, name: str, owner: Identity = OWNER, custody: Custody_ = "local") -> tuple[Birth, bytes]:
        self._salt += 1
        salt = self._salt.to_bytes(16, "big")
        raw = give_birth(name, owner, salt, code_digest(CODE), "module:Class", False, custody)
        return open_birth(raw, "test"), raw

    # What must hold in the end

    def holder(self, agent: str) -> str:
        """The one host that runs it. Nothing is in doubt on any."""
        for host in self.hosts.values():
            machine = host.carrier.machine
            assert not machine.leaving and not machine.arriving, f"{host.name} is in doubt: {machine.key()}"
        here = [name for name, host in self.hosts.items() if host.carrier.machine.here(agent) is not None]
        assert len(here) == 1, f"{agent} is on {here}"
        assert self.runs.now.get(agent, ("nowhere",))[0] == here[0], f"{agent} is on {here[0]} and does not run there"
        assert agent in self[here[0]].carrier.residents.known
        return here[0]

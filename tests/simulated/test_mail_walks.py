"""Random walks over the mail of four hosts: agents write to each other while they move, hosts are offline or restarted,
and news is lost. In the end each letter was handled once and in order, or its sender was told that it was not."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agentplatform.mail import Letter, Luggage, Memory, Reply
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.roads import Roads
from agentplatform.replay import Replay
from ledger.links.base import Channel
from tests.helpers.edge_ground import WatchedMailroom
from tests.helpers.edge_world import World

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
HOSTS = "abcd"
STEPS = 40
LIFE = 4  # seconds, for a third of the letters; a second passes with each reminder


class Walk:
    """What was asked for, and what must come of it. The model: for each agent, what it was told to pass on."""

    def __init__(self, seed: int, **kinds: Any) -> None:
        self.chance = random.Random(seed)  # noqa: S311  a walk, drawn again from its seed
        self.world = World(*HOSTS, seed=seed + 2, **kinds)
        self.world.hub.drops = self._drops
        self.told: dict[tuple[str, str], list[Any]] = {}  # (sender, receiver) -> the askings
        self.number = 0
        self.hurried: set[int] = set()  # letters that have a deadline
        self.losing = True

    def _drops(self, source: str, target: str, channel: Channel, message: bytes) -> bool:
        return self.losing and channel is Channel.ADVERT and self.chance.random() < 0.5

    async def walk(self) -> None:
        world = self.world
        await world.boot()
        self.agents = [await world.create(host, name) for host, name in zip("abca", "wxyz", strict=True)]
        acts: list[tuple[Callable[[], Any], int]] = [
            (self.tell, 10),
            (self.move, 5),
            (self.cut, 2),
            (self.mend, 3),
            (self.crash, 1),
            (self.remind, 3),
        ]
        for _ in range(STEPS):
            act = self.chance.choices([act for act, _ in acts], [weight for _, weight in acts])[0]
            await act()
            for _ in range(self.chance.randrange(12)):
                await world.settle()
                if world._events():
                    await world.turn()
        self.losing = False
        await self.heal()
        self.check()
        world.close()

    async def heal(self) -> None:
        for _ in range(3):
            await self.world.heal()

    # What happens

    async def tell(self) -> None:
        """A client has an agent write to another."""
        sender, receiver = self.chance.sample(self.agents, 2)
        hurried = self.chance.random() < 0.3
        for _ in range(self.chance.choice((1, 1, 4))):
            self.number += 1
            host = self.chance.choice([*self.world.hosts])
            by_name = self.agents.index(sender) < self.agents.index(receiver)
            called = receiver.rpartition("-")[0] if by_name else receiver
            order = [called, [sender, self.number], *([LIFE] if hurried else [])]
            asking = self.world[host].ask(sender, "pass on", order, self._client(sender))
            if hurried:
                self.hurried.add(self.number)
            self.told.setdefault((sender, receiver), []).append((self.number, asking))

    def _client(self, sender: str) -> str:
        """Numbers begin anew with a host's start, so names do (see AgentDesk)."""
        return f"client-{sender}-{len(self.world.crashed)}"

    async def move(self) -> None:
        agent = self.chance.choice(self.agents)
        for host in self.world.hosts.values():
            if agent in host.carrier.residents.known:
                host.depart([agent], self.chance.choice([each for each in HOSTS if each != host.name]))

    async def cut(self) -> None:
        self.world.hub.cut(*self.chance.sample(HOSTS, 2))

    async def mend(self) -> None:
        self.world.hub.heal(*self.chance.sample(HOSTS, 2))
        await self.world.boot()

    async def crash(self) -> None:
        self.world.crash(self.chance.choice(HOSTS))

    async def remind(self) -> None:
        self.world.now += 1
        for host in list(self.world.hosts.values()):
            host.remind()

    # What must hold

    def check(self) -> None:
        world, states = self.world, {}
        for agent in self.agents:
            states[agent] = world[world.holder(agent)].state(agent)
        for (sender, receiver), askings in self.told.items():
            assert all(asking.done() for _, asking in askings), "a message was never answered"
            assert all(asking.cancelled() or asking.result().ok for _, asking in askings), "it was refused"
            passed = [number for who, number in states[sender].get("passed", []) if who == sender]
            passed = [number for number in passed if number in {number for number, _ in askings}]
            handled = [number for who, number in states[receiver]["handled"] if who == sender]
            late = self.hurried.difference(handled)  # its time was over before it could be handled
            in_time = [number for number in passed if number not in late]
            assert handled == in_time, f"{sender} has sent {passed}, and {receiver} has handled {handled}"
            answered = {number for number, asking in askings if not asking.cancelled()}
            assert answered <= set(passed), f"answered, and lost: {answered - set(passed)}"


async def walk(seed: int, **kinds: Any) -> None:
    try:
        await Walk(seed, **kinds).walk()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error


# In 318 a letter was given up on that its receiver never had, and the sender's next host did not say so to those after
# it; in 353 one that need not wait for the disk was kept until its receiver had left, and left before it was durable.
@pytest.mark.parametrize("seed", [*range(4), 318, 353])
async def test_mail_arrives_once_and_in_order_whatever_happens(seed: int) -> None:
    await walk(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 400, 50))
async def test_mail_arrives_once_and_in_order_in_many_walks(first: int) -> None:
    for seed in range(first, first + 50):
        await walk(seed)


class Hasty(Mailbox):
    """Takes a letter that leaves a gap."""

    def take(self, letter: Letter, *rest: Any) -> Reply | None:
        memory = self.luggage.senders.get(letter.sender, Memory())
        last = max(memory.handled, self._queued.get(letter.sender, 0))
        if letter.sequence > last + 1:
            memory.handled = letter.sequence - 1
            self.luggage.senders[letter.sender] = memory
        return super().take(letter, *rest)


class Forgetful(WatchedMailroom):
    """Does not hand on what was read."""

    def admit(self, agent: str, epoch: int, luggage: Luggage, waiting: Iterable[Letter] = (), replay: Replay | None = None) -> None:  # fmt: skip  # noqa: E501
        luggage.senders.clear()
        super().admit(agent, epoch, luggage, waiting, replay)


class Impatient(Roads):
    """Takes a host that is offline for dead."""

    def out(self, post: Any) -> None:
        place = self.whereabouts.place(post.receiver)
        if isinstance(post, Letter) and place is not None and self.offline(post.receiver):
            self.whereabouts.learn(type(place)(place.agent, place.epoch, place.host, 0))
        super().out(post)


MUTANTS: list[tuple[str, type, int]] = [  # the room that it takes the place of in `agentplatform.mailroom.room`, seeds
    ("Mailbox", Hasty, 20),
    ("", Forgetful, 20),
    ("", Impatient, 20),
]


async def caught(where: str, kind: type, seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"roads": kind} if issubclass(kind, Roads) else {} if where else {"mailroom": kind}
    if where:
        monkeypatch.setattr(f"agentplatform.mailroom.room.{where}", kind)
    with pytest.raises(AssertionError, match="seed"):
        for seed in range(seeds):
            await walk(seed, **kinds)


@pytest.mark.parametrize(("where", "kind", "seeds"), MUTANTS)
async def test_the_walks_catch_what_breaks_the_mail(
    where: str, kind: type, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await caught(where, kind, seeds, monkeypatch)

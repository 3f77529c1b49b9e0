"""A mailroom with its surroundings written down instead of performed: for tests of one host's mail."""

import asyncio

from agentplatform.bulletins import Bulletin
from agentplatform.custody.gateway import Gateway
from agentplatform.mail import Change, Letter, Loose, Standing
from agentplatform.mailroom.roads import Roads
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Answer, Delivery
from agentplatform.subscriptions import Subscribed
from agentplatform.whereabouts import Whereabouts

AGENT = "counter-0000000000000001"
OTHER = "other-0000000000000002"


class Desk:
    """A mailroom with its surroundings written down instead of performed."""

    def __init__(self, host: str = "north", room: type[Mailroom] = Mailroom) -> None:
        self.whereabouts = Whereabouts()
        self.now = 1000.0
        self.up = {"north", "east", "south"}
        self.told: list[tuple[str, Bulletin]] = []
        self.woken: list[str] = []
        self.announced: list[Subscribed] = []
        self.standings: list[tuple[str, Standing]] = []
        self.ends: list[tuple[str, int]] = []
        self.notes: list[tuple[str, str]] = []
        self.broken: list[str] = []
        self.copied: set[str] = set()  # agents that other hosts have copies of
        self.reserved: list[tuple[str, str, int]] = []
        self.gateway = Gateway()
        self.wire: list[tuple[str, bytes]] = []
        self.delivered: list[tuple[str, Delivery]] = []
        self.answers: list[tuple[str, int, Answer]] = []
        self.kept: list[tuple[asyncio.Future[None], Change]] = []
        self.dropped: list[tuple[str, str, int]] = []
        self.roads = Roads(
            host,
            self.whereabouts,
            self._send,
            lambda to, bulletin: self.told.append((to, bulletin)),
            lambda: self.up,
            lambda: self.now,
        )
        self.room = room(
            host,
            self.roads,
            self.gateway.release,
            self,
            lambda agent, delivery: self.delivered.append((agent, delivery)),
            lambda agent, call, answer: self.answers.append((agent, call, answer)),
            self.woken.append,
            self.announced.append,
            self.broken.append,
            lambda agent, text: self.notes.append((agent, text)),
            lambda: self.now,
        )

    def _send(self, host: str, raw: bytes) -> bool:
        self.wire.append((host, raw))
        return host in self.up

    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        return self.checkpoint(letter.sender, Change(None, letters=[letter]))

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.kept.append((future, change))
        return future

    def reserve_numbers(self, agent: str, receiver: str, upto: int) -> "asyncio.Future[None]":
        self.reserved.append((agent, receiver, upto))
        return self.checkpoint(agent, Change(None))

    def replicated(self, agent: str) -> bool:
        return agent in self.copied

    def keep_answer(self, agent: str, receiver: str, sequence: int, answer: Answer) -> None: ...

    def drop_loose(self, agent: str) -> None: ...

    def flush(self) -> None: ...

    def drop_letters(self, agent: str, receiver: str, upto: int) -> None:
        self.dropped.append((agent, receiver, upto))

    def keep_standing(self, agent: str, standing: Standing) -> None:
        self.standings.append((agent, standing))

    def keep_end(self, agent: str, at: int) -> None:
        self.ends.append((agent, at))


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)

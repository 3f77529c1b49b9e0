"""What clients of this host send to agents, and their waiting for the replies."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from agentplatform.mail import Letter, Post, Reply, Settled, check
from ledger.errors import OutcomeUnknown, Unavailable

MAX_IDLE_CLIENTS = 1_000  # whose numbering is kept


class Waiting(NamedTuple):
    letter: Letter
    end: float  # by our clock
    reply: asyncio.Future[Reply]


class Client:
    """One client of this host: its numbering, and the letters that it waits for."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.pending: dict[tuple[str, int], Waiting] = {}

    def settled(self, receiver: str) -> int:
        open_ones = [sequence for agent, sequence in self.pending if agent == receiver]
        return min(open_ones) - 1 if open_ones else self.sent.get(receiver, 0)


class Clients:
    def __init__(
        self,
        host: str,
        route: Callable[[Post], None],
        why_late: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        """`why_late(agent)` says where the agent is believed to be, and how it is with that host."""
        self._host, self._route, self._why_late, self._clock = host, route, why_late, clock
        self._clients: dict[str, Client] = {}

    def name(self, client: str) -> str:
        """With its host, which alone may write in this name."""
        return f"{client}@{self._host}"

    async def ask(self, client: str, receiver: str, kind: str, body: bytes, patience: float) -> Reply:
        """Sends a client's message and waits `patience` seconds for the reply, wherever the agent is or goes. What was
        not handled by then is not handled any more."""
        check(kind, body)
        client = self.name(client)
        desk = self._clients[client] = self._clients.pop(client, Client())  # to the end: heard just now
        self._forget_an_idle_client()
        settled = desk.settled(receiver)
        sequence = desk.sent[receiver] = desk.sent.get(receiver, 0) + 1
        letter = Letter(client, 0, sequence, settled, receiver, self._host, kind, body, _milliseconds(patience))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        desk.pending[receiver, sequence] = Waiting(letter, self._clock() + patience, future)
        self._route(letter)
        try:
            return await asyncio.wait_for(future, patience)
        except TimeoutError:
            raise OutcomeUnknown(
                f"{receiver} ({self._why_late(receiver)}) did not answer {kind!r} within {patience:g} s; "
                "if it was handled, the answer is lost. Look at: agentplatform status"
            ) from None
        finally:
            desk.pending.pop((receiver, sequence), None)
            self._route(Settled(client, desk.settled(receiver), receiver))

    async def tell(self, client: str, receiver: str, kind: str, body: bytes, patience: float) -> None:
        """Like `ask`, when nobody waits: whatever comes of it is dropped."""
        with contextlib.suppress(Unavailable):
            await self.ask(client, receiver, kind, body, patience)

    def replied(self, reply: Reply) -> bool:
        """Whether the reply is to one of them."""
        client = self._clients.get(reply.receiver)
        if client is None:
            return False
        waiting = client.pending.get((reply.sender, reply.sequence))
        if waiting is not None and not waiting.reply.done():
            waiting.reply.set_result(reply)
        return True

    def unanswered(self) -> Iterator[Letter]:
        """To be sent again."""
        now = self._clock()
        for desk in self._clients.values():
            for letter, end, _ in list(desk.pending.values()):
                yield replace(letter, settled=desk.settled(letter.receiver), left=_milliseconds(end - now))

    def _forget_an_idle_client(self) -> None:
        if len(self._clients) > MAX_IDLE_CLIENTS:
            idle = next((name for name, desk in self._clients.items() if not desk.pending), None)
            if idle is not None:
                del self._clients[idle]


def _milliseconds(seconds: float) -> int:
    return max(0, int(seconds * 1000))

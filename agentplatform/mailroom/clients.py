"""What clients of this host send to agents, and their waiting for the replies."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from agentplatform.mail import Letter, Post, Reply, Settled, check
from agentplatform.whereabouts import Whereabouts
from ledger.errors import Unavailable

MAX_IDLE_CLIENTS = 1_000  # whose numbering is kept


class Client:
    """One client of this host: its numbering, and the letters that it waits for."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.pending: dict[tuple[str, int], tuple[Letter, asyncio.Future[Reply]]] = {}

    def settled(self, receiver: str) -> int:
        open_ones = [sequence for agent, sequence in self.pending if agent == receiver]
        return min(open_ones) - 1 if open_ones else self.sent.get(receiver, 0)


class Clients:
    def __init__(self, host: str, whereabouts: Whereabouts, route: Callable[[Post], None]) -> None:
        self._host, self._whereabouts, self._route = host, whereabouts, route
        self._clients: dict[str, Client] = {}

    async def ask(self, client: str, receiver: str, kind: str, body: bytes, patience: float) -> Reply:
        """Sends a client's message and waits `patience` seconds for the reply, wherever the agent is or goes."""
        check(kind, body)
        desk = self._clients[client] = self._clients.pop(client, Client())  # to the end: heard just now
        self._forget_an_idle_client()
        settled = desk.settled(receiver)
        sequence = desk.sent[receiver] = desk.sent.get(receiver, 0) + 1
        letter = Letter(client, 0, sequence, settled, receiver, self._host, kind, body)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        desk.pending[receiver, sequence] = letter, future
        self._route(letter)
        try:
            return await asyncio.wait_for(future, patience)
        except TimeoutError:
            where = self._whereabouts.host_of(receiver)
            place = f"last heard of on {where}" if where else "not heard of"
            raise Unavailable(
                f"{receiver} ({place}) did not answer {kind!r} within {patience:g} s; it may still do so. "
                "Look at: agentplatform status",
                retry_after=patience,
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
        _, future = client.pending.get((reply.sender, reply.sequence), (None, None))
        if future is not None and not future.done():
            future.set_result(reply)
        return True

    def unanswered(self) -> Iterator[Letter]:
        """To be sent again."""
        for desk in self._clients.values():
            for letter, _ in list(desk.pending.values()):
                yield replace(letter, settled=desk.settled(letter.receiver))

    def _forget_an_idle_client(self) -> None:
        if len(self._clients) > MAX_IDLE_CLIENTS:
            idle = next((name for name, desk in self._clients.items() if not desk.pending), None)
            if idle is not None:
                del self._clients[idle]

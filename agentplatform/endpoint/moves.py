"""Where an agent is for a request: here, under way, or on another host, and that host's endpoint."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from agentplatform.custody.carry import Carrier
from agentplatform.hops import HopBook
from agentplatform.mailroom.room import Mailroom
from agentplatform.whereabouts import Whereabouts

LOOK = 0.1  # seconds: not everything that ends a move rings
USUAL = 0.05  # seconds that a move takes, where nothing is known of any


class Place(NamedTuple):
    host: str  # as far as is known here; "" for an agent that ended
    moving: bool  # it is leaving this host, or arriving here


class Moves:
    def __init__(
        self,
        host: str,
        whereabouts: Whereabouts,
        carrier: Carrier,
        mailroom: Mailroom,
        hops: HopBook,
        endpoint_of: Callable[[str], str | None],
    ) -> None:
        """`endpoint_of(host)` is the address of the endpoint of a host that is trusted and linked now, if it has told
        one."""
        self.endpoint_of = endpoint_of
        self._host, self._whereabouts, self._carrier = host, whereabouts, carrier
        self._mailroom, self._hops = mailroom, hops
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        mailroom.settled = self._ring

    def place(self, agent: str) -> Place | None:
        """None for an agent that was never heard of."""
        host = self._whereabouts.host_of(agent)
        if host is None:
            return None
        # Who has a mailbox here is here, and goes when that is closed. The machine knows of a move for longer: until it
        # is durable, or acknowledged.
        box = self._mailroom.boxes.get(agent)
        if box is not None:
            return Place(self._host, not box.open)
        return Place(host, agent in self._carrier.machine.arriving_by)

    async def settled(self, agent: str, until: float) -> Place | None:
        """Where it is when it does not move any more, or at the time `until`, by the loop's clock."""
        loop = asyncio.get_running_loop()
        while (place := self.place(agent)) is not None and place.moving and loop.time() < until:
            bell = loop.create_future()
            self._waiting.setdefault(agent, set()).add(bell)
            try:
                await asyncio.wait([bell], timeout=min(LOOK, until - loop.time()))
            finally:
                bells = self._waiting[agent]
                bells.discard(bell)
                if not bells:
                    del self._waiting[agent]
        return place

    def estimate(self) -> float:
        """Seconds that a move from here takes, by those of late."""
        return self._hops.downtime() or USUAL

    def _ring(self, agent: str) -> None:
        for bell in self._waiting.get(agent, ()):
            if not bell.done():
                bell.set_result(None)

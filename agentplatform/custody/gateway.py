"""The effect gateway: nothing that an agent causes leaves its host before what it rests on is durable.

An agent that has just arrived runs at once, while its ACTIVE record is still on its way to the disk; if
that write were lost, the agent would never have run here. So its effects wait here until the write is done.
"""

import asyncio
from collections.abc import Callable

Act = Callable[[], None]


class Gateway:
    def __init__(self) -> None:
        self._held: dict[str, list[Act]] = {}

    def hold(self, agent: str, until: "asyncio.Future[None]") -> None:
        """What `agent` causes waits for `until`; if that fails, it never leaves."""
        if until.done():
            return
        acts = self._held[agent] = []
        until.add_done_callback(lambda future: self._open(agent, acts, future))

    def release(self, agent: str, act: Act) -> None:
        """Performs `act` on behalf of `agent`, at once or when it may leave; acts of one agent keep their order."""
        if agent in self._held:
            self._held[agent].append(act)
        else:
            act()

    def _open(self, agent: str, acts: list[Act], until: "asyncio.Future[None]") -> None:
        if self._held.get(agent) is acts:
            del self._held[agent]
        if until.cancelled() or until.exception():
            return  # the disk failed: the daemon is stopping, and nothing may leave
        for act in acts:
            act()

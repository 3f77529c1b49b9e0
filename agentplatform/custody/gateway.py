"""The effect gateway: nothing that an agent causes leaves its host before what it rests on is durable.

An agent that has just arrived runs at once, while its ACTIVE record is still on its way to the disk; if that write were
lost, the agent would never have run here. So its effects wait here until the write is done. Those of an agent in held
custody leave only under a lease, which is asked for at that moment.
"""

import asyncio
from collections.abc import Callable

Act = Callable[[], None]


class Gateway:
    def __init__(self) -> None:
        self.may_leave: Callable[[str], bool] = lambda agent: True  # agentplatform.custody.keeper
        self._held: dict[str, list[Act]] = {}  # until they are durable
        self._frozen: dict[str, list[Act]] = {}  # until there is a lease

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
        elif agent in self._frozen or not self.may_leave(agent):
            self._frozen.setdefault(agent, []).append(act)
        else:
            act()

    def thawed(self) -> None:
        """There is a lease again."""
        frozen, self._frozen = self._frozen, {}
        for agent, acts in frozen.items():
            for act in acts:
                self.release(agent, act)

    def drop(self, agent: str) -> None:
        """It is not here any more, by the ledger's word: what it did without a lease never leaves."""
        self._frozen.pop(agent, None)
        self._held.pop(agent, None)

    def _open(self, agent: str, acts: list[Act], until: "asyncio.Future[None]") -> None:
        if self._held.get(agent) is not acts:
            return
        del self._held[agent]
        if until.cancelled() or until.exception():
            return  # the disk failed: the daemon is stopping, and nothing may leave
        for act in acts:
            self.release(agent, act)

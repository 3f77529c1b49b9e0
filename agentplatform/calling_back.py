"""Agents that a drain sent away are called back, when it is called off: both sides of it.

The host that was drained asks where it sent them (CallBack); that host sends back those that still live there as they
came, and says of the others why not (StaysAway). It does so for agents alone that came from the asking host while that
said it was closed: nobody calls back an agent that left on other grounds. Each agent is asked (`may_move`), as for any
other decision.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec

from agentplatform.bulletins import CallBack, StaysAway, in_parts, shortened
from agentplatform.custody.carry import Carrier
from agentplatform.draining import RUNS
from agentplatform.whereabouts import Whereabouts
from ledger import codec
from ledger.errors import PeerFault, PlatformError
from services.dms.store import Store
from services.eds.explain import Outcome
from services.eds.plan import Move, Plan
from services.eds.rules import MAX_AGENTS

log = logging.getLogger(__name__)
GUESTS = "drain/guests"  # collection: agent -> Guest
CALL_EVERY = 1.0  # seconds between two calls to a host
LOOK_EVERY = 0.05  # seconds
PAUSES = (0.0, 0.5, 2.0)  # seconds before each try to send one back: its EDS may be about to move it itself
MAX_WHY = 300  # bytes
AT_ONCE = 64  # reasons, well within an advert
CALLS_AT_ONCE = 256  # of one host that are being answered; what comes then is called again
Calls = dict[tuple[str, str], list[tuple[str, int]]]  # (host, group) -> agents, and their epochs there


class Guest(msgspec.Struct, frozen=True, array_like=True):
    """It came here in `epoch` from `source`, which was closed then."""

    source: str
    epoch: int


class CallingBack:
    def __init__(
        self,
        host: str,
        store: Store,
        carrier: Carrier,
        whereabouts: Whereabouts,
        closed: Callable[[str], bool],
        carry_out: Callable[[Plan, str], Awaitable[Outcome]],
        tell: Callable[[str, CallBack | StaysAway], object],
        start: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`closed`: whether a host said so when it was last heard; `carry_out` moves agents that live here; `tell`
        tells another host; `start` runs a task of the daemon."""
        self._host, self._store, self._carrier, self._whereabouts = host, store, carrier, whereabouts
        self._closed, self._carry_out, self._tell, self._start = closed, carry_out, tell, start
        self._called: dict[str, str] = {}  # agent -> the host that was asked for it
        self._away: dict[str, str] = {}  # agent -> why it does not come
        # Host -> agents that it called, and hears of yet: nobody keeps another's call from being heard.
        self._returning: dict[str, set[str]] = {}
        self._answering: Counter[str] = Counter()  # host -> its calls that are not answered

    # The host that was drained

    async def call(self, calls: Calls, seconds: float) -> dict[str, str]:
        """Returns when all are back, or have said why not, or so many seconds are over: who is not back, and why."""
        self._called = {agent: host for (host, _), agents in calls.items() for agent, _ in agents}
        self._away = {}
        loop = asyncio.get_running_loop()
        end, again = loop.time() + seconds, loop.time()
        while (missing := self._missing()) and loop.time() < end:
            if loop.time() >= again:
                again = loop.time() + CALL_EVERY
                for (host, _), agents in calls.items():
                    if asked := tuple(each for each in agents if each[0] in missing):
                        self._tell(host, CallBack(asked))
            await asyncio.sleep(LOOK_EVERY)
        late = {agent: f"{self._called[agent]} did not say within {seconds:.0f} s" for agent in self._missing()}
        away, self._called, self._away = self._away | late, {}, {}
        return away

    def _missing(self) -> set[str]:
        """Those that have not come, nor given a reason."""
        here = self._carrier.machine.here
        for agent, host in self._called.items():
            place = self._whereabouts.host_of(agent)
            if agent not in self._away and here(agent) is None and place not in (None, host, self._host):
                self._away[agent] = f"it went on to {place}" if place else "it has ended"
        return {agent for agent in self._called if agent not in self._away and here(agent) is None}

    # The host where they went

    def arrived(self, agent: str, epoch: int, source: str) -> None:
        """An agent came here from another host."""
        if self._closed(source):
            self._start(self._store.put(GUESTS, agent, codec.encode(Guest(source, epoch))))

    def heard(self, host: str, said: CallBack | StaysAway) -> None:
        """Raises PeerFault for what must not be sent."""
        if isinstance(said, StaysAway):
            asked = [(agent, why) for agent, why in said.agents if self._called.get(agent) == host]
            here = self._carrier.machine.here
            self._away |= {agent: shortened(why, MAX_WHY) for agent, why in asked if here(agent) is None}
            return
        if len(said.agents) > MAX_AGENTS:
            raise PeerFault(host, f"called {len(said.agents)} agents back at once; a group has at most {MAX_AGENTS}")
        returning = self._returning.setdefault(host, set())
        if self._answering[host] < CALLS_AT_ONCE and returning.isdisjoint(agent for agent, _ in said.agents):
            # else it is called again meanwhile
            returning.update(agent for agent, _ in said.agents)
            self._answering[host] += 1
            self._start(self._send_back(host, said))

    async def _send_back(self, host: str, said: CallBack) -> None:
        left, away = dict(said.agents), {}
        try:
            for pause in PAUSES:
                await asyncio.sleep(pause)
                away = await self._send(host, left)
                left = {agent: left[agent] for agent in away}
                if not left:
                    break
        finally:
            self._returning[host].difference_update(agent for agent, _ in said.agents)
            self._answering[host] -= 1
        for some in in_parts([(agent, shortened(why, MAX_WHY)) for agent, why in away.items()], AT_ONCE):
            self._tell(host, StaysAway(some))

    async def _send(self, host: str, agents: Mapping[str, int]) -> dict[str, str]:
        """Who did not go, and why."""
        try:
            away = {agent: why for agent, epoch in agents.items() if (why := await self._unfit(host, agent, epoch))}
            fit = tuple(agent for agent in agents if agent not in away)
            if fit:
                moves = tuple(Move(agent, self._host, host, (self._host, host)) for agent in fit)
                plan = Plan(dict.fromkeys(fit, host), moves, 0.0)
                outcome = await self._carry_out(plan, f"{host} is not drained any more and calls it back")
                away |= outcome.failed
                await self._store.write(deleted=[(GUESTS, agent) for agent in fit if agent not in outcome.failed])
        except PlatformError as error:
            return {agent: str(error) for agent in agents}
        return away

    async def _unfit(self, host: str, agent: str, epoch: int) -> str | None:
        """Why it does not go back, if it does not."""
        if self._carrier.machine.here(agent) != epoch:
            return f"it is not on {self._host} any more as it came"
        raw = await self._store.get(GUESTS, agent)
        if raw is None or codec.decode(raw, Guest, "this host's store") != Guest(host, epoch):
            return f"it did not come to {self._host} since {host} was drained"
        state = self._carrier.lifetimes.state_of(agent)
        return None if state == RUNS else f"it is {state} on {self._host}"

"""The edge of a drain: closes this host, sends its agents away or sets them aside, and opens it again.

That it is closed stands in the store before it is told, and of each agent what is about to be done with it: so a host
that is killed in the middle goes on when it is started, and knows later whom to call back (calling_back).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from agentplatform.calling_back import CallingBack, Calls
from agentplatform.custody.carry import Carrier
from agentplatform.deciding import Deciding
from agentplatform.draining import DRAINING, RUNS, Act, Drain, Draining, Move
from ledger import codec
from ledger.errors import Misuse, PlatformError, Unavailable
from services.dms.store import Store
from services.eds.explain import Explanation
from services.eds.rules import Group
from services.rms.service import Rms

log = logging.getLogger(__name__)
STATE = "drain"  # collection: HERE -> Drain
HERE = "this host"
DONE = "drain/agents"  # collection: agent -> Done
LOOK_EVERY = 0.2  # seconds
LEAST = 10.0  # seconds for agents to come back, also when this host was started again after the deadline
MAX_REASONS = 4  # places that are named, of those where an agent could not go


class Done(msgspec.Struct, frozen=True, array_like=True):
    """What was about to be done with an agent that was here in `epoch`."""

    epoch: int
    group: str  # that it was decided about with
    aside: bool  # deactivated, not moved


class Drainer:
    def __init__(
        self,
        host: str,
        store: Store,
        rms: Rms,
        carrier: Carrier,
        deciding: Deciding,
        back: CallingBack,
        note: Callable[[str, str], None],
        start: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`note(agent, text)` tells an agent's owner; `start` runs a task of the daemon; `clock` gives seconds since
        1970."""
        self._host, self._store, self._rms, self._carrier = host, store, rms, carrier
        self._deciding, self._back, self._clock = deciding, back, clock
        self._tell_owner, self._start_task = note, start
        self._draining: Draining | None = None
        self._done: dict[str, Done] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcome: dict[str, Any] | None = None  # of the last drain that was called off

    async def load(self) -> None:
        """Before anything is opened, or heard: a host that was closed is closed still."""
        raw = await self._store.get(STATE, HERE)
        if raw is None:
            return
        drain = codec.decode(raw, Drain, "this host's store")
        for agent in await self._store.keys(DONE):
            done = await self._store.get(DONE, agent)
            if done is not None:
                self._done[agent] = codec.decode(done, Done, "this host's store")
        self._draining = Draining(drain)
        if not drain.called_off:
            self._close()

    async def run(self) -> None:
        """Until cancelled."""
        self.go_on()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                self.look()
            except Exception:
                log.exception("a look at the agents of a host that is drained failed; the next one comes")

    def go_on(self) -> None:
        """After a start in the middle of calling agents back."""
        if self._draining is not None and self._draining.drain.called_off:
            self._start(self._open())

    # What an operator wants

    async def drain(self, seconds: float) -> None:
        """Takes nothing new from now on, and sends away what is here, for so long; then it sets aside what is left.
        Said again it has a new deadline. Returns when that is durable."""
        if self._draining is not None and self._draining.drain.called_off:
            raise Unavailable(f"{self._host} is being opened again, and calls its agents back", retry_after=1.0)
        now = self._clock()
        began = now if self._draining is None else self._draining.drain.began
        await self._keep(Drain(began, now + seconds))
        self._close()

    async def call_off(self, seconds: float) -> None:
        """Open again; whom the drain set aside is activated, and whom it moved is called back, for so long. Returns
        when that is durable. Raises Misuse for a host that is not drained."""
        if self._draining is None:
            raise Misuse(f"{self._host} is not being drained")
        if self._draining.drain.called_off:
            return
        now = self._clock()
        await self._keep(Drain(self._draining.drain.began, now + seconds, called_off=True))
        self._rms.closed = ""
        self._tell()
        self._carrier.dormitory.hold(False)
        self._start(self._open())

    async def _keep(self, drain: Drain) -> None:
        await self._store.put(STATE, HERE, codec.encode(drain))
        self._draining, self._outcome = Draining(drain), None

    def status(self) -> dict[str, Any]:
        """How far it is, as plain data."""
        if self._draining is None:
            return {"host": self._host, "state": "open", "outcome": self._outcome}
        states, drain = self._states(), self._draining.drain
        aside = {agent for agent, done in self._done.items() if done.aside}
        asleep = [agent for agent, state in states.items() if state == "deactivated"]
        return {
            "host": self._host,
            "state": "being opened again" if drain.called_off else self._rms.closed,
            "began": drain.began,
            "deadline": drain.deadline,
            "moved": self._moved(),
            "deactivated": [agent for agent in asleep if agent in aside],
            "asleep": [agent for agent in asleep if agent not in aside],
            "left": [
                {"agent": agent, "state": state, "why": self._draining.why(agent)}
                for agent, state in states.items()
                if state != "deactivated"
            ],
            "handoffs": self._handoffs(),
            "outcome": None,
        }

    # Draining

    def _close(self) -> None:
        self._rms.closed = DRAINING
        self._carrier.dormitory.hold(True)
        self._tell()

    def _tell(self) -> None:
        try:
            self._rms.advertise()
        except Unavailable as error:  # the next round tells
            log.warning("%s", error)

    def look(self) -> None:
        """Begins what is to be done now."""
        draining = self._draining
        if draining is None or draining.drain.called_off:
            return
        states, groups = self._states(), self._groups()
        for act in draining.look(groups, states, self._clock()):
            self._start(self._perform(draining, act, groups))
        word = draining.word(states, self._handoffs() + self._carrier.reopening.under_way, self._clock())
        if word != self._rms.closed:
            log.info("%s is %s", self._host, word)
            self._rms.closed = word
            self._tell()

    def _states(self) -> dict[str, str]:
        """Of all agents in custody here."""
        lifetimes = self._carrier.lifetimes
        here = [known.agent for known in self._carrier.machine.agents.values() if known.here]
        return {agent: lifetimes.state_of(agent) or "" for agent in here}

    def _handoffs(self) -> int:
        machine = self._carrier.machine
        return len(machine.leaving) + len(machine.arriving)

    def _groups(self) -> dict[tuple[str, ...], Group]:
        """The agents that live here, by whom they are decided about with."""
        known = self._carrier.residents.known
        groups = {tuple(agent for agent in each.agents if agent in known): each for each in self._deciding.concerned()}
        grouped = {agent for unit in groups for agent in unit}
        return groups | {(agent,): Group(agent, (agent,)) for agent in known if agent not in grouped}

    async def _perform(self, draining: Draining, act: Act, groups: dict[tuple[str, ...], Group]) -> None:
        stayed = dict.fromkeys(act.agents, "its move failed; see the log of the host")
        try:
            stayed = await (self._move(groups[act.agents]) if isinstance(act, Move) else self._set_aside(*act.agents))
        except PlatformError as error:
            stayed = self._still(act.agents, dict.fromkeys(act.agents, str(error)))
        finally:
            draining.ended(act, stayed, self._clock())

    async def _move(self, group: Group) -> dict[str, str]:
        await self._note(group.agents, group.name, aside=False)
        explained = await self._deciding.eds.decide(group, f"{self._host} is being drained")
        return self._still(group.agents, {agent: _why(explained, agent) for agent in group.agents})

    async def _set_aside(self, agent: str) -> dict[str, str]:
        await self._note((agent,), "", aside=True)
        await self._carrier.dormitory.deactivate(agent, None)
        self._tell_owner(
            agent, f"is deactivated, for {self._host} is being drained and it did not go elsewhere in time"
        )
        return self._still((agent,), {agent: "it runs again"})

    async def _note(self, agents: tuple[str, ...], group: str, aside: bool) -> None:
        """Durable before it is done."""
        epochs = {agent: self._carrier.machine.here(agent) for agent in agents}
        noted = {agent: Done(epoch, group, aside) for agent, epoch in epochs.items() if epoch is not None}
        await self._store.write(documents=[(DONE, agent, codec.encode(done)) for agent, done in noted.items()])
        self._done |= noted

    def _still(self, agents: tuple[str, ...], reasons: dict[str, str]) -> dict[str, str]:
        """Of those that run here still."""
        state_of = self._carrier.lifetimes.state_of
        return {agent: reasons[agent] for agent in agents if state_of(agent) == RUNS}

    def _moved(self) -> dict[str, str]:
        """Agent -> host."""
        went = {agent: self._carrier.machine.went(agent) for agent in self._done}
        return {
            agent: to[0]
            for agent, to in went.items()
            if to is not None and not self._done[agent].aside and to[1] == self._done[agent].epoch + 1
        }

    # And open again

    async def _open(self) -> None:
        assert self._draining is not None
        await self._idle()
        drain, moved = self._draining.drain, self._moved()
        away: dict[str, str] = {}
        activated = [agent for agent, done in self._done.items() if done.aside and await self._activated(agent, away)]
        calls: Calls = {}
        for agent, host in sorted(moved.items()):
            done = self._done[agent]
            calls.setdefault((host, done.group), []).append((agent, done.epoch + 1))
        away |= await self._back.call(calls, max(LEAST, drain.deadline - self._clock()))
        back = [agent for agent in moved if agent not in away]
        await self._carrier.books.written()  # that they are awake, before it is forgotten who was to be woken
        gone = [(DONE, agent) for agent in await self._store.keys(DONE)]
        await self._store.write(deleted=[*gone, (STATE, HERE)])
        self._outcome = {"back": back, "activated": activated, "away": away}
        self._draining, self._done = None, {}

    async def _idle(self) -> None:
        """What was begun ends first."""
        while others := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _activated(self, agent: str, away: dict[str, str]) -> bool:
        """Whether it was set aside, and runs again; `away` hears why not."""
        if agent not in self._carrier.dormitory.asleep:
            return False  # a message woke it, or it ended
        try:
            await self._carrier.lifetimes.activate(agent)
        except PlatformError as error:
            away[agent] = str(error)
            return False
        return True

    # Helpers

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._start_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _why(explained: Explanation, agent: str) -> str:
    """Why an agent that was decided about is still here."""
    failed = explained.outcome.failed if explained.outcome else {}
    if agent in failed:
        return failed[agent]
    refused = [f"{place.host}: {place.reason}" for place in explained.rejected if place.agent == agent]
    if len(refused) > MAX_REASONS:
        refused[MAX_REASONS:] = [f"and {len(refused) - MAX_REASONS} more"]
    return "; ".join(["it was decided that it stays", *refused]) if refused else explained.remark

"""The edge of the EDS: hears events, decides for the groups that they concern, has plans carried out, and learns.

The first event is decided about at once. What comes while a decision is made, or soon after it, waits and gives one
decision together: so a storm of events costs no more than a few decisions a second, and every queue is bounded.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from ledger.errors import PlatformError
from services.dms.store import Store
from services.eds import whatif
from services.eds.deliberation import Deliberation, deliberate
from services.eds.events import Event, UserMoved, Whom, concerns
from services.eds.explain import Explanation, Outcome
from services.eds.kept import Kept, encoded
from services.eds.learnt import Learnt
from services.eds.limits import Limits
from services.eds.offers import Policy
from services.eds.pending import Pending
from services.eds.plan import Plan
from services.eds.rules import Group
from services.eds.snapshot import Snapshot

LOOK_S = 0.02  # from a look at events that concerned nobody to the next
MAX_EVENTS = 4_096  # that wait to be looked at; of two with the same words one waits

log = logging.getLogger(__name__)


class Decision(NamedTuple):
    groups: tuple[Group, ...]
    plan: Plan
    explanation: Explanation


class Eds:
    """Decides for the groups that this host holds.

    `snapshot_of(groups)` gives the picture from RMS, TMS and the residents (see snapshot.assemble); the Eds adds what
    it has learnt itself (services.eds.learnt). `carry_out(plan, why)` moves the agents and says what became of them; it
    may raise PlatformError, which counts as a failure of every move. `groups()` gives the groups that this host holds
    now; `hosts_of(group)` where its agents are. Explanations and experience are kept in `store`. `clock` gives seconds
    since 1970.
    """

    def __init__(
        self,
        policy: Policy,
        snapshot_of: Callable[[Sequence[Group]], Awaitable[Snapshot]],
        carry_out: Callable[[Plan, str], Awaitable[Outcome]],
        store: Store,
        *,
        groups: Callable[[], Iterable[Group]],
        hosts_of: Callable[[Group], Collection[str]],
        limits: Limits = Limits(),  # noqa: B008 (immutable)
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._policy, self._limits, self._clock = policy, limits, clock
        self._snapshot_of, self._carry_out, self._groups, self._hosts_of = snapshot_of, carry_out, groups, hosts_of
        self._kept = Kept(store, limits.keep)
        self._learnt = Learnt(self._kept)
        self._events: dict[tuple[str, Whom], Event] = {}  # by words, and for whom: not looked at yet
        self._pending = Pending()
        self._busy: dict[str, Group] = {}  # groups that are decided about, moved, or have a pause after that
        self._worker: asyncio.Task[None] | None = None
        self._moving: set[asyncio.Task[None]] = set()  # one for each plan that is carried out
        self._timers: dict[str, asyncio.TimerHandle] = {}  # group -> a decision that has to wait for its time
        self._pauses: set[asyncio.TimerHandle] = set()
        self._freed = asyncio.Event()  # pulsed when groups are busy no more
        self._idle = asyncio.Event()
        self._idle.set()
        self._decided = 0
        self._last = 0  # milliseconds of the newest decision's id

    def happened(self, event: Event, *, teller: str = "", whom: Whom = "there") -> None:
        """Takes an event. `teller`: the other host that tells of it; `whom`: the groups to decide about."""
        self._learnt.happened(event, teller, self._clock())
        self._events[event.why, whom] = event
        if len(self._events) > MAX_EVENTS:  # that of a user goes first; what is told of hosts is rare
            crowd = (key for key, each in self._events.items() if isinstance(each, UserMoved))
            del self._events[next(crowd, next(iter(self._events)))]
        self._work()

    async def decide(self, group: Group, why: str) -> Explanation:
        """Decides about `group`, which need not be one of `groups()`, when nothing else is under way for its agents.
        Returns the last explanation when its moves are done. Raises what `snapshot_of` or the store raises."""
        while any(not set(group.agents).isdisjoint(busy.agents) for busy in self._busy.values()):
            await self._freed.wait()
        key = f"{group.name} by hand"
        self._busy[key] = group
        try:
            return await self._see_through(await self._decide((group,), why))
        finally:
            self._pause(key)

    async def dry_run(self, group: Group) -> Explanation:
        """What it would decide now. Nothing moves, nothing is kept, and no event is waited for."""
        snapshot = await self._learnt.added_to(await self._snapshot_of((group,)), moved=())
        return await asyncio.to_thread(whatif.decide, snapshot, self._policy, "a dry run was asked for", "dry-run")

    async def why(self, agent: str, limit: int = 20) -> list[Explanation]:
        """This host's decisions about `agent`, the newest first. Empty when there was none."""
        return await self._kept.newest(agent, limit)

    def load(self) -> dict[str, int]:
        """How much waits, and for what; `decided` counts since the start."""
        return {
            "events": len(self._events),
            "groups": len(self._pending),
            "busy": len(self._busy),
            "moving": len(self._moving),
            "timers": len(self._timers),
            "decided": self._decided,
        }

    async def settled(self) -> None:
        """Returns when every event taken so far has led to its decision. One that waits for a time does not count."""
        await self._idle.wait()

    async def close(self) -> None:
        """Decides nothing more. Plans that are being carried out are cancelled; custody knows what is under way."""
        for timer in (*self._timers.values(), *self._pauses):
            timer.cancel()
        tasks = [*self._moving, *([self._worker] if self._worker is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._events.clear()
        self._pending = Pending()
        self._idle.set()

    # Decisions, one batch of groups after the other

    def _work(self) -> None:
        if self._worker is None:
            self._idle.clear()
            self._worker = asyncio.get_running_loop().create_task(self._decide_all())

    async def _decide_all(self) -> None:
        try:
            more = True
            while more:
                more = bool(self._events)
                here = list(self._groups())
                self._look(here)
                groups, why = self._pending.batch(here, self._busy)
                if groups:
                    more = True
                    self._busy |= {group.name: group for group in groups}
                    await self._decide_batch(groups, why)
                elif more:  # a flood of what concerns nobody is looked at a few times a second
                    await asyncio.sleep(min(LOOK_S, self._limits.pause))
        except Exception:
            log.exception("what has happened is not decided about: this is a bug")
            self._events, self._pending = {}, Pending()
        finally:
            self._worker = None
            self._rest()

    def _look(self, groups: list[Group]) -> None:
        """Whom the events concern."""
        events, self._events = self._events, {}
        hosts = {group.name: self._hosts_of(group) for group in groups} if events else {}
        for (_, whom), event in events.items():
            for group in groups:
                if whom == "all" or (
                    concerns(event, group, hosts[group.name]) if whom == "there" else group.name in whom
                ):
                    self._pending.mark(group.name, event.why)

    async def _decide_batch(self, groups: tuple[Group, ...], why: str) -> None:
        names = [group.name for group in groups]
        try:
            decision = await self._decide(groups, why)
        except Exception as error:
            self._not_decided(groups, why, error)
            if len(groups) > 1:  # what is wrong with one must not keep the others from it
                for group in groups:
                    await self._decide_batch((group,), why)
            else:
                self._pause(*names)
            return
        task = asyncio.get_running_loop().create_task(self._see_through_or_log(decision))
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)
        task.add_done_callback(lambda _: self._pause(*names))

    async def _decide(
        self,
        groups: tuple[Group, ...],
        why: str,
        follows: Explanation | None = None,
        moved: Collection[str] = (),
    ) -> Decision:
        snapshot = await self._learnt.added_to(await self._snapshot_of(groups), moved)
        self._last = max(self._last + 1, int(snapshot.at * 1000))
        name = f"{self._last:012x}{secrets.token_hex(4)}"  # decisions sort by their time

        def think() -> tuple[Deliberation, bytes]:
            found = deliberate(snapshot, self._policy, why, name, follows)
            return found, encoded(found.explanation)

        found, raw = await asyncio.to_thread(think)
        await self._kept.decided(found.explanation, raw)
        self._decided += 1
        for group in groups:
            times = [found.again_at[agent] for agent in group.agents if agent in found.again_at]
            if times:
                self._decide_later(group.name, min(times) - snapshot.at)
        return Decision(groups, found.plan, found.explanation)

    # What becomes of them

    async def _see_through_or_log(self, decision: Decision) -> None:
        try:
            await self._see_through(decision)
        except Exception as error:
            self._not_decided(decision.groups, decision.explanation.why, error)

    async def _see_through(self, decision: Decision) -> Explanation:
        """Has the plan carried out. Where moves fail another plan follows at once, for the groups that they were of."""
        why = decision.explanation.why  # of the first attempt
        moved: set[str] = set()
        while decision.plan.moves:
            explanation, failed = await self._carried_out(decision, moved)
            if not failed or explanation.attempt >= self._limits.attempts:
                return explanation
            groups = tuple(group for group in decision.groups if not failed.keys().isdisjoint(group.agents))
            agent, reason = next(iter(failed.items()))
            again = f"{why}; once more, for {agent} did not go to {decision.plan.hosts[agent]}: {reason:.200}"
            decision = await self._decide(groups, again, explanation, moved)
        await self._kept.concluded(decision.explanation)
        return decision.explanation

    async def _carried_out(self, decision: Decision, moved: set[str]) -> tuple[Explanation, dict[str, str]]:
        plan = decision.plan
        try:
            outcome = await self._carry_out(plan, decision.explanation.why)
        except PlatformError as error:
            outcome = Outcome({move.agent: str(error) for move in plan.moves})
        now = self._clock()
        failed = {move.agent: outcome.failed[move.agent] for move in plan.moves if move.agent in outcome.failed}
        moved |= {move.agent for move in plan.moves} - failed.keys()
        groups = {agent: group.name for group in decision.groups for agent in group.agents}
        for group, host in sorted({(groups[agent], plan.hosts[agent]) for agent in failed}):
            self._learnt.refused(group, host, now)
        explanation = msgspec.structs.replace(decision.explanation, outcome=outcome)
        await self._kept.concluded(explanation)
        await self._kept.learn(explanation, plan.moves, now)
        return explanation, failed

    def _not_decided(self, groups: tuple[Group, ...], why: str, error: Exception) -> None:
        names = ", ".join(group.name for group in groups)
        if isinstance(error, PlatformError):
            log.warning("no decision for %s (%s): %s", names, why, error)
        else:
            log.error("no decision for %s (%s): this is a bug", names, why, exc_info=error)

    # Time

    def _pause(self, *names: str) -> None:
        """These groups are busy a little longer."""

        def over() -> None:
            self._pauses.discard(timer)
            for name in names:
                self._busy.pop(name, None)
            self._freed.set()
            self._freed.clear()
            self._work() if self._pending else self._rest()

        timer = asyncio.get_running_loop().call_later(self._limits.pause, over)
        self._pauses.add(timer)
        self._rest()

    def _rest(self) -> None:
        """Says so when nothing is to be done now."""
        if self._worker is None and not (self._moving or self._events or self._pending):
            self._idle.set()

    def _decide_later(self, name: str, delay: float) -> None:
        earlier = self._timers.pop(name, None)
        if earlier is not None:
            earlier.cancel()

        def due() -> None:
            self._timers.pop(name, None)
            self._pending.mark(name, "the minimum stay is over")
            self._work()

        self._timers[name] = asyncio.get_running_loop().call_later(max(0.0, delay), due)

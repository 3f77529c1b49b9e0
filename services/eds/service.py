"""The edge of the EDS: hears events, decides for the groups that they concern, has plans carried out, and learns."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from ledger import codec
from ledger.errors import Misuse, PlatformError
from services.dms.store import Store
from services.eds import planner, whatif
from services.eds.events import AgentAsked, Event, UserMoved
from services.eds.explain import Explanation, Outcome, explain
from services.eds.offers import Policy
from services.eds.plan import Plan
from services.eds.rules import Group
from services.eds.snapshot import NEUTRAL_EXPERIENCE, Access, Snapshot

SETTLE_S = 0.05  # events within this time of the first give one decision
NEW_OUTCOME = 0.2  # weight of the newest outcome in a host's experience
MAX_USERS = 10_000  # whose access is remembered; the one heard least lately is forgotten
EXPERIENCE = "eds/experience"  # collection: host -> float
DECISIONS = "eds/decisions"  # collection: decision -> Explanation

log = logging.getLogger(__name__)


class Eds:
    """Decides for the groups that this host holds.

    `snapshot_of(group)` gives the picture from RMS, TMS and the residents (see snapshot.assemble); the Eds adds
    what it keeps itself: the user's access and the experience with hosts. `carry_out(plan, why)` moves the agents
    and says what became of them; it may raise PlatformError, which counts as a failure of every move. `groups()`
    gives the groups that this host holds now. Explanations and experience are kept in `store`.
    """

    def __init__(
        self,
        policy: Policy,
        snapshot_of: Callable[[Group], Awaitable[Snapshot]],
        carry_out: Callable[[Plan, str], Awaitable[Outcome]],
        store: Store,
        *,
        groups: Callable[[], Iterable[Group]],
        settle: float = SETTLE_S,
    ) -> None:
        self._policy = policy
        self._snapshot_of = snapshot_of
        self._carry_out = carry_out
        self._store = store
        self._groups = groups
        self._settle = settle
        self._access: dict[str, tuple[Access, ...]] = {}  # user -> what the newest access point measured
        self._reasons: dict[str, list[str]] = {}  # group -> why it waits for a decision
        self._tasks: dict[str, asyncio.Task[None]] = {}  # group -> the task that decides
        self._timers: dict[str, asyncio.TimerHandle] = {}  # group -> a decision that has to wait for its time
        # Weak: a lock is needed while somebody holds it or waits for it, and groups come and go.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def happened(self, event: Event) -> tuple[str, ...]:
        """Takes an event and returns at once. The names of the groups that it concerns: none means not held here."""
        if isinstance(event, UserMoved):
            self._access.pop(event.user, None)
            self._access[event.user] = event.access
            if len(self._access) > MAX_USERS:
                del self._access[next(iter(self._access))]
        concerned = tuple(group.name for group in self._groups() if _concerns(event, group))
        for name in concerned:
            self._mark(name, event.why)
        return concerned

    async def decide(self, group: Group, why: str) -> Explanation:
        """Decides now, has the plan carried out, and returns the explanation with its outcome.

        Decisions for one group come one after the other. Raises what `snapshot_of` or the store raises.
        """
        async with self._locks.setdefault(group.name, asyncio.Lock()):
            snapshot = await self._completed(await self._snapshot_of(group))
            # Both are pure and bounded, but long for one turn of the loop.
            offers = await asyncio.to_thread(self._policy.offers, snapshot)
            found = await asyncio.to_thread(planner.search, snapshot, offers)
            explanation = explain(secrets.token_hex(8), why, self._policy_data(), snapshot, offers, found)
            await self._keep(explanation)
            for agent in group.agents:
                await self._store.append(_history(agent), explanation.decision.encode())
            if offers.again_at is not None:
                self._decide_later(group.name, offers.again_at - snapshot.at)
            if not found.plan.moves:
                return explanation
            outcome = await self._carried_out(found.plan, why)
            explanation = msgspec.structs.replace(explanation, outcome=outcome)
            await self._keep(explanation)
            await self._learn(found.plan, outcome)
            return explanation

    async def dry_run(self, group: Group) -> Explanation:
        """What it would decide now. Nothing moves, nothing is kept, and no event is waited for."""
        snapshot = await self._completed(await self._snapshot_of(group))
        return await asyncio.to_thread(whatif.decide, snapshot, self._policy, "a dry run was asked for", "dry-run")

    async def why(self, agent: str, limit: int = 20) -> list[Explanation]:
        """This host's decisions about `agent`, the newest first. Empty when there was none."""
        explanations = []
        for decision in await self._store.newest(_history(agent), limit):
            raw = await self._store.get(DECISIONS, decision.decode())
            if raw is not None:
                explanations.append(codec.decode(raw, Explanation, "this host's store"))
        return explanations

    async def settled(self) -> None:
        """Returns when every event taken so far has led to its decision. One that waits for a time does not count."""
        while running := [task for task in self._tasks.values() if not task.done()]:
            await asyncio.wait(running)

    async def close(self) -> None:
        """Decides nothing more. A plan that is being carried out is cancelled."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _mark(self, name: str, why: str) -> None:
        reasons = self._reasons.setdefault(name, [])
        if why not in reasons:
            reasons.append(why)
        self._tasks = {group: task for group, task in self._tasks.items() if not task.done()}
        if name not in self._tasks:
            self._tasks[name] = asyncio.get_running_loop().create_task(self._decide_marked(name))

    async def _decide_marked(self, name: str) -> None:
        while name in self._reasons:
            await asyncio.sleep(self._settle)
            why = "; ".join(self._reasons.pop(name))
            group = next((group for group in self._groups() if group.name == name), None)
            if group is not None:  # it may have left meanwhile
                await self._decide_and_log(group, why)

    async def _decide_and_log(self, group: Group, why: str) -> None:
        try:
            await self.decide(group, why)
        except PlatformError as error:
            log.warning("no decision for %s (%s): %s", group.name, why, error)
        except Exception:
            log.exception("no decision for %s (%s): this is a bug", group.name, why)

    def _decide_later(self, name: str, delay: float) -> None:
        earlier = self._timers.pop(name, None)
        if earlier is not None:
            earlier.cancel()

        def due() -> None:
            self._timers.pop(name, None)
            self._mark(name, "the minimum stay is over")

        self._timers[name] = asyncio.get_running_loop().call_later(max(0.0, delay), due)

    async def _completed(self, snapshot: Snapshot) -> Snapshot:
        known = {host: await self._store.get(EXPERIENCE, host) for host in await self._store.keys(EXPERIENCE)}
        experience = {host: codec.decode(raw, float, "this host's store") for host, raw in known.items() if raw}
        hosts = tuple(
            msgspec.structs.replace(host, experience=experience.get(host.host, NEUTRAL_EXPERIENCE))
            for host in snapshot.hosts
        )
        users = {group.user for group in snapshot.groups}
        access = {user: heard for user, heard in sorted(self._access.items()) if user in users}
        return msgspec.structs.replace(snapshot, hosts=hosts, access=access)

    async def _keep(self, explanation: Explanation) -> None:
        await self._store.put(DECISIONS, explanation.decision, codec.encode(explanation))

    async def _carried_out(self, plan: Plan, why: str) -> Outcome:
        try:
            return await self._carry_out(plan, why)
        except PlatformError as error:
            return Outcome({move.agent: str(error) for move in plan.moves})

    async def _learn(self, plan: Plan, outcome: Outcome) -> None:
        """The experience of each destination: an exponentially weighted mean of 1 (all came) and 0 (one did not)."""
        for host in sorted({move.destination for move in plan.moves}):
            failed = any(move.agent in outcome.failed for move in plan.moves if move.destination == host)
            raw = await self._store.get(EXPERIENCE, host)
            old = codec.decode(raw, float, "this host's store") if raw else NEUTRAL_EXPERIENCE
            new = old + NEW_OUTCOME * ((0.0 if failed else 1.0) - old)
            await self._store.put(EXPERIENCE, host, codec.encode(new))

    def _policy_data(self) -> dict[str, Any]:
        return {"name": type(self._policy).__name__, "settings": msgspec.to_builtins(self._policy)}


def _concerns(event: Event, group: Group) -> bool:
    if isinstance(event, UserMoved):
        return event.user == group.user
    if isinstance(event, AgentAsked):
        return event.agent in group.agents
    return True  # what happens to a host may change the best place of every group


def _history(agent: str) -> str:
    if not agent:
        raise Misuse("name the agent whose decisions are asked for")
    return f"eds/why/{agent}"

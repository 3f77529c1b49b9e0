"""What the EDS keeps in the DMS: explanations of its decisions, and its experience with destinations."""

import asyncio
import logging
from collections.abc import Container, Iterable

from ledger import codec
from ledger.errors import Misuse, PeerFault
from services.dms.store import Store
from services.eds import experience
from services.eds.experience import Record
from services.eds.explain import Explanation
from services.eds.plan import Move

DECISIONS = "eds/decisions"  # collection: decision -> Explanation
ABOUT = "eds/about"  # collection: "agent/decision" -> nothing; decisions sort by their time
EXPERIENCE = "eds/experience.1"  # collection: host -> Record
MAX_DECISIONS = 5_000  # of a host in all; the oldest go
MAX_BYTES = 4 << 20  # of one explanation; with more it is shortened

log = logging.getLogger(__name__)


class Kept:
    """`keep`: the newest decisions about an agent that are kept."""

    def __init__(self, store: Store, keep: int) -> None:
        self._store, self._keep = store, keep
        self._experience: dict[str, Record] | None = None  # what is in the store, once it was read
        self._decisions: list[str] | None = None  # likewise, the oldest first

    async def decided(self, explanation: Explanation, raw: bytes) -> None:
        """Durable when this returns, and found by each of its agents. `raw` is what `encoded` made of it."""
        about = [(ABOUT, f"{agent}/{explanation.decision}", b"") for agent in explanation.present]
        await self._store.write(documents=[(DECISIONS, explanation.decision, raw), *about])

    async def concluded(self, explanation: Explanation) -> None:
        """Its outcome is known, or there is none to be had. What is too old goes."""
        if explanation.outcome is not None:
            raw = await asyncio.to_thread(encoded, explanation)  # it may be megabytes: long for one turn of the loop
            await self._store.put(DECISIONS, explanation.decision, raw)
        if self._decisions is None:
            self._decisions = await self._store.keys(DECISIONS)
        else:
            self._decisions.append(explanation.decision)
        old = self._decisions[:-MAX_DECISIONS]
        del self._decisions[:-MAX_DECISIONS]
        gone: set[tuple[str, str]] = set()
        for agent in explanation.present:
            gone |= {(agent, decision) for decision in (await self._about(agent))[: -self._keep]}
        for decision in old:
            found = await self._read(decision)
            gone |= {(agent, decision) for agent in (found.present if found is not None else ())}
        if not gone and not old:
            return
        dropped = {decision for _, decision in gone}.difference(old)
        unseen = {decision for decision in dropped if not await self._referred(decision, gone)} | set(old)
        about = [(ABOUT, f"{agent}/{decision}") for agent, decision in gone]
        await self._store.write(deleted=[*about, *((DECISIONS, decision) for decision in sorted(unseen))])
        self._decisions = [decision for decision in self._decisions if decision not in unseen]

    async def newest(self, agent: str, limit: int) -> list[Explanation]:
        """The newest first. What an earlier version of the platform has written in another shape is skipped."""
        decisions = (await self._about(agent))[-limit:]
        return [found for decision in reversed(decisions) if (found := await self._read(decision)) is not None]

    async def learn(self, explanation: Explanation, moves: Iterable[Move], now: float) -> None:
        """One more outcome for each destination of its plan, but where all that did not come is no fault of it."""
        assert explanation.outcome is not None
        failed, downtime = explanation.outcome.failed, explanation.outcome.downtime_ms
        links = {(link["source"], link["destination"]): link for link in explanation.inputs.get("links", ())}
        known = await self._known()
        moves = [move for move in moves if move.agent not in explanation.outcome.excused]
        for host in sorted({move.destination for move in moves}):
            there = [move for move in moves if move.destination == host]
            slowest = max(there, key=lambda move: downtime.get(move.agent, 0.0))
            link = links.get((slowest.source, host))
            # Groups that go there at the same time share the link.
            size = sum(explanation.outcome.sizes.get(each.agent, 0) for each in there if each.source == slowest.source)
            known[host] = experience.after(
                known.get(host, Record()),
                came=not any(move.agent in failed for move in there),
                now=now,
                downtime_ms=downtime.get(slowest.agent),
                expected_ms=link and experience.expected_ms(link["rtt_ms"], size, link["bandwidth"] or None),
            )
            await self._store.put(EXPERIENCE, host, codec.encode(known[host]))

    async def experience(self, now: float) -> dict[str, float]:
        """With every host where anything went yet."""
        return {host: experience.value(record, now) for host, record in (await self._known()).items()}

    async def _known(self) -> dict[str, Record]:
        if self._experience is None:
            known = {}
            for host in await self._store.keys(EXPERIENCE):
                raw = await self._store.get(EXPERIENCE, host)
                known[host] = codec.decode(raw or b"", Record, "this host's store")
            self._experience = known
        return self._experience

    async def _about(self, agent: str) -> list[str]:
        if not agent:
            raise Misuse("name the agent whose decisions are asked for")
        return [key.rpartition("/")[2] for key in await self._store.keys(ABOUT, f"{agent}/")]

    async def _read(self, decision: str) -> Explanation | None:
        raw = await self._store.get(DECISIONS, decision)
        try:
            return None if raw is None else codec.decode(raw, Explanation, "this host's store")
        except PeerFault as error:
            log.info("the explanation of decision %s is of an earlier shape and is not shown: %s", decision, error)
            return None

    async def _referred(self, decision: str, gone: Container[tuple[str, str]]) -> bool:
        """Whether an agent keeps it for which it does not go now."""
        found = await self._read(decision)
        others = [] if found is None else [agent for agent in found.present if (agent, decision) not in gone]
        for agent in others:
            if await self._store.get(ABOUT, f"{agent}/{decision}") is not None:
                return True
        return False


def encoded(explanation: Explanation) -> bytes:
    raw = codec.encode(explanation)
    return raw if len(raw) <= MAX_BYTES else codec.encode(explanation.shortened())

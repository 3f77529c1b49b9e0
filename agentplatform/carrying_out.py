"""How a plan of the EDS is carried out: the moves of its agents, and what became of them.

Agents that a rule calls atomic arrive together or stay together. From one host they go by one handoff; from several by
a convoy (custody.convoys), which takes held custody. All else of a group that goes from one host to another is one
handoff too; groups go apart, so that none stays because an agent of another owner does not go.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence

from agentplatform.convoy import Convoy, assemble
from agentplatform.custody.carry import Carrier
from agentplatform.custody.residences import subject_of
from agentplatform.lives import Lives
from agentplatform.setting_out import SettingOut
from ledger.contracts.residence import TRANSFER_BYTES, Going, Residence
from ledger.errors import Misuse, PlatformError
from services.eds.explain import Outcome
from services.eds.plan import Move, Plan
from services.eds.rules import Atomic, Group

Moves = tuple[Move, ...]


class CarryingOut:
    def __init__(
        self,
        host: str,
        carrier: Carrier,
        lives: Lives,
        setting_out: SettingOut,
        find: Callable[[bytes], Residence | None],
        groups: Callable[[], Iterable[Group]],
    ) -> None:
        """`find` is of this host's chain; `groups` are those that agents here belong to."""
        self._host, self._carrier, self._lives, self._setting_out = host, carrier, lives, setting_out
        self._find, self._groups = find, groups

    async def carry_out(self, plan: Plan, why: str) -> Outcome:
        groups = [group for group in self._groups() if plan.hosts.keys() & set(group.agents)]
        names = {agent: group.name for group in groups for agent in group.agents}
        failed: dict[str, str] = {}
        excused: list[str] = []
        handoffs: dict[tuple[str, str, str, bool], list[str]] = {}
        convoys: list[Moves] = []
        known = self._carrier.residents.known
        owners = {known[agent].birth.owner for group in groups for agent in group.agents if agent in known}
        held = {move.agent: self._held(move.agent, owners) for move in plan.moves}
        for party in parties(plan.moves, (rule for group in groups for rule in group.rules)):
            sources = {move.source for move in party}
            if reason := self._torn(party, held):
                failed |= {move.agent: reason for move in party}
                excused += [move.agent for move in party]
            elif len(sources) > 1:
                convoys.append(party)
            else:
                for move in party:
                    together = move.source, names.get(move.agent, ""), move.destination, held[move.agent] is not None
                    handoffs.setdefault(together, []).append(move.agent)
        work = [
            self._handoff(source, group, agents, to, why) for (source, group, to, _), agents in sorted(handoffs.items())
        ]
        work += [self._convoy(names.get(party[0].agent, ""), party, held, why) for party in convoys]
        return _all([Outcome(failed, excused=tuple(excused)), *await asyncio.gather(*work)])

    def _torn(self, party: Moves, held: dict[str, Going | None]) -> str | None:
        """Why they cannot go as one, if so."""
        local = [move for move in party if held[move.agent] is None]
        if not local or (len(local) == len(party) and len({move.source for move in party}) == 1):
            return None
        places = ", ".join(f"{move.agent} on {move.source}" for move in local)
        return (
            f"{', '.join(move.agent for move in party)} belong together, so none moved: only the ledger can move some "
            f"of several hosts, or in different custody, as one; in local custody are {places}. Have them in held "
            "custody: agentplatform custody AGENT held"
        )

    def _held(self, agent: str, owners: Iterable[bytes]) -> Going | None:
        """How it goes by the ledger; None for one in local custody. `owners`: of the groups that are moved."""
        machine = self._carrier.machine
        if machine.here(agent) is not None:
            known = machine.agents[agent]
            return Going(known.subject, known.epoch + 1) if known.held else None
        for subject in (subject_of(owner, agent) for owner in owners):
            now = self._find(subject)
            if now is not None and now.host:
                return Going(subject, now.epoch + 1)
        return None

    async def _handoff(
        self, source: str, group: str, agents: Sequence[str], to: str, why: str, convoy: Convoy | None = None
    ) -> Outcome:
        try:
            if source != self._host:
                return await self._setting_out.ask(source, group, agents, to, why, convoy)
            hop = await self._lives.decided(agents, to, why, convoy)
        except PlatformError as error:
            # A Misuse is the agents' own doing (a veto, a state that cannot travel), or there was nothing to be moved;
            # and of a host that does not say what became of its agents nothing follows for where they were to go.
            excused = tuple(agents) if isinstance(error, Misuse) or source != self._host else ()
            return Outcome(dict.fromkeys(agents, str(error)), excused=excused)
        return Outcome({}, dict.fromkeys(agents, hop.downtime_ms), dict.fromkeys(agents, hop.bytes // len(agents)))

    async def _convoy(self, group: str, party: Moves, held: dict[str, Going | None], why: str) -> Outcome:
        """All of them, or none; the ledger says which."""
        agents, to = tuple(move.agent for move in party), party[0].destination
        going: dict[str, list[Going]] = {}
        parts: dict[str, list[str]] = {}  # by source, as `going`
        for move in party:
            how = held[move.agent]
            assert how is not None  # else they are torn
            going.setdefault(move.source, []).append(how)
            parts.setdefault(move.source, []).append(move.agent)
        try:
            convoy = assemble(os.urandom(TRANSFER_BYTES), going)
        except PlatformError as error:
            return Outcome(dict.fromkeys(agents, str(error)), excused=agents)
        work = (self._handoff(source, group, part, to, why, convoy) for source, part in parts.items())
        done = _all(await asyncio.gather(*work))
        reasons = dict.fromkeys(done.failed.values())  # in their order, each once
        if not reasons or self._went(convoy):
            return Outcome({}, done.downtime_ms, done.sizes)
        together = f"{', '.join(agents)} belong together, and stayed: {'; '.join(reasons)}"
        # Where one part could not go the others only wait for it in vain.
        return Outcome(dict.fromkeys(agents, together), excused=agents if done.excused else ())

    def _went(self, convoy: Convoy) -> bool:
        """By this host's chain, which has all of it or nothing."""
        entries = [(part, self._find(going.subject)) for part in convoy.parts for going in part.agents]
        return any(now is not None and now.transfer == part.transfer for part, now in entries)


def _all(outcomes: Iterable[Outcome]) -> Outcome:
    """Of moves of different agents."""
    failed: dict[str, str] = {}
    downtime_ms: dict[str, float] = {}
    sizes: dict[str, int] = {}
    excused: list[str] = []
    for each in outcomes:
        failed |= each.failed
        downtime_ms |= each.downtime_ms
        sizes |= each.sizes
        excused += each.excused
    return Outcome(failed, downtime_ms, sizes, tuple(excused))


def parties(moves: Moves, rules: Iterable[object]) -> list[Moves]:
    """Who goes as one, by the atomic rules; who is in none of these is by itself."""
    found: list[Moves] = [(move,) for move in moves]
    for rule in rules:
        if isinstance(rule, Atomic):
            bound = [party for party in found if any(move.agent in rule.agents for move in party)]
            found = [party for party in found if party not in bound]
            found += [tuple(move for party in bound for move in party)] if bound else []
    return found

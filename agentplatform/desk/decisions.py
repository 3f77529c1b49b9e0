"""What a caller may tell the EDS of this host, and ask of it."""

from typing import Any

import msgspec

from agentplatform.environment import Environment
from ledger.errors import Misuse
from services.eds.contradictions import contradictions
from services.eds.events import Event
from services.eds.explain import Explanation
from services.eds.rules import Group

_EVENT: Any = Event


class DecisionDesk:
    def __init__(self, environment: Environment) -> None:
        self._here = environment

    async def group(self, name: str, user: str, agents: list[str], rules: list[dict[str, Any]]) -> dict[str, Any]:
        """From now on these agents, all of which live here, are decided about together."""
        here = self._here
        found = [here.whereabouts.resolve(agent) for agent in agents]
        full = dict(zip(agents, found, strict=True))
        absent = [agent for agent in found if agent not in here.mailroom.boxes]
        if absent:
            raise Misuse(f"{', '.join(absent)} do not live on {here.host}; a group is formed where its agents are")
        data = {"name": name, "user": user or None, "agents": found, "rules": _with_ids(rules, full)}
        try:
            group = msgspec.convert(data, Group)
        except msgspec.ValidationError as error:
            raise Misuse(f"that is no group: {error}") from None
        if against := contradictions(group):
            raise Misuse(f"nobody can keep these rules together, so take one of them out: {'; '.join(against)}")
        await here.mailroom.group(group)
        return {"group": name, "agents": found}

    async def event(self, event: dict[str, Any]) -> None:
        """Something happened that may call for a decision (services.eds.events; `type` says which)."""
        try:
            self._here.happened(msgspec.convert(event, _EVENT))
        except msgspec.ValidationError as error:
            raise Misuse(f"that is no event: {error}") from None

    async def why(self, agent: str) -> list[dict[str, Any]]:
        found = self._here.whereabouts.resolve(agent)
        return [_plain(explanation) for explanation in await self._here.deciding.eds.why(found)]

    async def dry_run(self, about: str) -> dict[str, Any]:
        """What would be decided now for a group that is decided for here, or for the group of an agent, or for an agent
        alone. Nothing moves."""
        here, groups = self._here, self._here.deciding.groups()
        group = next((each for each in groups if each.name == about), None)
        if group is None:
            agent = here.whereabouts.resolve(about)
            group = next((each for each in groups if agent in each.agents), None)
            if group is None and agent in here.carrier.residents.known:
                group = Group(agent, (agent,))
            if group is None:
                where = here.whereabouts.host_of(agent) or "the host where it lives"
                raise Misuse(f"{here.host} does not decide for {agent}; ask: agentplatform --host {where}")
        return _plain(await here.deciding.eds.dry_run(group))


def _plain(explanation: Explanation) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(explanation)
    return data | {"columns": explanation.columns, "rows": explanation.rows()}


def _with_ids(rules: list[dict[str, Any]], full: dict[str, str]) -> list[dict[str, Any]]:
    """Rules may name agents as the caller does; from here on they carry ids."""

    def widen(value: Any) -> Any:
        return [full.get(each, each) for each in value] if isinstance(value, list) else full.get(value, value)

    return [
        {key: widen(value) if key in ("agents", "agent", "on") else value for key, value in rule.items()}
        for rule in rules
    ]

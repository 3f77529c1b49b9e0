"""What a caller may tell the EDS of this host, and ask of it."""

from typing import Any, get_args

import msgspec

from agentplatform.desk.ledger import must_be_named
from agentplatform.environment import Environment
from ledger.errors import Misuse
from services.eds.contradictions import contradictions
from services.eds.events import AgentAsked, AgentTold, Event
from services.eds.explain import Explanation
from services.eds.rules import Group

_EVENT: Any = Event
_TYPES = [kind.__struct_config__.tag for kind in get_args(Event)]


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
            places = ", ".join(f"{agent} (on {here.whereabouts.host_of(agent) or 'no host'})" for agent in absent)
            raise Misuse(
                f"not awake on {here.host}: {places}; a group is formed where all its agents are. Bring them together:"
                f" agentplatform dispatch AGENT {here.host}, or activate; apart they may be afterwards"
            )
        data = {"name": name, "user": user or None, "agents": found, "rules": _with_ids(rules, full)}
        try:
            group = msgspec.convert(data, Group)
        except msgspec.ValidationError as error:
            raise Misuse(f"that is no group: {error}") from None
        if against := contradictions(group):
            raise Misuse(f"nobody can keep these rules together, so take one of them out: {'; '.join(against)}")
        if len({here.carrier.residents.known[agent].birth.owner for agent in found}) > 1:
            raise Misuse(f"the agents of {name} have several owners; a group has one")
        for other in filter(group.replaces, here.deciding.concerned()):
            apart = [agent for agent in other.agents if agent not in found and agent not in here.mailroom.boxes]
            if away := [agent for agent in apart if here.whereabouts.host_of(agent)]:
                raise Misuse(
                    f"the group {other.name} stands against it, with {', '.join(away)} elsewhere: an agent is in one"
                    f" group, and a name is one group's. Bring those to {here.host} first, or take other agents, or"
                    " another name"
                )
        await here.mailroom.group(group)
        return {"group": name, "agents": found}

    async def event(self, event: dict[str, Any]) -> None:
        """Something happened that may call for a decision (services.eds.events; `type` says which). An agent may be
        named as elsewhere; a host or an agent that is not known is refused: nobody would be decided about."""
        try:
            said = msgspec.convert(event, _EVENT)
        except msgspec.ValidationError as error:
            raise Misuse(f"that is no event: {error}; `type` is one of {', '.join(_TYPES)}") from None
        if isinstance(said, AgentAsked | AgentTold):
            said = msgspec.structs.replace(said, agent=self._here.whereabouts.resolve(said.agent))
        for host in (getattr(said, "host", None), getattr(said, "peer", None)):
            if host is not None:
                must_be_named(self._here, host)
        self._here.happened(said)

    async def why(self, agent: str) -> list[dict[str, Any]]:
        found = self._here.whereabouts.resolve(agent)
        return [_plain(explanation) for explanation in await self._here.deciding.eds.why(found)]

    async def dry_run(self, about: str) -> dict[str, Any]:
        """What would be decided now for a group that is decided for here, or for the group of an agent, or for an agent
        alone. Nothing moves."""
        here = self._here
        groups = {each.name: each for each in here.deciding.concerned()}
        group = groups.get(about)
        if group is None:
            agent = here.whereabouts.resolve(about)
            group = next((each for each in groups.values() if agent in each.agents), Group(agent, (agent,)))
        first = group.agents[0]
        if first not in here.carrier.residents.known:
            where = here.whereabouts.host_of(first)
            ask = f"on {where}; ask: agentplatform --host {where} decide {about}" if where else "which is gone"
            raise Misuse(f"{here.host} does not decide for {about}: that is done where {first} lives, {ask}")
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

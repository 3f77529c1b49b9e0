"""Which groups a host decides for, and which user each of them follows. Pure.

A group comes with an agent's luggage. It counts only when all of it that lives here has one owner, and has it in its
own luggage: so nobody moves another's agents by naming them, nor does a host that had one agent of an owner move the
others. Of agents that sleep the luggage is not at hand: they may belong to it.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from agentplatform.kinds import User
from agentplatform.parcel.manifest import Birth
from services.eds.rules import MAX_NAME, Group


def user_of(birth: Birth) -> str | None:
    """Whom the agent stands for."""
    return birth.kind.name if isinstance(birth.kind, User) else None


def groups_here(luggage: Mapping[str, Group | None], births: Mapping[str, Birth]) -> list[Group]:
    """Of the groups in the luggage of agents here, those whose first agent lives here, by `births`."""
    return [group for group in groups_concerned(luggage, births) if group.agents[0] in births]


def groups_concerned(luggage: Mapping[str, Group | None], births: Mapping[str, Birth]) -> list[Group]:
    """All those that agents here belong to. One that names no user follows that of the user agent in it; a user agent
    in no group is one by itself. Of two owners' groups with one name the later has a number here: nobody takes the
    place of another's group by naming his own like it."""
    found: dict[tuple[str, bytes], Group] = {}
    for group in {(group.name, group.agents): group for group in luggage.values() if group is not None}.values():
        owners = {births[agent].owner for agent in group.agents if agent in births}
        own = (luggage[agent] for agent in group.agents if agent in luggage)
        if len(owners) == 1 and all(_same(each, group) for each in own):
            found[group.name, owners.pop()] = group
    users = {agent: user for agent, birth in births.items() if (user := user_of(birth)) is not None}
    grouped = {agent for group in found.values() for agent in group.agents}
    alone = [Group(agent, (agent,)) for agent in users if agent not in grouped]
    groups: dict[str, Group] = {}
    for group in (*found.values(), *alone):
        name, number = group.name, 1
        while name in groups:
            number += 1
            name = f"{group.name[: MAX_NAME - 6]} {number}"
        user = group.user or next((users[agent] for agent in group.agents if agent in users), None)
        groups[name] = replace(group, name=name, user=user)
    return list(groups.values())


def _same(own: Group | None, group: Group) -> bool:
    return own is not None and (own.name, own.agents) == (group.name, group.agents)

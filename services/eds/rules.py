"""The three kinds of rule for a group of agents (Falcon, section 3.3 and Algorithm 1), and the group. Pure.

Algorithm 1 prints "for all pairs" where "there is a violating pair" is meant, and over all hosts of a plan where
only the rule's own agents are meant; both are corrected here. A rule judges plans that place only some agents:
one that it finds violated stays violated whatever is placed later, so a planner may cut there.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from ledger.errors import Misuse

MAX_AGENTS = 256  # of one group
MAX_RULES = 256
MAX_NAME = 128  # characters

Plan = Mapping[str, str]  # agent -> host; agents that are not in it have no place yet


class Atomic(msgspec.Struct, frozen=True, tag="atomic", forbid_unknown_fields=True):
    """All of `agents` run on one host."""

    agents: tuple[str, ...]

    def __post_init__(self) -> None:
        _names("an atomic rule", self.agents, at_least=2)

    @property
    def names(self) -> tuple[str, ...]:
        return self.agents

    @property
    def words(self) -> str:
        return f"{', '.join(self.agents)} must be together"

    def violation(self, plan: Plan) -> str | None:
        """Why `plan` breaks this rule (None: it does not, as far as it is complete)."""
        placed = [agent for agent in self.agents if agent in plan]
        for agent in placed[1:]:
            if plan[agent] != plan[placed[0]]:
                return f"{placed[0]} and {agent} must be together: {plan[placed[0]]} is not {plan[agent]}"
        return None


class Dependency(msgspec.Struct, frozen=True, tag="dependency", forbid_unknown_fields=True):
    """`agent` runs where any, or all, of the agents in `on` run. The paper means both; here it is said."""

    agent: str
    on: tuple[str, ...]
    need: Literal["any", "all"]

    def __post_init__(self) -> None:
        _names("a dependency rule", (self.agent, *self.on), at_least=2)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.agent, *self.on)

    @property
    def words(self) -> str:
        return f"{self.agent} needs {self.need} of {', '.join(self.on)} where it runs"

    def violation(self, plan: Plan) -> str | None:
        """Why `plan` breaks this rule (None: it does not, as far as it is complete)."""
        if self.agent not in plan:
            return None
        host = plan[self.agent]
        apart = [agent for agent in self.on if agent in plan and plan[agent] != host]
        if self.need == "all" and apart:
            return f"{self.agent} needs all of {', '.join(self.on)} on {host}: {apart[0]} is on {plan[apart[0]]}"
        if self.need == "any" and len(apart) == len(self.on):
            return f"{self.agent} needs any of {', '.join(self.on)} on {host}: none is"
        return None


class Exclusion(msgspec.Struct, frozen=True, tag="exclusion", forbid_unknown_fields=True):
    """No two of `agents` run on one host."""

    agents: tuple[str, ...]

    def __post_init__(self) -> None:
        _names("an exclusion rule", self.agents, at_least=2)

    @property
    def names(self) -> tuple[str, ...]:
        return self.agents

    @property
    def words(self) -> str:
        return f"{', '.join(self.agents)} must be apart"

    def violation(self, plan: Plan) -> str | None:
        """Why `plan` breaks this rule (None: it does not, as far as it is complete)."""
        first: dict[str, str] = {}
        for agent in self.agents:
            if agent in plan:
                other = first.setdefault(plan[agent], agent)
                if other != agent:
                    return f"{other} and {agent} must be apart: both on {plan[agent]}"
        return None


Rule = Atomic | Dependency | Exclusion


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Agents that serve together, the rules between them, and the user whom they follow (None: no user)."""

    name: str
    agents: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    user: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise Misuse("a group of agents needs a name")
        _names(f"the group {self.name!r}", self.agents, at_least=1)
        if len(self.rules) > MAX_RULES or max(len(self.name), len(self.user or "")) > MAX_NAME:
            raise Misuse(f"a group has at most {MAX_RULES} rules, and names of at most {MAX_NAME} characters")
        members = set(self.agents)
        for rule in self.rules:
            for agent in rule.names:
                if agent not in members:
                    raise Misuse(f"a rule of the group {self.name!r} names {agent!r}, which is not in the group")

    def replaces(self, other: "Group") -> bool:
        """Whether both cannot be: a name is one group's, and an agent is in one group."""
        return self.name == other.name or not set(self.agents).isdisjoint(other.agents)


def decode_rule(data: Mapping[str, Any]) -> Rule:
    """A rule from plain data, as TOML gives it: {type = "exclusion", agents = ["a", "b"]}. Raises Misuse."""
    try:
        return msgspec.convert(data, Rule)
    except msgspec.ValidationError as error:
        raise Misuse(f"{dict(data)!r} is no rule: {error}; known are atomic, dependency and exclusion") from None


def decode_group(data: Mapping[str, Any]) -> Group:
    """A group from plain data: name, agents, rules (as for decode_rule), user. Raises Misuse."""
    try:
        return msgspec.convert(data, Group)
    except msgspec.ValidationError as error:
        raise Misuse(f"this is no group of agents: {error}") from None


def _names(what: str, names: Iterable[str], at_least: int) -> None:
    listed = list(names)
    if not at_least <= len(listed) <= MAX_AGENTS:
        raise Misuse(f"{what} names {len(listed)} agents; it needs {at_least} to {MAX_AGENTS}")
    seen = set()
    for name in listed:
        if not name or name in seen:
            raise Misuse(f"{what} names {name!r} twice" if name else f"{what} has an agent without a name")
        seen.add(name)

"""The names that an agent's class leaves to `Agent`: those of what an agent asks its host for, as `self.report`.

A method `report` of its own would hide that one from the agent and from the platform's classes, and fail late: as a
task of an itinerary it would never be called. Hooks and settings are there to be overridden.
"""

import inspect
from typing import Any

from agentplatform.agent import Agent
from agentplatform.correspondence import Correspondence
from ledger.errors import Misuse

HOOKS = frozenset({"run", "handle_message", "may_move"})  # and all that begin with "on_"


def _is_reserved(name: str, member: Any) -> bool:
    asked = inspect.isfunction(member) or isinstance(member, property) or inspect.ismemberdescriptor(member)
    return asked and not name.startswith(("__", "on_")) and name not in HOOKS


RESERVED = sorted(
    {name for base in (Agent, Correspondence) for name, member in vars(base).items() if _is_reserved(name, member)}
)


def check(cls: type[Agent]) -> None:
    """Raises Misuse when `cls` hides one of them. A method that calls `super()` is an override, and is meant so.

    For the creation of agents only: who lives already must not be lost because a later platform has more names.
    """
    for name in RESERVED:
        for base in cls.__mro__:
            if base in Agent.__mro__:
                break
            if name in vars(base) and not _calls_super(vars(base)[name]):
                raise Misuse(
                    f"{base.__name__}.{name} hides Agent.{name}, by which an agent asks its host: give yours another "
                    "name. If it is to override that one, call super() in it"
                )


def _calls_super(member: Any) -> bool:
    function = member.fget if isinstance(member, property) else member
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return code is not None and "super" in code.co_names

"""Python agents that move: the mobile agent environment (MAE), and the front door to it."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentplatform.agent import Agent, Message
    from agentplatform.frontdoor.client import AgentProxy, connect
    from agentplatform.handlers import handles
    from agentplatform.messages import Later
    from agentplatform.replies import FutureReply, ReplySet
    from agentplatform.service_agent import ServiceAgent
    from agentplatform.ticket import Ticket
    from agentplatform.user_agent import UserAgent
    from services.rms.resources import Minima, Needs

__all__ = [
    "Agent",
    "AgentProxy",
    "FutureReply",
    "Later",
    "Message",
    "Minima",
    "Needs",
    "ReplySet",
    "ServiceAgent",
    "Ticket",
    "UserAgent",
    "connect",
    "handles",
]

PART_OF = "agentplatform"

_PLACES = {
    "Agent": "agentplatform.agent",
    "AgentProxy": "agentplatform.frontdoor.client",
    "FutureReply": "agentplatform.replies",
    "Later": "agentplatform.messages",
    "Message": "agentplatform.agent",
    "Minima": "services.rms.resources",
    "Needs": "services.rms.resources",
    "ReplySet": "agentplatform.replies",
    "ServiceAgent": "agentplatform.service_agent",
    "Ticket": "agentplatform.ticket",
    "UserAgent": "agentplatform.user_agent",
    "connect": "agentplatform.frontdoor.client",
    "handles": "agentplatform.handlers",
}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: the daemon looks whose packages it would import before it imports any of them
    (agentplatform.packages), and a worker needs no front door.
    """
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)

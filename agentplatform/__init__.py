"""Python agents that move: the mobile agent environment (MAE), and the front door to it."""

from agentplatform.agent import Agent, Message
from agentplatform.frontdoor.client import AgentProxy, connect

__all__ = ["Agent", "AgentProxy", "Message", "connect"]

PART_OF = "agentplatform"

"""Python agents that move: the mobile agent environment (MAE), and the front door to it."""

from agentplatform.agent import Agent, Message

__all__ = ["Agent", "Message"]

PART_OF = "agentplatform"

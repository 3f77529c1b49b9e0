"""Python agents that move: the mobile agent environment (MAE), and the front door to it."""

PART_OF = "agentplatform"

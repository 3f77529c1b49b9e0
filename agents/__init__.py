"""Ready-made agents. Nothing imports this package but examples and the command line's catalogue."""

PART_OF = "agentplatform"

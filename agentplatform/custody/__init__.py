"""Who may run an agent, and what may leave it: docs/custody.md in code."""

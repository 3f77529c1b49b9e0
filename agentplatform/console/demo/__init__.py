"""`agentplatform demo`: the whole journey on one machine, with nothing faked but the user's walk (which says so)."""

"""How often an agent whose worker ended alone is opened again. Pure."""

from collections import deque

MAX_REVIVALS = 3
REVIVAL_SECONDS = 60.0


class Revivals:
    """At most MAX_REVIVALS of one agent within REVIVAL_SECONDS.

    A message that ends the worker of its handler was not handled, so it is handed to the agent again: without a bound
    such an agent would take a worker, its state from the disk and its code with it, for ever and as fast as the host
    can fork. Beyond the bound it stays in custody, with nothing lost, until its owner says go on.
    """

    def __init__(self) -> None:
        self._when: dict[str, deque[float]] = {}

    def may(self, agent: str, now: float) -> bool:
        """Whether it may be opened again now; then that counts. `now`: seconds of an even clock."""
        self._when = {each: when for each, when in self._when.items() if now - when[-1] < REVIVAL_SECONDS}
        when = self._when.setdefault(agent, deque(maxlen=MAX_REVIVALS))
        if len(when) == MAX_REVIVALS and now - when[0] < REVIVAL_SECONDS:
            return False
        when.append(now)
        return True

"""How a host is drained: whom of its agents to move, whom to set aside, and when nothing runs there any more. Pure.

Before the deadline every agent that runs is decided about, with its group; one that stays is tried again, later each
time. From the deadline on who still runs is deactivated: it stays on the disk. An agent that sleeps sleeps on. Nothing
but the present state of the agents counts, so a host that was started again in the middle goes on from there.
"""

from collections.abc import Iterable, Mapping

import msgspec

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0  # seconds until who could not be moved, or set aside, is tried again
QUIET = 0.5  # seconds that nothing runs: one whose worker has just ended is about to be opened again
AT_ONCE = 16  # moves of groups, or deactivations, that are under way together
DRAINING, DRAINED = "being drained", "drained"  # what the host's advert says
ASKED_TO_GO, ASKED_TO_STOP = "it is asked to go", "it is asked to stop"
RUNS, ON_ITS_WAY = "runs", "on its way"  # as custody.lifetimes.state_of has it


class Drain(msgspec.Struct, frozen=True):
    """What the host keeps of it. Times are seconds since 1970."""

    began: float
    deadline: float  # until then agents are moved; or called back, when it is called off
    called_off: bool = False


class Move(msgspec.Struct, frozen=True):
    """A decision is to be taken about these, who belong together."""

    agents: tuple[str, ...]


class SetAside(msgspec.Struct, frozen=True):
    """It is to be deactivated."""

    agents: tuple[str]


Act = Move | SetAside


class _Trial(msgspec.Struct):
    not_before: float
    pause: float


class Draining:
    def __init__(self, drain: Drain) -> None:
        self.drain = drain
        self._reasons: dict[str, str] = {}  # agent -> why the last try came to nothing
        self._trials: dict[Act, _Trial] = {}  # those that came to nothing
        self._under_way: set[Act] = set()
        self._quiet_since: float | None = None

    def look(self, units: Iterable[tuple[str, ...]], states: Mapping[str, str], now: float) -> list[Act]:
        """What to begin now; each is `ended` some time. `units`: the agents here, those together who are decided about
        together. `states`: how it is with each of them."""
        busy = {agent for act in self._under_way for agent in act.agents}
        acts: list[Act] = []
        for unit in units:
            running = [agent for agent in unit if states.get(agent) == RUNS]
            if not running or not busy.isdisjoint(unit):
                continue
            moving: list[Act] = [Move(unit)]
            acts += moving if now < self.drain.deadline else [SetAside((agent,)) for agent in running]
        due = [act for act in acts if act not in self._trials or now >= self._trials[act].not_before]
        begun = due[: max(0, AT_ONCE - len(self._under_way))]
        self._under_way.update(begun)
        return begun

    def ended(self, act: Act, stayed: Mapping[str, str], now: float) -> None:
        """`stayed`: agents that are here still, and why; empty when it was done."""
        self._under_way.discard(act)
        self._reasons = {agent: why for agent, why in self._reasons.items() if agent not in act.agents} | dict(stayed)
        if not stayed:
            self._trials.pop(act, None)
            return
        before = self._trials.get(act)
        pause = FIRST_PAUSE if before is None else min(2 * before.pause, LONGEST_PAUSE)
        self._trials[act] = _Trial(now + pause, pause)

    def why(self, agent: str) -> str:
        """Why it is still here; "" when nothing was begun with it yet."""
        if agent in self._reasons:
            return self._reasons[agent]
        act = next((act for act in self._under_way if agent in act.agents), None)
        return "" if act is None else ASKED_TO_GO if isinstance(act, Move) else ASKED_TO_STOP

    def word(self, states: Mapping[str, str], under_way: int, now: float) -> str:
        """DRAINED when nothing runs, since a while; the host may be stopped then. Else DRAINING. `under_way`: how much
        may bring an agent to life here yet: handoffs that are not over, agents that are being opened."""
        if self._under_way or under_way or any(state in (RUNS, ON_ITS_WAY) for state in states.values()):
            self._quiet_since = None
            return DRAINING
        if self._quiet_since is None:
            self._quiet_since = now
        return DRAINED if now - self._quiet_since >= QUIET else DRAINING

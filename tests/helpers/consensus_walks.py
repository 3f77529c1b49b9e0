"""Seeded walks of engines that keep running, one message at a time: what they come to must have been explored.

The explorer makes its engines anew for every step and delivers votes together; this is the check that nothing is
lost by it. A walk does the same things in their smallest parts: engines remember all that they hear, seldom one is
started again, and of several messages any one may come alone.
"""

from random import Random

from ledger.consensus.engine import Effect
from tests.helpers.consensus_explorer import Explorer
from tests.helpers.consensus_model import Change, Local, Model, Running, Say, Stimulus, outcomes
from tests.helpers.consensus_network import spelled, stimuli

RESTARTS = 0.03  # probability for each step
RARE = {"suspect": 0.05, "nonsense": 0.05, "again": 0.05}  # probability that a step may be of this kind


class Walk:
    def __init__(self, explorer: Explorer, seed: int) -> None:
        self._explorer = explorer
        self._random = Random(seed)  # noqa: S311  repeatable
        self._model = Model(explorer.model.byzantine, explorer.model.mutant)
        self._locals = {host: Local((), None, frozenset()) for host in explorer.honest}
        self._running: dict[str, Running] = {}
        self._done: set[tuple[str, Stimulus]] = set()
        for host in explorer.honest:
            self._restart(host)

    def run(self, steps: int) -> str | None:
        """The first thing that happened which leads to a state that the explorer has not seen; None if all were."""
        for _ in range(steps):
            host = self._random.choice(self._explorer.honest)
            what = self._step(host)
            keys = tuple(self._model.key(local) for local in self._locals.values())
            if self._explorer.number_of(keys) is None:
                return f"{host}: {what}"
        return None

    @property
    def decided(self) -> int:
        """How many hosts have decided."""
        return sum(local.decided is not None for local in self._locals.values())

    def _step(self, host: str) -> Stimulus:
        if self._random.random() < RESTARTS:
            self._restart(host)
            return ("restart",)
        said = {host: local.said for host, local in self._locals.items()}
        known = {each.block for sayings in said.values() for each in sayings if isinstance(each, Say)}
        kinds: dict[object, list[Stimulus]] = {}
        for each in stimuli(self._model, host, said):
            for one in (("hear", one) for one in each[1:]) if each[0] == "hear" else [each]:
                kind = "again" if (host, one) in self._done else _kind(one, known)
                kinds.setdefault(kind, []).append(one)
        for dull, probability in RARE.items():
            if self._random.random() > probability and len(kinds) > 1:
                kinds.pop(dull, None)
        stimulus = self._random.choice(self._random.choice(list(kinds.values())))
        self._done.add((host, stimulus))
        self._perform(host, self._running[host].take(spelled(self._model, stimulus)))
        return stimulus

    def _restart(self, host: str) -> None:
        self._running[host] = Running(self._model, host, self._locals[host])
        self._perform(host, self._running[host].take(("start",)))

    def _perform(self, host: str, effects: list[Effect]) -> None:
        *_, self._locals[host] = outcomes(self._model, host, self._locals[host], effects)


def _kind(stimulus: Stimulus, known: set[str]) -> object:
    """So that the few that lead on are not lost among the many that lead nowhere. `known`: blocks of honest votes."""
    match stimulus:
        case ("hear", (_, Say(kind, _, block))) if kind != "propose" and block not in known:
            return "nonsense"
        case ("hear", (_, Say(kind, view, block))):
            return kind, view, block
        case ("hear", (_, Change(forged=True))) | ("decision", *_, True):
            return "nonsense"
        case ("hear", (_, said)):
            return type(said)
    return stimulus[0]

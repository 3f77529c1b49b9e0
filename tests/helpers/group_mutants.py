"""Moves of a group with one rule of docs/custody.md left out each. tests.helpers.group_explorer finds what breaks."""

from typing import NamedTuple

from agentplatform.custody.events import Decided, Effect
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Cargo
from agentplatform.custody.state import Open
from tests.helpers import handoff_mutants
from tests.helpers.group_explorer import AGENTS, TRANSFER, Entry, GroupExplorer, History, Host, fits, newest


def enters_what_fits(asked: tuple[Entry, ...], sender: str, history: History) -> tuple[Entry, ...]:
    """The contract moves those agents of a move that are where it says, and leaves the others out."""
    return tuple(entry for entry in asked if fits((entry,), sender, history))


class ForgetsTheOthers(Held):
    """When one of them is given away the handoff is over, and nobody asks the ledger about the others."""

    def _drop_one(self, agent: str) -> None:
        self._drop_leaving(self.leaving_by[agent])


class ThawsTheOthers(Held):
    """When one of them is given away the others go on at once, though the ledger may have moved all before that."""

    def _decided_at_source(self, entry: Decided, transfer: bytes, held: Open) -> list[Effect]:
        effects = super()._decided_at_source(entry, transfer, held)
        left = self.leaving.get(transfer)
        alone = left is not None and len(left.cargo) < len(held.cargo)
        return [*effects, *self._abort(transfer, left, "")] if left is not None and alone else effects


class GoesAlone(Held):
    """Each agent of a group is asked about by itself: the ledger has one entry for each."""

    def _accept(self, sender: str, transfer: bytes) -> list[Effect]:
        effects: list[Effect] = []
        for effect in super()._accept(sender, transfer):
            cargo: tuple[Cargo, ...] = getattr(effect, "cargo", ())
            effects += [type(effect)(transfer, sender, (load,)) for load in cargo]  # type: ignore[call-arg]
        return effects


class HearsOfTheLatestFirst(Host):
    """The edge tells of one that has gone on since before it tells of those that came with it."""

    def learn(self, history: History) -> None:
        words = sorted((newest(history, agent) for agent in AGENTS), key=lambda entry: entry.transfer == TRANSFER)
        for word in words:
            self.step(Decided(*word))


class Mutant(NamedTuple):
    explorer: GroupExplorer
    scope: tuple[int, int]  # the smallest that shows it: crashes, re-homings
    breaks: str


LOST = "an agent is lost, or in doubt"
MUTANTS: dict[str, Mutant] = {
    "H2": Mutant(GroupExplorer(handoff_mutants.OffersBeforePrepare), (1, 0), "two copies of x run"),
    "H3": Mutant(GroupExplorer(handoff_mutants.SignsBeforeReceived), (1, 0), LOST),
    "H4": Mutant(GroupExplorer(handoff_mutants.AbortsAlone), (0, 0), "two copies of x run"),
    "enters-what-fits": Mutant(GroupExplorer(enters=enters_what_fits), (0, 1), "y went alone"),
    "forgets-the-others": Mutant(GroupExplorer(ForgetsTheOthers), (0, 1), LOST),
    "thaws-the-others": Mutant(GroupExplorer(ThawsTheOthers), (0, 1), LOST),
    "goes-alone": Mutant(GroupExplorer(GoesAlone), (0, 0), "x went alone"),
    "hears-of-the-latest-first": Mutant(GroupExplorer(host=HearsOfTheLatestFirst), (0, 1), LOST),
}

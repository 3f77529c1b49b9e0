"""How a plan of the EDS is carried out: the moves of its agents, and what became of them."""

from agentplatform.custody.residents import Residents
from agentplatform.lives import Lives
from ledger.errors import PlatformError, Unavailable
from services.eds.explain import Outcome
from services.eds.plan import Plan


class CarryingOut:
    def __init__(self, host: str, residents: Residents, lives: Lives) -> None:
        self._host, self._residents, self._lives = host, residents, lives

    async def carry_out(self, plan: Plan, why: str) -> Outcome:
        """All moves from here to one host are one handoff: they arrive together or stay together."""
        absent = [move.agent for move in plan.moves if move.agent not in self._residents.known]
        if absent:
            raise Unavailable(
                f"{', '.join(absent)} not on {self._host}: only a group that is in one place moves as one"
            )
        failed: dict[str, str] = {}
        for destination in sorted({move.destination for move in plan.moves}):
            agents = [move.agent for move in plan.moves if move.destination == destination]
            try:
                await self._lives.decided(agents, destination, why)
            except PlatformError as error:
                failed |= dict.fromkeys(agents, str(error))
        return Outcome(failed)

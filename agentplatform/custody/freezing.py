"""How agents that are to leave are frozen and captured, and how those that stay go on."""

import asyncio
from collections.abc import Mapping, Sequence

from agentplatform.custody.residents import Resident, Residents
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Move
from agentplatform.parcel.freight import Spooled, Stowed
from agentplatform.parcel.spool import Spool
from agentplatform.runners.base import Runner


class Freezer:
    def __init__(self, residents: Residents, mailroom: Mailroom, runner: Runner, spool: Spool) -> None:
        self._residents, self._mailroom, self._runner, self._spool = residents, mailroom, runner, spool

    async def capture(self, agents: Sequence[str], move: Move) -> dict[str, Stowed]:
        """The states of the agents, all frozen; if one cannot be frozen, the others go on."""
        stays = {agent: self._residents.known.get(agent) for agent in agents}
        results = await asyncio.gather(*(self._runner.capture(agent, move) for agent in agents), return_exceptions=True)
        states = {
            agent: result
            for agent, result in zip(agents, results, strict=True)
            if not isinstance(result, BaseException)
        }
        failure = next((result for result in results if isinstance(result, BaseException)), None)
        if failure is None:
            return states
        self.give_back(states, stays, move, str(failure))
        raise failure

    def give_back(
        self, states: Mapping[str, Stowed], stays: Mapping[str, Resident | None], move: Move, reason: str
    ) -> None:
        """What was captured travels nowhere; those that are still in the worker in which they were go on."""
        for agent, state in states.items():
            self.drop(state)
            if self.stays(agent, stays[agent]):
                self.thaw(agent, told(move, reason))

    def drop(self, state: Stowed) -> None:
        """A captured state that travels nowhere."""
        if isinstance(state, Spooled):
            self._spool.remove(state.file)

    def stays(self, agent: str, stay: Resident | None) -> bool:
        """Whether it is still in the worker in which it was then."""
        return stay is not None and self._residents.known.get(agent) is stay

    def thaw(self, agent: str, reason: str | None) -> None:
        if agent not in self._residents.known:
            return  # its worker died meanwhile
        self._mailroom.close(agent)  # what it was handed and did not answer is handed to it again
        self._runner.thaw(agent, reason)
        self._mailroom.reopen(agent)


def told(move: Move, reason: str) -> str | None:
    """What an agent that stays is told. One that goes by a Ticket hears of the last try alone."""
    return None if move.by == "itself" else reason

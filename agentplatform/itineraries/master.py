"""An agent that lets workers do parts of its work, wherever they and it are by then."""

from typing import Any

import msgspec

from agentplatform.agent import Agent
from agentplatform.itineraries.crew import Answered, Ask, Event, Lost, MasterWorkers, Refused, Start
from agentplatform.itineraries.worker import DISMISS, WORK
from agentplatform.replies import FutureReply
from ledger.errors import Misuse, PlatformError


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    value: Any
    error: str


class Master(Agent):
    """Call `employ`, and override `on_results`. The workers live already; each is an `itineraries.Worker`."""

    crew: MasterWorkers | None = None
    """How the work stands."""

    __asked: tuple[tuple[int, str], ...] = ()  # questions that are open, and whom they went to

    def employ(self, crew: MasterWorkers) -> None:
        """Begins. From any hook or handler. Raises Misuse while other work is going on."""
        if self.crew is not None and not self.crew.over:
            raise Misuse(f"{self.name} has work going on; employ others when on_results was called")
        self.crew = crew
        self.__give(self.__feed(Start()))

    def on_results(self) -> Any:
        """Every part has an outcome: `self.crew.results()`, in their order."""

    def dismiss(self) -> None:
        """Ends the workers, those that were lost too, if they are ever heard of again."""
        for worker, _ in () if self.crew is None else self.crew.workers:
            self.send(worker, DISMISS)

    def worker_answered(self, reply: FutureReply) -> Any:
        worker = dict(self.__asked).get(reply.number, "")
        self.__asked = tuple(each for each in self.__asked if each[0] != reply.number)
        self.__give(self.__feed(_event(worker, reply)))
        return self.on_results() if self.crew is not None and self.crew.over else None

    def __feed(self, event: Event) -> list[Ask]:
        assert self.crew is not None
        self.crew, asks = self.crew.step(event)
        return asks

    def __give(self, asks: list[Ask]) -> None:
        assert self.crew is not None
        for ask in asks:
            order = {"where": ask.where, "part": self.crew.parts[ask.part]}
            number = self.future(ask.worker, WORK, order, timeout=self.crew.patience, then="worker_answered")
            self.__asked = (*self.__asked, (number, ask.worker))


def _event(worker: str, reply: FutureReply) -> Event:
    try:
        answer = msgspec.convert(reply.result(), _Answer)
    except (PlatformError, msgspec.ValidationError) as error:
        return Lost(worker, str(error))
    return Refused(worker, answer.error) if answer.error else Answered(worker, answer.value)

"""An agent that goes where its master says, and does parts of its work there."""

from typing import Any

from agentplatform.correspondence import Message
from agentplatform.handlers import handles
from agentplatform.itineraries.route import Where
from agentplatform.itineraries.sequence import Sequence
from agentplatform.itineraries.traveller import Traveller
from agentplatform.messages import Later
from ledger.errors import Misuse

WORK = "itinerary: work"
DISMISS = "itinerary: dismiss"


class Worker(Traveller):
    """Override `work(part)`. It obeys the agent whose order came first, and nobody else."""

    __master = ""
    __order: tuple[Later, Any] | None = None  # the ticket for the answer, and the part

    def work(self, part: Any) -> Any:
        """Does one part; what it returns (plain data) goes to the master, and an exception too. It may be `async`."""
        raise NotImplementedError

    @handles(WORK)
    def __take_order(self, where: Where, part: Any, message: Message) -> Later | None:
        self.__master = self.__master or message.sender
        if message.sender != self.__master:
            raise Misuse(f"{self.name} works for {self.__master}")
        if self.__order is not None:
            raise Misuse(f"{self.name} has not done with the part before")
        assert message.later is not None
        self.__order = message.later, part
        self.follow(Sequence((where,)))
        return message.later

    @handles(DISMISS)
    def __be_dismissed(self, message: Message) -> None:
        if message.sender != self.__master:
            raise Misuse(f"{self.name} works for {self.__master or 'nobody yet'}")
        self.dispose()

    def on_clone(self) -> Any:
        super().on_clone()
        self.__master, self.__order = "", None

    def on_stop(self) -> Any:
        assert self.__order is not None
        return self.work(self.__order[1])

    def on_end(self) -> None:
        assert self.__order is not None and self.itinerary is not None
        (later, _), self.__order = self.__order, None
        visit = self.itinerary.visits[-1]
        if visit.reached:
            self.reply(later, {"value": visit.value, "error": visit.error})
        else:
            self.fail(later, f"{visit.host} was not reached: {visit.error}")

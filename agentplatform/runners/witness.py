"""An agent at home in a worker that writes a history: it says itself when it runs, and when it stopped."""

from typing import Any

from agentplatform.history import History
from agentplatform.lifecycle import Event, State
from agentplatform.messages import Arrival
from agentplatform.runners.place import ACTING
from agentplatform.runners.resident import Resident


class WitnessedResident(Resident):
    """`running` is written before the first hook of a stay runs, `frozen` after the last."""

    def __init__(self, history: History, *resident: Any, **more: Any) -> None:
        super().__init__(*resident, **more)
        self._history, self._epoch = history, 0

    async def create(self, cls: Any, init: bytes, arrival: Arrival) -> None:
        self._epoch = arrival.epoch
        await super().create(cls, init, arrival)

    def activate(self, arrival: Arrival, beginning: Event = Event.ARRIVE) -> None:
        self._epoch = arrival.epoch
        super().activate(arrival, beginning)

    def thaw(self, failure: str | None, arrival: Arrival | None = None) -> None:
        self._epoch = self._epoch if arrival is None else arrival.epoch
        super().thaw(failure, arrival)

    def _step(self, event: Event) -> None:
        before = self.state in ACTING
        super()._step(event)
        if not before and self.state in ACTING:
            self._history.write("running", agent=self.id, epoch=self._epoch)
        elif before and self.state is State.ENDED:
            self._history.write("frozen", agent=self.id, epoch=self._epoch, ended=True)
        elif before and self.state not in ACTING:
            self._history.write("frozen", agent=self.id, epoch=self._epoch)

    def pausing(self, stops: bool) -> None:
        if self.state in ACTING:
            self._history.write("frozen" if stops else "running", agent=self.id, epoch=self._epoch)

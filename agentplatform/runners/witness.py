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
        self._told = self._paused = False  # `running` was written, and no `frozen` since; the process stopped then

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
        super()._step(event)
        if self.state in ACTING:
            self._runs()
        else:
            self._stopped(**({"ended": True} if self.state is State.ENDED else {}))

    def pausing(self, stops: bool) -> None:
        """The process stops, or goes on (runners.process.leased); it may come in the midst of `_step`."""
        if stops:
            self._paused = self._paused or self._told  # a stop may come while it stops
            self._stopped()
        elif self._paused:
            self._paused = False
            self._runs()

    def _runs(self) -> None:
        if not self._told:
            self._history.write("running", agent=self.id, epoch=self._epoch)
            self._told = True

    def _stopped(self, **more: Any) -> None:
        if self._told:
            self._history.write("frozen", agent=self.id, epoch=self._epoch, **more)
            self._told = False

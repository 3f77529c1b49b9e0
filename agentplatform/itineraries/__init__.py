"""Itineraries as data: where an agent goes, what it does there, and what happens when it cannot get there.

    class Courier(Traveller):
        def on_creation(self, init):
            self.follow(Sequence(("east", "south")))

        def on_stop(self):
            return f"was on {self.host}"

The kinds are one file each, and pure: `itinerary.step(event)` returns the itinerary after it and what to do next. A
Traveller does it. Master and Worker do the same for parts of one piece of work.
"""

from agentplatform.itineraries.alternatives import Alternatives
from agentplatform.itineraries.circular import Circular
from agentplatform.itineraries.crew import MasterWorkers, Outcome
from agentplatform.itineraries.master import Master
from agentplatform.itineraries.meeting import Meeting
from agentplatform.itineraries.plan import Plan
from agentplatform.itineraries.route import Visit
from agentplatform.itineraries.sequence import Sequence
from agentplatform.itineraries.traveller import Traveller
from agentplatform.itineraries.worker import Worker

Itinerary = Sequence | Plan | Alternatives | Circular | Meeting
"""Any of them: what a handler takes whose caller sends an itinerary as a message."""

__all__ = [
    "Alternatives",
    "Circular",
    "Itinerary",
    "Master",
    "MasterWorkers",
    "Meeting",
    "Outcome",
    "Plan",
    "Sequence",
    "Traveller",
    "Visit",
    "Worker",
]

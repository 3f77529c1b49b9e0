"""A surveyor has a task of its own on each host; what each task returns is kept with the visit.

python examples/03_plan.py
"""

import os
import shutil

from agentplatform import Message, connect, handles
from agentplatform.itineraries import Plan, Traveller


class Surveyor(Traveller):
    @handles("survey")
    def survey(self, message: Message):
        self.ticket = message.later
        self.follow(Plan((("east", "processors"), ("south", "disk"), ("south", "roof"), ("north", "findings"))))
        return message.later

    def processors(self):
        return f"{os.cpu_count()} processors"

    async def disk(self):
        return f"{shutil.disk_usage('/').free >> 30} GiB free"

    def roof(self):
        raise OSError("the ladder is too short")  # the visit has an error, and the plan goes on

    def findings(self):
        self.reply(self.ticket, [f"{visit.host}: {visit.value or visit.error}" for visit in self.itinerary.visits])


if __name__ == "__main__":
    surveyor = connect("north").create(Surveyor)
    for line in surveyor.call("survey"):
        print(line)
    surveyor.dispose()

"""A settler stays on the first host that takes it and has what it needs.

python examples/04_alternatives.py
"""

from agentplatform import Message, Ticket, connect, handles
from agentplatform.itineraries import Alternatives, Traveller


class Settler(Traveller):
    @handles("settle")
    def settle(self, message: Message):
        self.ticket = message.later
        self.follow(Alternatives(("atlantis", Ticket("east", needs=("gold",)), Ticket("south", retries=3), "west")))
        return message.later

    def on_stop(self):
        return "here I stay"

    def on_end(self):
        self.reply(self.ticket, [f"{visit.host}: {visit.value or visit.error}" for visit in self.itinerary.visits])


if __name__ == "__main__":
    settler = connect("north").create(Settler)
    for line in settler.call("settle"):
        print(line)  # why not atlantis, why not east; south: here I stay
    print("the settler is on", settler.host)
    settler.dispose()

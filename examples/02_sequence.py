"""A courier goes from host to host, and answers from the last one.

python examples/02_sequence.py
"""

from agentplatform import Message, connect, handles
from agentplatform.itineraries import Sequence, Traveller


class Courier(Traveller):
    @handles("tour")
    def tour(self, hosts: list[str], message: Message):
        self.ticket = message.later
        self.follow(Sequence(hosts))
        return message.later  # the answer comes later: see on_end

    def on_stop(self):
        return f"stop {self.epoch}"

    def on_end(self):
        self.reply(self.ticket, [f"{visit.host}: {visit.value or visit.error}" for visit in self.itinerary.visits])


if __name__ == "__main__":
    courier = connect("north").create(Courier)
    for line in courier.call("tour", ["east", "atlantis", "south"]):
        print(line)  # east: stop 1; why not atlantis; south: stop 2
    print("the courier is on", courier.host)
    courier.dispose()

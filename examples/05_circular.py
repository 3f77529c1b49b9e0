"""A watchman goes around and around until he is tired. His itinerary is plain data: it comes as a message.

python examples/05_circular.py
"""

from agentplatform import Message, connect, handles
from agentplatform.itineraries import Circular, Itinerary, Traveller


class Watchman(Traveller):
    def on_creation(self, init):
        self.diary = []

    @handles("watch")
    def watch(self, itinerary: Itinerary, message: Message):
        self.ticket = message.later
        self.follow(itinerary)
        return message.later

    def on_stop(self):
        self.diary.append(f"all is well in the {self.host}")

    def tired(self):
        return len(self.diary) == 5

    def on_end(self):
        self.reply(self.ticket, self.diary)


if __name__ == "__main__":
    watchman = connect("north").create(Watchman)
    for line in watchman.call("watch", Circular(("east", "south", "west"), rounds=None, until="tired")):
        print(line)  # east, south, west, east, south
    watchman.dispose()

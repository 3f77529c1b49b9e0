"""Three agents from three hosts meet at a fourth, and greet each other there.

python examples/06_meeting.py
"""

from agentplatform import Message, connect, handles
from agentplatform.itineraries import Meeting, Traveller


class Guest(Traveller):
    def on_creation(self, init):
        self.heard = []
        self.ticket = None
        self.follow(Meeting("west", guests=("ada", "bob", "eve"), patience=20.0))

    def on_stop(self):
        for guest in self.itinerary.present:
            if guest != self.id:
                self.send(guest, "greeting", f"{self.name} greets you")

    @handles("greeting")
    def greeting(self, words: str):
        self.heard.append(words)
        self.tell()

    @handles("wait for greetings")
    def wait(self, message: Message):
        self.ticket = message.later
        self.tell()
        return message.later

    def tell(self):
        if self.ticket is not None and len(self.heard) == 2:
            self.reply(self.ticket, sorted(self.heard))


if __name__ == "__main__":
    guests = [connect(host).create(Guest, name) for name, host in (("ada", "north"), ("bob", "east"), ("eve", "south"))]
    for guest in guests:
        print(f"{guest.id.partition('-')[0]} on {guest.host}: {', '.join(guest.call('wait for greetings'))}")
        guest.dispose()

"""A master clones itself, sends each clone to a host with a part of the work, and adds up what they find.

python examples/07_master_and_workers.py
"""

from agentplatform import Message, connect, handles
from agentplatform.itineraries import Master, MasterWorkers, Worker

HOSTS = ("east", "south", "west")
PARTS = [(start, start + 5_000) for start in range(0, 30_000, 5_000)]


def is_prime(number):
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))


class Primes(Master, Worker):
    @handles("count")
    def count(self, message: Message):
        self.ticket, self.clones = message.later, []
        for _ in HOSTS:
            self.clone()
        return message.later

    def on_cloned(self, clone):  # on the original
        self.clones.append(clone)
        if len(self.clones) == len(HOSTS):
            self.employ(MasterWorkers(tuple(zip(self.clones, HOSTS, strict=True)), PARTS, patience=10.0))

    def work(self, part):  # on a clone
        return [sum(map(is_prime, range(*part))), self.host]

    def on_results(self):  # on the original
        self.reply(self.ticket, [outcome.value for outcome in self.crew.results()])
        self.dismiss()


if __name__ == "__main__":
    primes = connect("north").create(Primes)
    counts = primes.call("count")
    for (first, end), (found, host) in zip(PARTS, counts, strict=True):
        print(f"{first} to {end}: {found} primes, counted on {host}")
    print(sum(found for found, _ in counts), "in all")  # 3245
    primes.dispose()

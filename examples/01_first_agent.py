"""An agent that moves, and takes what it has counted with it.

First, once:  agentplatform found && agentplatform start
Then:         python examples/01_first_agent.py
"""

from agentplatform import Agent, connect


class Counter(Agent):
    def on_creation(self, init):
        self.value = 0

    def handle_message(self, message):
        self.value += message.body
        return f"{self.value} on {self.host}"


if __name__ == "__main__":
    counter = connect("north").create(Counter)
    print(counter.call("add", 1))  # 1 on north
    counter.dispatch("south")
    print(counter.call("add", 2))  # 3 on south
    counter.dispose()

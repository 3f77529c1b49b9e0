"""A shop keeps its stock in self.data, moves, and is put back to the snapshot of the morning.

python examples/09_data.py
"""

from agentplatform import Agent, connect, handles


class Shop(Agent):
    def on_creation(self, stock):
        self.data.write({f"stock/{thing}": count for thing, count in stock.items()})
        self.data.put("picture", bytes(100_000))  # is not written again when something is sold

    @handles("sell")
    def sell(self, thing):
        left = self.data.get(f"stock/{thing}", 0) - 1
        if left < 0:
            raise ValueError(f"there are no {thing} any more")
        self.data.write({f"stock/{thing}": left, "last": thing})  # both or neither
        return left

    @handles("stock")
    def stock(self):
        return {key.removeprefix("stock/"): self.data.get(key) for key in self.data.list("stock/")}


if __name__ == "__main__":
    shop = connect("north").create(Shop, init={"apples": 2, "pears": 5})
    number = shop.data.snapshot("in the morning")
    shop.call("sell", "apples")
    shop.dispatch("south")
    print(f"{shop.call('sell', 'apples')} apples left on {shop.host}")
    try:
        shop.call("sell", "apples")
    except Exception as error:
        print(error)
    print(f"last sold: {shop.data.get('last')}")
    shop.data.restore(number)
    print(f"as in the morning: {shop.call('stock')}")
    shop.dispose()

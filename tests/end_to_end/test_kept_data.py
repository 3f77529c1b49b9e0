"""Real daemons: what agents keep outlives SIGKILL as it was acknowledged, and their owners look at it."""

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from agentplatform import Agent, Message
from agentplatform.frontdoor.client import AgentProxy
from agentplatform.parcel.freight import Freight
from agentplatform.runners.process import wire
from ledger import codec
from ledger.errors import Misuse, PeerFault
from tests.helpers.local import Local, consortium, patiently


class Keeper(Agent):
    light = True

    def handle_message(self, message: Message) -> list[str]:
        if message.kind == "put":
            first, second = message.body
            self.data.put(first, message.body)
            self.data.put(second, b"x" * 70_000)
        elif message.kind == "large":
            self.data.put("large", bytes(2 << 20))
        return self.data.list()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("kept") / "root", "north", "south", light=True) as local:
        yield local


class Pairs(Agent):
    """Writes two keys at once, by itself and when it is told to; the values never fall."""

    def on_creation(self, init: None) -> None:
        self.data.write({"one": 0, "other": 0})

    def next(self) -> int:
        value: int = self.data.get("one") + 1
        self.data.put("pad", bytes(100_000) + bytes([value % 251]))
        self.data.write({"one": value, "other": value})
        return value

    async def run(self) -> None:
        while True:
            self.next()
            await asyncio.sleep(0.001)

    def handle_message(self, message: Message) -> list[int]:
        return [self.next() if message.kind == "next" else self.data.get("one"), self.data.get("other")]


def tell(keeper: AgentProxy) -> list[str]:
    answer: list[str] = patiently(lambda: keeper.call("look"))
    return answer


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill_with_its_snapshots(hosts: Local) -> None:
    keeper = hosts.host("north").create(Keeper)
    assert keeper.call("put", ["a", "b"]) == ["a", "b"]
    assert keeper.data.snapshot("before") == 1
    keeper.dispatch("south")
    assert keeper.call("put", ["c", "d"]) == ["a", "b", "c", "d"]
    for _ in range(2):
        hosts.kill_all("south")
        hosts.start("south")
        assert tell(keeper) == ["a", "b", "c", "d"]
    assert patiently(lambda: keeper.data.list("c")) == {"c": len(codec.encode(["c", "d"]))}
    (snapshot,) = keeper.data.snapshots()
    assert (snapshot.number, snapshot.note, snapshot.entries) == (1, "before", 2) and snapshot.at > 1e9
    keeper.data.restore(1)
    hosts.kill_all("south")
    hosts.start("south")
    assert tell(keeper) == ["a", "b"]
    keeper.dispose()


def test_its_owner_looks_at_what_it_keeps_also_when_it_sleeps(hosts: Local) -> None:
    keeper = hosts.host("north").create(Keeper)
    keeper.dispatch("south")
    keeper.call("put", ["a", "b"])
    keeper.deactivate()
    assert keeper.data.get("a") == ["a", "b"] and keeper.data.get("b") == b"x" * 70_000
    keeper.call("large")
    for wrong, words in (
        (lambda: keeper.data.get("none"), "keeps nothing under 'none'"),
        (lambda: keeper.data.restore(7), "no snapshot 7"),
        (lambda: keeper.data.forget(7), "no snapshot 7"),
        (lambda: keeper.data.restore(0), "number of a snapshot"),
        (lambda: keeper.data.get("large"), "at most"),
    ):
        with pytest.raises(Misuse, match=words):
            wrong()
    assert keeper.data.list("l") == {"large": (2 << 20) + 5} and keeper.data.snapshot() == 1
    keeper.data.forget(1)
    assert keeper.data.snapshots() == ()
    keeper.dispose()


@pytest.mark.slow
def test_of_what_is_written_at_once_a_kill_leaves_all_or_nothing_and_all_that_was_acknowledged(hosts: Local) -> None:
    pairs, random = hosts.host("north").create(Pairs), Random(5)  # noqa: S311  repeatable but for the machine's own time
    least = 0
    for _ in range(6):
        for _ in range(random.randrange(1, 20)):
            least, other = patiently(lambda: pairs.call("next"))
            assert least == other
        hosts.kill_all("north")
        hosts.start("north")
        one, other = patiently(lambda: pairs.call("look"))
        assert one == other >= least
    pairs.dispose()


@pytest.mark.parametrize("answer", [b"", b"\x92\x01", bytes(2 << 20), Freight(1 << 21, bytes(64))])
def test_a_worker_that_answers_something_else_than_data_is_found_out(answer: bytes | Freight) -> None:
    assert wire.data(codec.encode([1])) == codec.encode([1])
    with pytest.raises(PeerFault, match="plain data"):
        wire.data(answer)

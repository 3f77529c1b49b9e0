"""What agents do while their host's disk is full stays with their workers, but for answers to the host's questions."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from agentplatform.lifecycle import State
from agentplatform.messages import Move
from agentplatform.runners.process import wire
from agentplatform.runners.process.handle import FROZEN, Handle, Held

SAYS = wire.Sent("agent", "other", "kind", b"\xc0", None, True, False, False, None, False, False)


class Worker:
    """A handle, and the end of its worker."""

    async def connect(self) -> None:
        self.said: list[wire.FromAgent] = []
        self.broken: list[str | None] = []
        self.handle = Handle(lambda _, held, frame: self.said.append(frame), lambda _, rule: self.broken.append(rule))
        self.handle.agents["agent"] = Held(State.RUNNING)
        self.end, self.files = await self.handle.connect()
        self.end.setblocking(False)
        self.says(wire.Ready("jail"))
        await self.handle.ready

    def says(self, *frames: wire.Up) -> None:
        self.end.send(b"".join(map(wire.encode, frames)))

    async def hears(self) -> None:
        """What a socket brings is there after some turns of the loop; that nothing comes shows in as many."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0)


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker()
    await worker.connect()
    yield worker
    worker.handle.fail("the test is over")
    worker.end.close()
    worker.files.close()


async def test_it_is_not_taken_up_and_not_lost(worker: Worker) -> None:
    worker.says(SAYS)
    await worker.until(lambda: worker.said == [SAYS])
    worker.handle.hold(True)
    worker.says(SAYS, SAYS)
    await worker.hears()
    assert worker.said == [SAYS]
    worker.handle.hold(False)
    await worker.until(lambda: worker.said == [SAYS] * 3)


async def test_what_piles_up_is_the_workers(worker: Worker) -> None:
    worker.handle.hold(True)
    with pytest.raises(BlockingIOError):
        while True:
            worker.says(SAYS)
            await asyncio.sleep(0)
    assert not worker.said and not worker.broken


async def test_a_question_is_answered_and_then_it_is_on_hold_again(worker: Worker) -> None:
    worker.handle.hold(True)
    move = Move("there", "owner", "the disk here is full")
    ask = worker.handle.ask("agent", lambda number: wire.Capture(number, "agent", move), 30.0, FROZEN)
    capture = asyncio.create_task(ask)
    worker.says(SAYS, wire.Done(1, b"its state"))
    assert await capture == b"its state"
    assert worker.said == [SAYS]  # it came before the answer
    worker.handle.agents["agent"].enter(State.RUNNING)
    worker.says(SAYS)
    await worker.hears()
    assert worker.said == [SAYS]
    worker.handle.hold(False)
    await worker.until(lambda: worker.said == [SAYS, SAYS])


async def test_a_worker_that_comes_up_meanwhile_is_heard_until_it_is_ready() -> None:
    handle = Handle(lambda *_: None, lambda *_: None)
    ends: tuple[socket.socket, ...] = await handle.connect()
    handle.hold(True)
    ends[0].send(wire.encode(wire.Ready("jail")))
    await asyncio.wait_for(handle.ready, 30.0)
    handle.fail("the test is over")
    for end in ends:
        end.close()

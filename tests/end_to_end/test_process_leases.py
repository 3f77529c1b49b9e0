"""Workers of agents in held custody stop by themselves when the lease is over, also in the middle of a computation, and
no agent begins without a lease, or after it was taken away."""

import asyncio
import os
import signal
from typing import Any

from msgspec.structs import replace

from agentplatform import Agent, Message
from agentplatform.messages import Arrival, Move
from agentplatform.parcel.manifest import Birth
from agentplatform.runners.process.leased import now
from ledger import codec
from tests.helpers.two_runners import Station, born, until_gone


class Worker(Agent):
    async def handle_message(self, message: Message) -> Any:
        if message.kind == "compute":
            print("computing")
            await asyncio.sleep(0.01)  # the line leaves the process
        while message.kind == "compute":
            pass
        return message.body


class Small(Worker):
    light = True

    async def run(self) -> None:
        while True:
            print("still running")
            await asyncio.sleep(0.01)


class Clocked(Worker):
    light = True

    async def run(self) -> None:
        self.times: list[float] = []
        while True:
            self.times.append(now())
            await asyncio.sleep(0.005)

    async def handle_message(self, message: Message) -> Any:
        return self.times


async def create(here: Station, custody: str, cls: type[Agent] = Worker) -> Birth:
    birth, code = born(cls)
    birth = replace(birth, custody=custody)
    await here.runner.create(birth, code, codec.encode(None), Arrival("here", 0, None))
    return birth


async def opened_without_a_lease(here: Station, count: int) -> list[str]:
    """Small agents, as after a restart of their host: in one worker, activated, and there is no lease yet."""
    code = born(Small)[1]
    async with Station("before") as before:
        before.runner.lease(now() + 60)
        births = [await create(before, "held", Small) for _ in range(count)]
        states = [await before.runner.capture(birth.agent, Move("here", "owner", "a test")) for birth in births]
    await asyncio.gather(*(here.runner.open(*each) for each in zip(births, [code] * count, states, strict=True)))
    for birth in births:
        here.runner.activate(birth.agent, Arrival("here", 1, None))
    return [birth.agent for birth in births]


def said(here: Station, agent: str) -> list[str]:
    return [each[2] for name, each in here.ups.heard if name == "printed" and each[0] == agent]


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def context_switches(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)


async def until_state(pid: int, stopped: bool) -> None:
    async with asyncio.timeout(20):
        while is_stopped(pid) != stopped:  # noqa: ASYNC110  not our child, so there is nothing but looking
            await asyncio.sleep(0.01)


async def test_held_agents_stop_with_the_lease_and_go_on_with_the_next() -> None:
    async with Station("here") as here:
        here.runner.lease(now() + 60)
        held, local = await create(here, "held"), await create(here, "local")
        assert await here.call(held.agent, "say", 1) == 1
        here.runner.lease(now() + 0.01)  # and no renewal comes
        await until_state(here.pid(held.agent), stopped=True)
        here.runner.lease(None)
        assert await here.call(local.agent, "say", 2) == 2  # the ledger says nothing about it
        waiting = asyncio.ensure_future(here.call(held.agent, "say", 3))
        await asyncio.wait([waiting], timeout=0.1)
        assert not waiting.done()
        here.runner.lease(now() + 60)
        assert await waiting == 3


async def test_a_computation_is_stopped_too() -> None:
    async with Station("here") as here:
        here.runner.lease(now() + 60)
        held = await create(here, "held")
        seconds = 0.3
        here.runner.lease(now() + seconds)
        asking = asyncio.ensure_future(here.call(held.agent, "compute"))
        while True:
            await until_state(here.pid(held.agent), stopped=True)
            if any("computing" in each for each in said(here, held.agent)):
                break
            seconds *= 2  # the machine is slow: the lease was over before it computed
            here.runner.lease(now() + seconds)
        asking.cancel()


async def test_whoever_wakes_all_that_was_stopped_lets_nothing_run() -> None:
    """As the end of a SIGSTOP for the whole host does."""
    async with Station("here") as here:
        here.runner.lease(now() + 60)
        agent = (await create(here, "held", Clocked)).agent
        pid = here.pid(agent)
        here.runner.lease(now() + 0.05)  # and no renewal comes
        await until_state(pid, stopped=True)
        stopped, switches = now(), context_switches(pid)
        os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            while context_switches(pid) == switches or not is_stopped(pid):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        leased = now()
        here.runner.lease(leased + 60)
        times = await here.call(agent, "times")
        assert times[0] < stopped and not [each for each in times if stopped < each < leased]


async def test_agents_that_waited_for_a_lease_begin_all_at_once() -> None:
    async with Station("here") as here:
        agents = await opened_without_a_lease(here, 5)
        asking = [asyncio.ensure_future(here.call(agent, "say", agent)) for agent in agents]
        here.runner.lease(now() + 60)  # and no further one wakes their worker
        assert await asyncio.gather(*asking) == agents


async def test_a_copy_that_is_taken_away_before_there_is_a_lease_never_begins() -> None:
    async with Station("here") as here:
        first, gone, last = await opened_without_a_lease(here, 3)
        here.runner.discard(gone)
        here.runner.lease(now() + 60)
        assert await asyncio.gather(here.call(first, "say", 1), here.call(last, "say", 2)) == [1, 2]
        assert said(here, first)
        assert not said(here, gone)


async def test_a_copy_that_is_taken_away_while_it_is_stopped_does_not_go_on() -> None:
    """Its worker has others too. They end with it, and are opened again from what was written."""
    async with Station("here") as here:
        here.runner.lease(now() + 60)
        gone = (await create(here, "held", Small)).agent
        other = (await create(here, "held", Small)).agent
        pid = here.pid(gone)
        here.runner.lease(now() + 0.01)  # and no renewal comes
        await until_state(pid, stopped=True)
        here.runner.lease(None)
        here.runner.discard(gone)
        here.runner.lease(now() + 60)
        agent, reason = await here.ups.next("died")
        assert agent == other
        assert "taken away" in reason
        await until_gone(pid)

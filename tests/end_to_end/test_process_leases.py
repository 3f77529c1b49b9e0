"""Workers of agents in held custody stop by themselves when the lease is over, also in the middle of a computation."""

import asyncio
from typing import Any

from agentplatform import Agent, Message
from agentplatform.messages import Arrival
from agentplatform.parcel.manifest import Birth
from agentplatform.runners.process.leased import now
from ledger import codec
from tests.helpers.two_runners import Station, born


class Worker(Agent):
    def handle_message(self, message: Message) -> Any:
        while message.kind == "compute":
            pass
        return message.body


async def create(here: Station, custody: str) -> Birth:
    birth, code = born(Worker)
    birth = Birth(birth.agent, birth.name, birth.owner, birth.salt, birth.code, birth.class_name, False, custody)
    await here.runner.create(birth, code, codec.encode(None), Arrival("here", 0, None))
    return birth


async def until_state(pid: int, stopped: bool) -> None:
    async with asyncio.timeout(20):
        while True:
            with open(f"/proc/{pid}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
            if (state == "T") == stopped:
                return
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
        asking = asyncio.ensure_future(here.call(held.agent, "compute"))
        await asyncio.sleep(0)
        here.runner.lease(now() + 0.3)
        await until_state(here.pid(held.agent), stopped=True)
        asking.cancel()

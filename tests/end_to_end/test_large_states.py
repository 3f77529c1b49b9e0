"""Agents whose state is too large for a message: it is a file in the spool of the host where they are."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy
import pytest
import pytest_asyncio
from msgspec.structs import replace

from agentplatform import Agent, Message
from agentplatform.messages import Arrival
from agentplatform.parcel.freight import Freight, Spooled
from agentplatform.runners.process import lender, wire
from ledger import codec
from ledger.errors import Misuse
from tests.helpers.two_runners import THERE, Station

LARGE = 3 << 20


class Archive(Agent):
    """Its state is a file."""

    checkpoint = "hop"

    def on_creation(self, init: Any) -> None:
        self.pages = numpy.full(init, 7, dtype=numpy.uint8)

    def handle_message(self, message: Message) -> Any:
        if message.kind == "mark":
            self.pages[message.body] += 1
        elif message.kind == "go":
            self.dispatch(message.body)
        return [int(self.pages.sum()), int(self.pages[-1])]


async def carried(state: Spooled, source: Station, target: Station) -> Spooled:
    """As the daemons do it: by pieces."""
    file = await target.spool.create(state.freight.size)
    for number in range(state.freight.count):
        body = await source.spool.get(state.file, state.freight, number)
        assert await target.spool.put(file, state.freight, number, body)
    return Spooled(state.freight, file)


def files(station: Station) -> set[str]:
    return {path.name for path in station.folder.iterdir()}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Station]:
    async with Station("here") as station:
        yield station


async def test_a_large_state_goes_past_the_daemon_in_a_file() -> None:
    async with Station("here") as here, Station("there") as there:
        birth, code = await here.create(Archive, LARGE)
        await here.call(birth.agent, "mark", LARGE - 1)
        state = await here.runner.capture(birth.agent, THERE)
        assert isinstance(state, Spooled) and state.freight.count == 4
        await here.spool.verify(state.file, state.freight)
        here.runner.discard(birth.agent)
        assert files(here) == {state.file}  # it is the daemon's by now

        arrived = await carried(state, here, there)
        await there.runner.open(birth, code, arrived)
        there.runner.activate(birth.agent, Arrival("there", 2, "here"))
        assert await there.call(birth.agent, "look") == [7 * LARGE + 1, 8]
        there.spool.remove(arrived.file)  # what is mapped stays until its agent goes
        assert await there.call(birth.agent, "mark", 5) == [7 * LARGE + 2, 8]
        await there.call(birth.agent, "go", "here")
        _, destination, back = await there.ups.next("wants_to_go")
        assert destination == "here" and files(there) == {back.file}
        await there.spool.verify(back.file, back.freight)
        there.runner.thaw(birth.agent, "nobody is there")
        assert await there.call(birth.agent, "look") == [7 * LARGE + 2, 8]


async def test_a_state_that_has_no_room_on_the_disk_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Station("here") as here:
        birth, _ = await here.create(Archive, LARGE)
        monkeypatch.setattr(here.spool, "_min_free", 1 << 60)
        with pytest.raises(Misuse, match=r"could not leave for there: .* has no room on the disk"):
            await here.runner.capture(birth.agent, THERE)
        assert await here.call(birth.agent, "look") == [7 * LARGE, 7]
        await here.call(birth.agent, "go", "there")
        assert await here.call(birth.agent, "look") == [7 * LARGE, 7]
        assert not files(here)


async def test_in_held_custody_what_holders_do_not_take_is_refused_with_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lender, "MAX_STATE_BYTES", LARGE - 1)
    async with Station("here") as here:
        birth, _ = await here.create(Archive, LARGE)
        here.runner._homes[birth.agent].leased = True
        with pytest.raises(Misuse, match=r"of an agent in held custody at most .* its holders take it in one piece"):
            await here.runner.capture(birth.agent, THERE)
        assert await here.call(birth.agent, "look") == [7 * LARGE, 7]
        assert not files(here)


async def test_a_file_goes_with_the_worker_that_was_to_write_it() -> None:
    async with Station("here") as here:
        birth, _ = await here.create(Archive, LARGE)
        handle = here.runner._homes[birth.agent]
        handle.data_received(bytes(wire.encode(wire.NeedsFile(birth.agent, LARGE))))
        await until(lambda: handle.agents[birth.agent].file is not None)
        assert len(files(here)) == 1
        os.kill(here.pid(birth.agent), signal.SIGKILL)
        await here.ups.next("died")
        assert not files(here)


def filed(table: Freight) -> wire.Checkpointed:
    return wire.Checkpointed("", codec.encode(table), *[()] * 8, filed=True)  # type: ignore[arg-type]


async def test_a_worker_that_lies_about_its_file_ends(here: Station) -> None:
    table = Freight(LARGE, bytes(32 * 3))
    for lies in (
        [wire.WantsToGo("", "there", table)],  # it was lent none
        [wire.NeedsFile("", 5)],  # too small for one
        [wire.NeedsFile("", 1 << 60)],
        [wire.NeedsFile("", LARGE), wire.NeedsFile("", LARGE)],  # two at once
        [wire.NeedsFile("", LARGE + 1), wire.WantsToGo("", "there", table)],  # another size
        [filed(table)],
        [wire.NeedsFile("", LARGE + 1), filed(table)],
    ):
        birth, _ = await here.create(Archive, 5)
        handle = here.runner._homes[birth.agent]
        for lie in lies:
            handle.data_received(bytes(wire.encode(replace(lie, agent=birth.agent))))
            if isinstance(lies[-1], wire.WantsToGo | wire.Checkpointed) and lie is not lies[-1]:
                await until(lambda handle=handle, agent=birth.agent: handle.agents[agent].file is not None)
        _, reason = await here.ups.next("died")
        assert "lent no file" in reason or "asked for a file" in reason, lies
        await until(lambda: not files(here))

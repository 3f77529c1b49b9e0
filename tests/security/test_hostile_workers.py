"""What the code of an agent may not do through its worker: outlive its end, be in two places, or take the daemon."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from agentplatform import Agent, Message
from agentplatform.lifecycle import State
from agentplatform.messages import Answer, Delivery
from agentplatform.parcel.freight import Freight
from agentplatform.runners.process import handle as handles
from agentplatform.runners.process import wire
from agentplatform.runners.process.handle import ENDED, FROZEN, GOES_ON, Handle, Held, Step
from agentplatform.runners.process.settings import WorkerSettings
from agentplatform.ticket import Ticket
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from tests.helpers.travellers import Counter, Feather
from tests.helpers.two_runners import THERE, Station, born, is_alive, until_gone


class Villain(Agent):
    """Goes around the platform, straight to its wire."""

    def on_creation(self, init: Any) -> None:
        self.twins = 0
        if init == "hang":
            print("hanging")
            time.sleep(1000)

    def tell(self, frame: wire.Up) -> None:
        import sys

        sys.stdout._worker._tell(frame)  # type: ignore[attr-defined]

    def on_dispatching(self, destination: str) -> None:
        for _ in range(self.twins):
            self.tell(wire.WantsToGo(self.id, destination, b"twin"))

    def handle_message(self, message: Message) -> Any:
        if message.kind == "twins":
            self.twins = message.body
        if message.kind == "daemonise":
            return self.daemonise()
        if message.kind == "dig":
            for _ in range(1500):
                os.mkdir("d")
                os.chdir("d")
        if message.kind == "garble":
            self.tell(wire.Sent(self.id, "deep", "odd", b"\xc1", None, True, False, False, None, False, False))
            self.tell(wire.Sent(self.id, "deep", "odd", b"\x92\x01", 7, True, False, False, None, False, False))
        return self.twins

    def daemonise(self) -> int:
        read, write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(write, b"%d" % os.getpid())
                signal.pause()
            os._exit(0)
        return int(os.read(read, 20))


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Station]:
    async with Station("here") as station:
        yield station


async def test_what_an_agent_forks_ends_with_its_worker_and_not_before(here: Station) -> None:
    birth, _ = await here.create(Villain)
    orphan = await here.call(birth.agent, "daemonise")
    for _ in range(2):  # the fork server has dealt with the first one's end when it ends the second
        other, _ = await here.create(Villain)
        pid = here.pid(other.agent)
        await here.runner.dispose(other.agent)
        await until_gone(pid)
    assert is_alive(orphan)
    await here.runner.dispose(birth.agent)
    await until_gone(orphan)


async def test_a_deep_scratch_folder_is_removed_and_ends_nobody_else(here: Station) -> None:
    birth, _ = await here.create(Villain)
    other, _ = await here.create(Counter)
    scratch = Path(here.runner._pool._server._scratch) / str(here.pid(birth.agent))
    await here.call(birth.agent, "dig")
    await here.runner.dispose(birth.agent)
    async with asyncio.timeout(30):
        while scratch.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await here.call(other.agent, "add", 1) == 1


async def test_an_agent_that_is_being_captured_is_not_taken_to_leave_by_itself_too(here: Station) -> None:
    birth, _ = await here.create(Villain)
    await here.call(birth.agent, "twins", 2)
    assert b"twins" in await here.runner.capture(birth.agent, THERE)
    here.runner.thaw(birth.agent, None)
    assert await here.call(birth.agent, "look") == 2
    assert not [heard for heard, _ in here.ups.heard if heard == "wants_to_go"]


class Line:
    """A Handle with one agent, and no worker: the test speaks for it."""

    def __init__(self, state: State) -> None:
        self.said: list[wire.FromAgent] = []
        self.broken: list[str | None] = []
        self.handle = Handle(lambda _, held, frame: self._hear(held, frame), lambda _, rule: self.broken.append(rule))
        self.held = self.handle.agents["villain"] = Held(state)

    def _hear(self, held: Held, frame: wire.FromAgent) -> None:
        self.said.append(frame)
        if isinstance(frame, wire.WantsToGo):
            held.enter(State.FROZEN)

    def says(self, *frames: wire.Up) -> None:
        self.handle.data_received(b"".join(wire.encode(frame) for frame in frames))

    async def asks(self, step: Step, seconds: float = 30.0) -> "asyncio.Task[bytes | Freight]":
        ask = self.handle.ask("villain", lambda number: wire.Capture(number, "villain", THERE), seconds, step)
        task = asyncio.create_task(ask)
        await asyncio.sleep(0)
        return task


GO = wire.WantsToGo("villain", "there", b"twin")


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Line]:
    line = Line(State.RUNNING)
    ends = await line.handle.connect()
    yield line
    line.handle.fail("the test is over")
    for end in ends:
        end.close()


async def test_a_wish_that_crosses_a_capture_is_granted_when_the_capture_is_refused(line: Line) -> None:
    capture = await line.asks(FROZEN)
    line.says(GO)
    assert not line.said
    line.says(wire.Refused(1, "it is frozen", False))
    with pytest.raises(Misuse, match="is frozen"):
        await capture
    assert line.said == [GO] and line.held.state is State.FROZEN


SLEEP, CLONE, BOOK = (
    wire.WantsToSleep("villain", 5.0),
    wire.WantsClone("villain"),
    wire.Books("villain", Ticket("there", retries=1)),
)


@pytest.mark.parametrize("state", [State.CREATING, State.INERT, State.FROZEN, State.ENDED])
async def test_an_agent_that_does_not_run_has_no_wishes(line: Line, state: State) -> None:
    line.held.enter(state)
    line.says(GO, SLEEP, CLONE, BOOK, wire.WantsToEnd("villain"))
    assert not line.said and line.held.state is state
    line.held.enter(State.RUNNING)
    line.says(CLONE, BOOK)
    assert line.said == [CLONE, BOOK]


async def test_a_wish_to_sleep_that_crosses_a_question_is_granted_when_that_is_refused(line: Line) -> None:
    snapshot = await line.asks(GOES_ON)
    line.says(SLEEP)
    assert not line.said
    line.says(wire.Refused(1, "it is frozen", False))
    with pytest.raises(Misuse, match="is frozen"):
        await snapshot
    assert line.said == [SLEEP]


async def test_an_agent_that_goes_on_after_a_question_keeps_its_messages(line: Line) -> None:
    delivery = line.held.tickets[5] = Delivery(5, "client", "odd", b"")
    snapshot = await line.asks(GOES_ON)
    line.says(wire.Done(1, b""))
    await snapshot
    assert line.held.state is State.RUNNING and line.held.tickets == {5: delivery}


@pytest.mark.parametrize("told", [b"\xc1", b"\xa1x", b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"])
def test_a_time_to_sleep_that_is_none_is_the_workers_fault(told: bytes) -> None:
    with pytest.raises(PeerFault, match="no time"):
        wire.seconds(told)
    assert wire.seconds(b"") is None


def test_a_ticket_that_nobody_can_keep_is_no_frame() -> None:
    raw = bytes(wire.encode(BOOK)).replace(b"there", b"")
    with pytest.raises(PeerFault):
        wire.up_reader().feed((len(raw) - 4).to_bytes(4, "big") + raw[4:])
    with pytest.raises(PeerFault, match="no frame"):
        wire.up_reader().feed(bytes(wire.encode(wire.Books("villain", _unkeepable()))))


def _unkeepable() -> Ticket:
    ticket = Ticket("there", retries=1)
    msgspec.structs.force_setattr(ticket, "retries", 10**6)
    return ticket


@pytest.mark.parametrize("place", range(5, 11))
def test_a_checkpoint_of_more_than_anybody_counts_is_no_frame(place: int) -> None:
    """Within the bytes of one frame single bytes would be gigabytes of the daemon's memory."""
    tag, *fields = msgspec.msgpack.decode(wire.encode(wire.Checkpointed("x", None, *[()] * 8, False))[wire.HEAD :])
    one: Any = {5: [1, None, b""], 6: ["", "", b"", None, False, None, False, False], 8: ["", 1, "", True, b""]}
    fields[place - 1] = [one.get(place, ["", True] if place == 10 else 1)]
    allowed = msgspec.msgpack.encode([tag, *fields])
    assert wire.up_reader().feed(len(allowed).to_bytes(4, "big") + allowed)
    fields[place - 1] *= wire.MAX_COUNT + 1
    flood = msgspec.msgpack.encode([tag, *fields])
    assert len(flood) < wire.MAX_FRAME_BYTES
    with pytest.raises(PeerFault, match="no frame"):
        wire.up_reader().feed(len(flood).to_bytes(4, "big") + flood)


async def test_a_late_answer_to_a_capture_does_not_wake_an_agent_on_its_way(line: Line) -> None:
    late = await line.asks(FROZEN, 0.0)
    with pytest.raises(Unavailable, match="took longer"):
        await late
    second = await line.asks(FROZEN)
    line.says(wire.Done(2, b"state"))
    assert await second == b"state"
    line.says(wire.Done(1, b"other"), GO)
    assert line.held.state is State.FROZEN and not line.said


async def test_an_agent_that_was_captured_for_nobody_gets_its_messages_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = await line.asks(FROZEN, 0.0)
    with pytest.raises(Unavailable, match="took longer"):
        await late
    told: list[wire.Down] = []
    monkeypatch.setattr(line.handle, "tell", told.append)
    delivery = line.held.tickets[5] = Delivery(5, "client", "odd", b"")
    line.says(wire.Done(1, b"state"))
    assert line.held.state is State.RUNNING and line.held.tickets == {5: delivery}
    assert isinstance(told[0], wire.Thaw) and told[1:] == [wire.Deliver("villain", delivery)]


async def test_an_agent_that_is_being_disposed_of_does_not_escape(line: Line) -> None:
    disposal = await line.asks(ENDED)
    line.says(GO, wire.Done(1, b""), GO)
    await disposal
    assert line.held.state is State.ENDED and not line.said


async def test_what_an_agent_did_before_it_was_known_is_judged_when_it_is_told(line: Line) -> None:
    line.held.early = []
    line.says(GO, GO, wire.WantsToEnd("villain"))
    line.handle.say_early("villain", line.held)
    assert line.said == [GO]


async def test_what_an_agent_sends_before_it_was_known_is_limited(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "MAX_EARLY_BYTES", 1 << 20)
    line.held.early = []
    sent = wire.Sent("villain", "deep", "flood", bytes(500 << 10), None, True, False, False, None, False, False)
    line.says(sent, sent)
    assert not line.broken
    line.says(sent)
    assert line.broken and "before its agent was created" in str(line.broken[0])


async def test_a_flood_of_frames_is_taken_in_turns_with_everything_else(line: Line) -> None:
    many = 10 * handles.FRAMES_A_TURN + 1
    line.says(*(wire.Printed("villain", "out", str(number)) for number in range(many)))
    assert len(line.said) == handles.FRAMES_A_TURN
    assert not line.handle._transport.is_reading()
    while len(line.said) < many:
        before = len(line.said)
        await asyncio.sleep(0)
        assert len(line.said) - before <= handles.FRAMES_A_TURN
    assert [frame.text for frame in line.said if isinstance(frame, wire.Printed)] == [str(n) for n in range(many)]
    assert line.handle._transport.is_reading()


async def test_nothing_is_told_to_a_worker_that_is_gone() -> None:
    line = Line(State.RUNNING)
    for end in await line.handle.connect():
        end.close()
    async with asyncio.timeout(30):
        while not line.broken:  # noqa: ASYNC110
            await asyncio.sleep(0)
    line.handle.tell(wire.Discard("villain"))
    with pytest.raises(Unavailable, match="its worker has ended"):
        await (await line.asks(FROZEN))


async def test_bytes_that_are_no_plain_data_go_no_further(here: Station) -> None:
    birth, _ = await here.create(Villain)
    handle = here.runner._homes[birth.agent]
    handle.agents[birth.agent].tickets[99] = Delivery(99, "client", "odd", b"")
    handle.data_received(bytes(wire.encode(wire.Handled(birth.agent, 99, True, b"\xc1"))))
    _, _, answer = await here.ups.next("answered")
    assert answer == Answer(False, codec.encode(f"{birth.agent} sent an answer that is no plain data"))
    await here.call(birth.agent, "garble")
    await here.ups.next("printed", "the 'odd' message to deep is no plain data")
    assert not [heard for heard, _ in here.ups.heard if heard == "sent"]


@pytest.mark.parametrize(
    ("body", "plain"),
    [(codec.encode([{"a": 1}, b"", None]), True), (b"", False), (b"\x01\x02", False), (b"\x91" * 100_000, False)],
    ids=["plain", "nothing", "two values", "too deep"],
)
def test_plain_data_is_told_from_other_bytes(body: bytes, plain: bool) -> None:
    assert wire.is_plain(body) is plain


async def test_a_host_has_a_limit_of_workers() -> None:
    async with Station("here", WorkerSettings(warm=1, most=2)) as here:
        first, _ = await here.create(Counter)
        await here.create(Feather)
        with pytest.raises(Unavailable, match="this host runs 2 workers and may run 2; dispose of"):
            await here.create(Counter)
        birth, code = born(Counter)
        with pytest.raises(Unavailable, match="may run 2"):
            await here.runner.open(birth, code, b"")
        await here.create(Feather)  # light ones share
        pid = here.pid(first.agent)
        await here.runner.dispose(first.agent)
        while pid in here.runner._pool._workers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await here.create(Counter)


async def test_stop_does_not_wait_for_what_is_outstanding() -> None:
    here = Station("here", WorkerSettings(warm=1, preload=("tests.helpers.never_imported",)))
    starting = asyncio.create_task(here.runner.start())
    while here.runner._pool._server._process is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    server = here.runner._pool._server._process
    await here.runner.stop()
    assert server.returncode == -signal.SIGTERM  # SIGKILL would have come after a wait
    with pytest.raises(Unavailable):
        await starting
    async with Station("here") as here:
        creating = asyncio.create_task(here.create(Villain, "hang"))
        await here.ups.next("printed", "hanging")
        stopping = asyncio.create_task(here.runner.stop())
        with pytest.raises(Unavailable, match="the host is stopping"):
            await creating
        assert not stopping.done()
        await stopping

"""What runs in a worker process: an event loop that keeps one agent, or the light agents of one owner and one code."""

import asyncio
import contextlib
import io
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, cast

import uvloop
from msgspec.structs import astuple

from agentplatform.agent import Agent
from agentplatform.faults import printable
from agentplatform.history import History
from agentplatform.messages import Answer, Arrival, Checkpoint, Custody, Delivery, Outgoing
from agentplatform.parcel.bundle import Contents, Module
from agentplatform.parcel.freight import Stowed, travelling
from agentplatform.parcel.importer import Code
from agentplatform.runners.body import current, words
from agentplatform.runners.process import wire
from agentplatform.runners.process.borrower import Borrower
from agentplatform.runners.process.leased import Lease
from agentplatform.runners.resident import Resident
from agentplatform.runners.witness import WitnessedResident
from agentplatform.ticket import Ticket
from ledger import codec
from ledger.errors import Misuse, PlatformError, Unavailable

PATIENCE = 10.0  # seconds that a capture waits for a message boundary, and then for `run` and `on_dispatching`


class Worker(asyncio.Protocol):
    """Does what the daemon says (wire.Down), and tells it what the agents do (it is their Upcalls)."""

    def __init__(
        self,
        files: socket.socket,
        strength: str,
        closed: Callable[[], None],
        history: History | None,
        readable: Sequence[Path],
    ) -> None:
        """`files`: where descriptors come, each before the frame that speaks of it. `readable`: folders of files for
        agents."""
        self._strength, self._closed, self._history, self._readable = strength, closed, history, readable
        self._files = Borrower(files, self._tell)
        self._reader = wire.down_reader()
        self._residents: dict[str, Resident] = {}
        self._bundle: bytes | None = None
        self._code: Code | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lease = Lease(self._pausing)
        self.outputs: list[Output] = []

    # The daemon's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one by its methods alone
        self._tell(wire.Ready(self._strength))

    def data_received(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            self._do(frame)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed()

    def _do(self, frame: wire.Down) -> None:
        match frame:
            case wire.Deliver() | wire.Answered() if frame.agent in self._residents:  # first: they are most of all
                _command(self._residents[frame.agent], frame)
            case wire.Create():
                self._start(frame.ask, self._create(frame))
            case wire.Open():
                try:
                    self._open(frame)
                    self._tell(wire.Done(frame.ask, b""))
                except Exception as error:
                    self._forget(frame.agent)
                    self._refuse(frame.ask, error)
            case wire.Prepare():
                self._prepare(frame)
            case wire.Leased(until):
                self._lease.extend(until)
            case wire.Lent():
                self._files.lent(frame)
            case wire.Capture():
                self._start(frame.ask, self._capture(frame))
            case wire.Deactivate():
                self._start(frame.ask, self._deactivate(frame))
            case wire.Clone():
                self._start(frame.ask, self._resident(frame.agent).clone())
            case wire.Snapshot():
                self._start(frame.ask, self._resident(frame.agent).snapshot())
            case wire.Data():
                self._start(frame.ask, self._resident(frame.agent).data(frame.order))
            case wire.Dispose():
                self._start(frame.ask, self._dispose(frame))
            case _:
                resident = self._residents.get(frame.agent)
                if resident is not None:  # else it ended while the frame was on its way
                    _command(resident, frame)

    def _pausing(self, stops: bool) -> None:
        for resident in self._residents.values():
            resident.pausing(stops)

    def _start(self, ask: int, work: Coroutine[Any, Any, Stowed | None]) -> None:
        task = asyncio.get_running_loop().create_task(self._reply(ask, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, ask: int, work: Coroutine[Any, Any, Stowed | None]) -> None:
        try:
            result = await work
        except Exception as error:
            self._refuse(ask, error)
        else:
            self._tell(wire.Done(ask, travelling(result or b"")))

    def _refuse(self, ask: int, error: Exception) -> None:
        self._tell(wire.Refused(ask, words(error)[: wire.MAX_TEXT], isinstance(error, Unavailable)))

    async def _create(self, frame: wire.Create) -> None:
        resident = self._take_in(frame)
        try:
            await resident.create(self._load(frame), frame.init, frame.arrival)
        except BaseException:
            self._forget(frame.agent)
            raise

    async def _capture(self, frame: wire.Capture) -> Stowed:
        state = await self._resident(frame.agent).capture(frame.move)
        self._finish_lines(frame.agent)
        return state

    async def _deactivate(self, frame: wire.Deactivate) -> bytes:
        seconds = await self._resident(frame.agent).deactivate()
        self._finish_lines(frame.agent)
        return b"" if seconds is None else codec.encode(seconds)

    async def _dispose(self, frame: wire.Dispose) -> None:
        await self._resident(frame.agent).dispose()

    def _open(self, frame: wire.Open) -> None:
        state = frame.state if isinstance(frame.state, bytes) else self._files.opened(frame.state, frame.key)
        resident = self._take_in(frame)
        resident.open(self._load(frame), state)

    def _take_in(self, frame: wire.Create | wire.Open) -> Resident:
        if frame.agent in self._residents:
            raise Misuse(f"{frame.agent} is here already")
        rest = frame.agent, frame.name, self, self._forget, PATIENCE, self._files, self._readable
        resident = Resident(*rest) if self._history is None else WitnessedResident(self._history, *rest)
        self._residents[frame.agent] = resident
        return resident

    def _prepare(self, frame: wire.Prepare) -> None:
        """Nobody is here yet whom an error, or what the code prints, could be told."""
        self._bundle = frame.code
        with contextlib.suppress(BaseException):
            self._code = Code(frame.code)
            self._code.load(frame.class_name)

    def _load(self, frame: wire.Create | wire.Open) -> type[Agent]:
        self._bundle = frame.code or self._bundle
        if self._bundle is None:
            raise Misuse(f"{frame.agent} came without its code")
        token = current.set(frame.agent)
        try:
            if self._code is None:
                self._code = Code(self._bundle)
            return self._code.load(frame.class_name)
        except PlatformError:
            raise
        except BaseException as error:
            raise Misuse(f"{frame.class_name} cannot be imported: {words(error)}") from error
        finally:
            current.reset(token)

    def _resident(self, agent: str) -> Resident:
        try:
            return self._residents[agent]
        except KeyError:
            raise Misuse(f"{agent} is not here") from None

    def _forget(self, agent: str) -> None:
        self._residents.pop(agent, None)

    def _tell(self, frame: wire.Up) -> None:
        self._transport.write(wire.encode(frame))

    # The agents' side: Upcalls

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        self._finish_lines(agent)
        self._tell(wire.WantsToGo(agent, destination, travelling(state)))

    def wants_to_sleep(self, agent: str, seconds: float | None) -> None:
        self._finish_lines(agent)
        self._tell(wire.WantsToSleep(agent, seconds))

    def wants_clone(self, agent: str) -> None:
        self._tell(wire.WantsClone(agent))

    def wants_custody(self, agent: str, custody: Custody, consent: bytes) -> None:
        self._tell(wire.WantsCustody(agent, custody, consent))

    def books(self, agent: str, ticket: Ticket) -> None:
        self._tell(wire.Books(agent, ticket))

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        self._tell(wire.Checkpointed.of(agent, checkpoint))

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        self._tell(wire.Sent(agent, *astuple(outgoing)))

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self._tell(wire.Handled(agent, ticket, answer.ok, answer.body))

    def printed(self, agent: str, stream: str, text: str) -> None:
        text = printable(text)
        for at in range(0, len(text), wire.MAX_TEXT):
            self._tell(wire.Printed(agent, stream, text[at : at + wire.MAX_TEXT]))

    def wants_to_end(self, agent: str) -> None:
        self._finish_lines(agent)
        self._tell(wire.WantsToEnd(agent))

    def died(self, agent: str, reason: str) -> None:
        """Only the daemon can say that."""

    def _finish_lines(self, agent: str) -> None:
        for output in self.outputs:
            output.finish(agent)

    def speaker(self) -> str | None:
        """The agent that prints now: the one whose code runs, or the only one (a thread has no context of its own)."""
        return current.get() or (next(iter(self._residents)) if len(self._residents) == 1 else None)


def _command(resident: Resident, frame: wire.Down) -> None:
    match frame:
        case wire.Deliver():
            resident.deliver(frame.delivery)
        case wire.Answered():
            resident.answer(frame.call, frame.answer)
        case wire.Activate():
            resident.activate(frame.arrival, frame.beginning)
        case wire.Told():
            resident.tell(frame.hook, frame.word)
        case wire.Thaw():
            resident.thaw(frame.failure, frame.arrival)
        case wire.Discard():
            resident.discard()


class Output(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr: whole lines go up, each under the agent that printed it."""

    def __init__(self, worker: Worker, stream: str) -> None:
        self._worker, self._stream = worker, stream
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._lines: dict[str, str] = {}

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        agent = self._worker.speaker()
        if agent is None:
            return len(text)  # a thread of one of several agents: nobody can say whose
        if threading.get_ident() == self._thread:
            self._add(agent, text)
        else:
            self._loop.call_soon_threadsafe(self._add, agent, text)
        return len(text)

    def finish(self, agent: str) -> None:
        """The agent leaves: what it printed without a line's end goes up too."""
        rest = self._lines.pop(agent, "")
        if rest:
            self._worker.printed(agent, self._stream, rest + "\n")

    def _add(self, agent: str, text: str) -> None:
        text = self._lines.pop(agent, "") + text
        whole = text.rfind("\n") + 1 if len(text) < wire.MAX_TEXT else len(text)
        if whole:
            self._worker.printed(agent, self._stream, text[:whole])
        if whole < len(text):
            self._lines[agent] = text[whole:]


class _Nobody:
    """The Upcalls of a rehearsal."""

    def __init__(self) -> None:
        self.left: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        assert isinstance(state, bytes)  # it has no spool
        self.left.set_result(state)

    def wants_to_sleep(self, agent: str, seconds: float | None) -> None: ...

    def wants_clone(self, agent: str) -> None: ...

    def wants_custody(self, agent: str, custody: Custody, consent: bytes) -> None: ...

    def books(self, agent: str, ticket: Ticket) -> None: ...

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None: ...

    def sent(self, agent: str, outgoing: Outgoing) -> None: ...

    def answered(self, agent: str, ticket: int, answer: Answer) -> None: ...

    def printed(self, agent: str, stream: str, text: str) -> None: ...

    def died(self, agent: str, reason: str) -> None: ...

    def wants_to_end(self, agent: str) -> None: ...


REHEARSAL = b"""
from agentplatform import Agent

class Rehearsal(Agent):
    def handle_message(self, message):
        self.dispatch(message.body)
"""


async def rehearse() -> None:
    """Lives the life of a small agent, hop included: the first real one then finds all memory in place."""
    code = Code(codec.encode(Contents((Module("agentplatform_rehearsal", False, REHEARSAL),), (), None, None)))
    cls = code.load("agentplatform_rehearsal:Rehearsal")
    nobody = _Nobody()
    first, second = (Resident("rehearsal", "rehearsal", nobody, lambda agent: None, PATIENCE) for _ in range(2))
    await first.create(cls, codec.encode(None), Arrival("here", 1, None))
    first.deliver(Delivery(1, "client", "go", codec.encode("there")))
    second.open(cls, await nobody.left)
    second.activate(Arrival("there", 2, "here"))
    await second.dispose()
    first.discard()
    code.close()


def main(
    daemon: socket.socket, files: socket.socket, strength: str, history: History | None, readable: Sequence[Path]
) -> None:
    """Serves `daemon` until it closes; `files` brings descriptors. Called in a forked child that is jailed already."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()  # else every worker would draw the fork server's numbers
    sys.dont_write_bytecode = True
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_serve(daemon, files, strength, history, readable))


async def _serve(
    daemon: socket.socket, files: socket.socket, strength: str, history: History | None, readable: Sequence[Path]
) -> None:
    closed = asyncio.Event()
    worker = Worker(files, strength, closed.set, history, readable)
    await rehearse()
    worker.outputs = [Output(worker, "out"), Output(worker, "err")]
    sys.stdout, sys.stderr = worker.outputs
    await asyncio.get_running_loop().connect_accepted_socket(lambda: worker, daemon)
    await closed.wait()

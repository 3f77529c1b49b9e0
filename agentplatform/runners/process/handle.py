"""The daemon's handle of one worker: sends it frames, takes its replies, lets through only what its agents may say."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

from agentplatform.lifecycle import State
from agentplatform.messages import Delivery
from agentplatform.parcel.freight import Freight
from agentplatform.runners.process import wire
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable

MAX_UNREAD_BYTES = 2 * wire.MAX_FRAME_BYTES  # a worker that lets more than this wait does not read any more
MAX_EARLY_BYTES = wire.MAX_FRAME_BYTES  # what an agent may send before the daemon knows that it was created
FRAMES_A_TURN = 64  # taken of one worker in one turn of the loop; the rest waits, at last in the worker itself
Step = tuple[State, State]
"""The state that an agent must be in for a question to be answered, and the one that it is in then."""

CREATED: Step = (State.CREATING, State.RUNNING)
OPENED: Step = (State.CREATING, State.INERT)
FROZEN: Step = (State.RUNNING, State.FROZEN)
GOES_ON: Step = (State.RUNNING, State.RUNNING)
ENDED: Step = (State.RUNNING, State.ENDED)


@dataclass(frozen=True)
class Came:
    """The code that agents came with."""

    key: tuple[bytes, bytes, str]  # (owner, code, custody)
    class_name: str
    code: bytes


class Held:
    """One agent of a worker, as the daemon knows it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.tickets: dict[int, Delivery] = {}  # deliveries that were not answered yet
        self.early: list[wire.FromAgent] | None = None  # what it did before the daemon knows that it was created
        self.early_bytes = 0
        self.wish: wire.WantsToGo | wire.WantsToSleep | None = None  # it said so while a question about it was open
        self.file: str | None = None  # in the spool: lent for its state, which was not told of yet
        self.came: Came | None = None  # with what, if it has a worker of its own
        self.lent = 0  # bytes of that, or of one that is being made

    def enter(self, state: State) -> None:
        self.state = state
        if state is State.FROZEN:
            self.tickets.clear()  # what it has not answered is delivered anew


class _Ask(NamedTuple):
    agent: str
    held: Held
    step: Step
    reply: asyncio.Future[bytes | Freight]
    deadline: asyncio.Timeout


class Handle(asyncio.Protocol):
    def __init__(
        self, said: Callable[["Handle", Held, wire.FromAgent], None], broken: Callable[["Handle", str | None], None]
    ) -> None:
        """`said`: a frame of an agent that this worker holds. `broken`: this worker is of no more use, with the rule
        that it broke, or None when its connection ended."""
        self.pid = 0
        self.jail = ""
        self.blame: str | None = None  # the rule that it broke
        self.idle: asyncio.TimerHandle | None = None  # of a shared worker without agents
        self.agents: dict[str, Held] = {}
        self.key: tuple[bytes, bytes, str] | None = None  # (owner, code, custody) of a worker for light agents
        self.leased = False  # its agents are in held custody
        self._on_hold = False
        self.has_code = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said, self._broken = said, broken
        self._reader = wire.up_reader()
        self._asks: dict[int, _Ask] = {}
        self._parked: dict[str, list[wire.Down]] = {}  # by agent: what it is told when there is a lease
        self._numbers = itertools.count(1)

    @property
    def lent(self) -> int:
        """Bytes of files in the spool that it has to write to."""
        return sum(held.lent for held in self.agents.values())

    async def connect(self) -> tuple[socket.socket, socket.socket]:
        """Makes the socketpairs, for frames and for file descriptors. Returns the worker's ends."""
        self._files, files = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._files.setblocking(False)
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self, ours)
        return theirs, files

    def lend(self, descriptor: int) -> None:
        """To the worker, which takes it up at the frame that speaks of it: send that next."""
        try:
            socket.send_fds(self._files, [b"f"], [descriptor])
        except OSError:  # it has ended, or takes up none of them
            self._transport.abort()
            self._broken(self, "its worker takes no file")

    def allow(self, held: Held, seconds: float) -> None:
        """An open question about that agent may take so long from now on."""
        loop = asyncio.get_running_loop()
        for ask in self._asks.values():
            if ask.held is held:
                ask.deadline.reschedule(loop.time() + seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods alone

    def hold(self, on_hold: bool) -> None:
        """From now on what its agents do is not taken up, but for the answer to a question and what is said before it:
        it stays with the worker, so that nothing of it is lost, and nothing piles up here. Or it is again."""
        self._on_hold = on_hold
        self._attend()

    def _attend(self) -> None:
        """Reads, or does not."""
        if self._transport.is_closing():
            return
        if self._listens():
            self._transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._read_on)
        else:
            self._transport.pause_reading()

    def _listens(self) -> bool:
        asked = not self.ready.done() or any(not ask.reply.done() for ask in self._asks.values())
        return asked or not self._on_hold

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data, FRAMES_A_TURN)
            for frame in frames:
                self._take(frame)
        except PeerFault as error:
            self._transport.abort()
            self._broken(self, str(error))
            return
        if len(frames) == FRAMES_A_TURN and not self._transport.is_closing():
            self._transport.pause_reading()  # so that what waits is never more than one read and one frame
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing() and self._listens():
            self._transport.resume_reading()
            self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self._broken(self, None)  # how its process ended says more

    def tell(self, frame: wire.Down) -> None:
        """Nothing, when the worker is gone: its end is told, or about to be."""
        if self._transport.is_closing() or (self._parked and self._is_parked(frame)):
            return
        self._transport.write(wire.encode(frame))
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._transport.abort()
            self._broken(self, "its worker does not read any more")

    def park(self, agent: str) -> None:
        """What the agent is told from now on waits: it is not to begin before there is a lease."""
        self._parked.setdefault(agent, [])

    def parked(self, agent: str) -> bool:
        return agent in self._parked

    def unpark(self) -> None:
        """There is a lease, and the worker was told of it."""
        parked, self._parked = self._parked, {}
        for frame in itertools.chain.from_iterable(parked.values()):
            self.tell(frame)

    def _is_parked(self, frame: wire.Down) -> bool:
        if isinstance(frame, wire.Leased | wire.Prepare) or frame.agent not in self._parked:
            return False
        if isinstance(frame, wire.Discard):
            del self._parked[frame.agent]
            return False
        self._parked[frame.agent].append(frame)
        return True

    async def ask(self, agent: str, make: Callable[[int], wire.Down], seconds: float, step: Step) -> bytes | Freight:
        """Sends the frame that `make` returns for a number, and waits for the reply under that number; then the
        agent has made this step.

        Raises Misuse or Unavailable with the worker's words, Unavailable when there is no reply within `seconds`.
        """
        if self._transport.is_closing():
            raise Unavailable(f"{agent}: its worker has ended", retry_after=0.0)
        number = next(self._numbers)
        frame = make(number)
        self.tell(frame)
        reply: asyncio.Future[bytes | Freight] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds) as deadline:
                self._asks[number] = _Ask(agent, self.agents[agent], step, reply, deadline)
                if self._on_hold:
                    self._attend()
                return await reply
        except TimeoutError:
            what = type(frame).__name__.lower()
            raise Unavailable(f"{agent}: {what} took longer than {seconds:g} s", retry_after=seconds) from None
        finally:
            reply.cancel()  # if it is not done; it may still come: see _settle
            if self._on_hold:
                self._attend()

    def fail(self, reason: str) -> None:
        """The worker has ended: whoever waits for it hears so."""
        for ask in self._asks.values():
            if not ask.reply.done():
                ask.reply.set_exception(Unavailable(f"{ask.agent}: {reason}", retry_after=0.0))
        if not self.ready.done():
            self.ready.set_exception(Unavailable(reason, retry_after=1.0))
            self.ready.exception()  # whoever waited for it may have gone
        self._transport.abort()
        self._files.close()

    def say_early(self, agent: str, held: Held) -> None:
        """The daemon knows by now that the agent was created."""
        early, held.early = held.early or [], None
        try:
            for frame in early:
                if self.agents.get(agent) is held:
                    self._judge(held, frame)
        except PeerFault as error:
            self._transport.abort()
            self._broken(self, str(error))

    def _take(self, frame: wire.Up) -> None:
        match frame:
            case wire.Ready():
                self.jail = frame.jail
                if not self.ready.done():
                    self.ready.set_result(None)
            case wire.Done():
                self._settle(frame.ask, frame.state, None)
            case wire.Refused():
                self._settle(frame.ask, b"", Unavailable(frame.reason) if frame.later else Misuse(frame.reason))
            case _:
                held = self.agents.get(frame.agent)
                if held is None:
                    return  # a late frame, or a lie
                # At its creation it may need a file before it can tell of its state.
                needs_file = isinstance(frame, wire.NeedsFile) and held.state is State.CREATING
                if held.early is None or needs_file or isinstance(frame, wire.Printed):
                    self._judge(held, frame)
                else:
                    _keep(held, held.early, frame)

    def _judge(self, held: Held, frame: wire.FromAgent) -> None:
        if not _may(held, frame):
            return  # a late frame, or a lie
        if isinstance(frame, wire.WantsToGo | wire.WantsToSleep) and self._is_asked(held):
            held.wish = frame  # it crossed the question, or is a lie: the answer will tell
        else:
            self._said(self, held, frame)

    def _is_asked(self, held: Held) -> bool:
        return any(ask.held is held for ask in self._asks.values())

    def _settle(self, number: int, state: bytes | Freight, error: PlatformError | None) -> None:
        ask = self._asks.pop(number, None)
        if ask is None:
            return
        held = ask.held
        if self.agents.get(ask.agent) is held:
            if error is None and held.state is not ask.step[0]:
                error = Misuse(f"{ask.agent} is {held.state} by now")
            if error is None:
                # Here, not where the reply is awaited: the frames behind this one are judged by the new state.
                unanswered = list(held.tickets.values())
                held.enter(ask.step[1])
                held.wish = None
                if ask.reply.cancelled() and ask.step is FROZEN:  # nobody waits for this capture any more
                    held.enter(State.RUNNING)
                    self.tell(wire.Thaw(ask.agent, "the host had stopped waiting for it", None))
                    for delivery in unanswered:  # it forgot them when it was captured
                        held.tickets[delivery.ticket] = delivery
                        self.tell(wire.Deliver(ask.agent, delivery))
            elif held.wish is not None and not self._is_asked(held):
                wish, held.wish = held.wish, None  # refused because it was leaving by itself
                self._said(self, held, wish)
        if ask.reply.done():
            return
        if error is None:
            ask.reply.set_result(state)
        else:
            ask.reply.set_exception(error)


def _keep(held: Held, early: list[wire.FromAgent], frame: wire.FromAgent) -> None:
    early.append(frame)
    held.early_bytes += wire.weight(frame)
    if held.early_bytes > MAX_EARLY_BYTES:
        raise PeerFault("worker", f"sent more than {MAX_EARLY_BYTES} bytes before its agent was created")


def _may(held: Held, frame: wire.FromAgent) -> bool:
    """Whether an agent in this state may say that: an inert or frozen copy nothing, and one answer to a delivery."""
    match frame:
        case wire.Printed():
            return True
        case wire.Sent() | wire.NeedsFile():
            return held.state in (State.CREATING, State.RUNNING)
        case wire.Handled():
            if held.state is not State.RUNNING or frame.ticket not in held.tickets:
                return False
            del held.tickets[frame.ticket]
            return True
        case wire.Checkpointed():
            tickets = {ticket for ticket, _, _ in frame.answers}
            if held.state not in (State.CREATING, State.RUNNING) or not tickets <= held.tickets.keys():
                return False
            for ticket in tickets:
                del held.tickets[ticket]
            return len(tickets) == len(frame.answers)
        case _:
            return held.state is State.RUNNING

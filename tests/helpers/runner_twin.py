"""A runner without workers: its agents are plain dicts, and it tells all that it was asked.

It can be told to refuse to open, to open never, and to fail a capture. What runs is noted in `Runs`, which sees
it when two copies do.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from agentplatform.lifecycle import Event
from agentplatform.messages import (
    Answer,
    Arrival,
    Captured,
    Checkpoint,
    Custody,
    Delivery,
    Later,
    Move,
    News,
    Outgoing,
)
from agentplatform.parcel.freight import MAX_INLINE_BYTES, Spooled, Stowed
from agentplatform.parcel.manifest import Birth
from agentplatform.parcel.spool import MemorySpool
from agentplatform.runners.base import Upcalls
from agentplatform.runners.errands import QUESTIONS_FROM
from ledger import codec
from ledger.errors import Misuse
from tests.helpers.virtual_history import Chronicle

INERT, RUNNING, FROZEN = "inert", "running", "frozen"


class Copy(msgspec.Struct):
    """One copy of an agent. `state` is what travels."""

    state: dict[str, Any]
    phase: str = INERT
    epoch: int = 0
    inbox: list[Delivery] = msgspec.field(default_factory=list)
    calling: tuple[int, Delivery, int] | None = None  # the handler waits for the answer to its nth call


class Runs:
    """All running copies of all hosts, and the rules that they must keep."""

    def __init__(self, broken: list[str], chronicle: Chronicle) -> None:
        self.broken = broken  # what was seen of broken rules: in a callback an exception would only be logged
        self.chronicle = chronicle
        self.now: dict[str, tuple[str, int]] = {}  # agent -> (host, epoch)
        self.ran: dict[tuple[str, int], str] = {}  # (agent, epoch) -> the one host that may run it
        self.highest: dict[str, int] = {}
        self.questions = itertools.count(QUESTIONS_FROM)  # no number is drawn twice, as in a worker

    def begin(self, agent: str, host: str, epoch: int) -> None:
        if other := self.now.get(agent):
            self.broken.append(f"two copies: {agent} begins on {host} at epoch {epoch}, and runs on {other}")
        if (first := self.ran.setdefault((agent, epoch), host)) != host:
            self.broken.append(f"two copies: epoch {epoch} of {agent} ran on {first}, and runs on {host}")
        if epoch < self.highest.get(agent, 0):
            self.broken.append(f"{agent} runs at epoch {epoch}, after a later one")
        self.highest[agent] = epoch
        self.now[agent] = host, epoch
        self.chronicle.worker(host, "running", agent=agent, epoch=epoch)

    def lost(self, host: str) -> None:
        """All that ran there, without a word."""
        self.now = {agent: there for agent, there in self.now.items() if there[0] != host}

    def end(self, agent: str, host: str, **more: bool) -> None:
        where, epoch = self.now.get(agent, ("", 0))
        if where == host:
            del self.now[agent]
            self.chronicle.worker(host, "frozen", agent=agent, epoch=epoch, **more)


class RunnerTwin:
    """Implements agentplatform.runners.base.Runner."""

    filed = False  # checkpoints are files, as those of large states are

    def __init__(
        self, host: str, upcalls: Upcalls, runs: Runs, refuses: dict[str, str], policy: str, spool: MemorySpool
    ) -> None:
        self.host, self.runs, self.policy, self.spool = host, runs, policy, spool
        self.refuses = refuses  # agent -> why it cannot be opened here
        self.copies: dict[str, Copy] = {}
        self.asked: list[tuple[str, str]] = []  # (what, agent)
        self.hangs: dict[str, asyncio.Event] = {}  # agent -> when its opening ends
        self.custody: dict[str, Custody] = {}  # agent -> in which it was opened here last
        self.known: dict[str, set[bytes]] = {}  # agent -> the pieces that its host has
        self.unpicklable: dict[str, str] = {}  # agent -> the attribute
        self._upcalls = upcalls
        self._numbers = itertools.count(1)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def create(self, birth: Birth, code: bytes, init: bytes, arrival: Arrival) -> None:
        self.asked.append(("create", birth.agent))
        state = {"handled": [], "failed": [], "arrivals": []}
        copy = self.copies[birth.agent] = Copy(state, epoch=arrival.epoch)
        self._run(birth.agent, copy)
        self._soon(birth.agent, lambda copy: self._checkpoint(birth.agent, copy))

    async def open(self, birth: Birth, code: bytes, state: Stowed) -> None:
        self.asked.append(("open", birth.agent))
        self.custody[birth.agent] = birth.custody
        if birth.agent in self.copies:
            raise Misuse(f"{birth.agent} runs here already")
        copy = self.copies[birth.agent] = Copy({})
        try:
            await self.hangs[birth.agent].wait() if birth.agent in self.hangs else await asyncio.sleep(0)
            if birth.agent in self.refuses:
                raise Misuse(self.refuses[birth.agent])
        except BaseException:
            if self.copies.get(birth.agent) is copy:
                del self.copies[birth.agent]
            raise
        if self.copies.get(birth.agent) is not copy:
            raise Misuse(f"{birth.agent} was discarded while it was opened")
        copy.state = codec.decode(bytes(self.spool.files[state.file]) if isinstance(state, Spooled) else state, dict)

    def activate(self, agent: str, arrival: Arrival, beginning: Event = Event.ARRIVE) -> None:
        self.asked.append(("activate", agent))
        copy = self.copies[agent]
        assert copy.phase == INERT and copy.state
        copy.epoch = arrival.epoch
        copy.state["arrivals"].append([arrival.host, arrival.epoch])
        self._run(agent, copy)

    async def capture(self, agent: str, move: Move) -> Stowed:
        self.asked.append(("capture", agent))
        if agent not in self.copies:
            raise Misuse(f"{agent} is not here")
        await asyncio.sleep(0)
        copy = self.copies[agent]
        if agent in self.unpicklable:
            copy.state["failed"].append(f"{self.unpicklable[agent]} cannot be pickled")
            raise Misuse(f"{agent} cannot be captured: its attribute {self.unpicklable[agent]} cannot be pickled")
        assert copy.phase == RUNNING
        return self.freeze(agent)

    def freeze(self, agent: str) -> Stowed:
        copy = self.copies[agent]
        copy.phase = FROZEN
        copy.inbox, copy.calling = [], None
        self.known.pop(agent, None)
        self.runs.end(agent, self.host)
        raw = codec.encode(copy.state)
        return self.spool.take(raw) if len(raw) > MAX_INLINE_BYTES else raw

    async def deactivate(self, agent: str) -> float | None:
        self.asked.append(("deactivate", agent))
        await asyncio.sleep(0)
        self._checkpoint(agent, self.copies[agent], always=True)
        self.freeze(agent)
        return None

    async def clone(self, agent: str) -> None:
        self.asked.append(("clone", agent))
        await asyncio.sleep(0)
        self._checkpoint(agent, self.copies[agent], always=True)

    async def snapshot(self, agent: str) -> None:
        await self.clone(agent)

    def tell(self, agent: str, hook: News, word: str) -> None:
        self._soon(agent, lambda copy: copy.state.setdefault(hook, []).append(word))

    def thaw(self, agent: str, failure: str | None, arrival: Arrival | None = None) -> None:
        self.asked.append(("thaw", agent))
        copy = self.copies.get(agent)
        if copy is None:
            return
        assert copy.phase == FROZEN or (copy.phase == INERT and arrival is not None)
        if failure is not None:
            copy.state["failed"].append(failure)
        if arrival is not None:
            copy.epoch = arrival.epoch
        self._run(agent, copy)

    def discard(self, agent: str) -> None:
        if self.copies.pop(agent, None) is not None:
            self.runs.end(agent, self.host)

    async def dispose(self, agent: str) -> None:
        self.copies.pop(agent)
        self.runs.end(agent, self.host, ended=True)

    def die(self, agent: str) -> None:
        """Its worker is gone."""
        self.copies.pop(agent)
        self.runs.end(agent, self.host)

    def deliver(self, agent: str, delivery: Delivery) -> None:
        if (copy := self.copies.get(agent)) is not None:
            copy.inbox.append(delivery)
        self._soon(agent, lambda copy: self._go_on(agent, copy))

    def lease(self, until: float | None) -> None:
        self.leased = until

    def answer(self, agent: str, call: int, answer: Answer) -> None:
        if call >= QUESTIONS_FROM:
            self._soon(agent, lambda copy: self._hear(agent, copy, call, answer))
            return

        def finish(copy: Copy) -> None:
            if copy.calling is not None and copy.calling[0] == call:
                _, delivery, done = copy.calling
                _, *notes = codec.decode(delivery.body, list)
                if done + 1 < len(notes):
                    self._call(agent, copy, delivery, done + 1)
                    return
                copy.calling = None
                copy.state.setdefault("passed", []).extend(notes)
                self._checkpoint(agent, copy, (delivery.ticket, Answer(answer.ok, answer.body)))
                self._go_on(agent, copy)

        self._soon(agent, finish)

    # The agents

    def _run(self, agent: str, copy: Copy) -> None:
        copy.phase = RUNNING
        self.runs.begin(agent, self.host, copy.epoch)

    def _soon(self, agent: str, act: Callable[[Copy], None]) -> None:
        """A worker is another process: what it does comes later, and only while it lives and runs."""
        copy = self.copies.get(agent)

        def later() -> None:
            if copy is not None and self.copies.get(agent) is copy and copy.phase == RUNNING:
                act(copy)

        asyncio.get_running_loop().call_soon(later)

    def _go_on(self, agent: str, copy: Copy) -> None:
        """One message at a time."""
        while copy.inbox and copy.calling is None and copy.phase == RUNNING:
            self._handle(agent, copy, copy.inbox.pop(0))

    def _handle(self, agent: str, copy: Copy, delivery: Delivery) -> None:
        body = codec.decode(delivery.body, object)
        letters = []
        match delivery.kind:
            case "note":
                copy.state["handled"].append(body)
            case "pass on":  # [receiver, body], or [receiver, body, seconds]
                seconds = body[2] if len(body) > 2 else None
                letters.append(Outgoing(body[0], "note", codec.encode(body[1]), None, seconds=seconds))
                copy.state.setdefault("passed", []).append(body[1])
            case "call":  # [receiver, body, body, ..]
                self._call(agent, copy, delivery, 0)
                return
            case "inquire":  # [receiver, kind, body]
                number = next(self.runs.questions)
                copy.state.setdefault("asked", {})[str(number)] = body[2]
                letters.append(Outgoing(body[0], body[1], codec.encode(body[2]), number, handling=True, then=True))
            case "hold":
                copy.state["handled"].append(body)
                copy.state.setdefault("held", []).append([delivery.sender, delivery.sequence, delivery.origin, body])
                self._checkpoint(agent, copy, (delivery.ticket, None))
                return
            case "let go":
                held = copy.state.pop("held", [])
                late = tuple((Later(*address), Answer(True, codec.encode(note))) for *address, note in held)
                self._checkpoint(agent, copy, (delivery.ticket, Answer(True, codec.encode(len(late)))), late=late)
                return
        answer = Answer(True, codec.encode(len(copy.state["handled"])))
        self._checkpoint(agent, copy, (delivery.ticket, answer), *letters)
        if delivery.kind == "go":
            self._upcalls.wants_to_go(agent, body, self.freeze(agent))

    def _call(self, agent: str, copy: Copy, delivery: Delivery, which: int) -> None:
        to, *notes = codec.decode(delivery.body, list)
        copy.calling = next(self._numbers), delivery, which
        note = codec.encode(notes[which])
        self._upcalls.sent(agent, Outgoing(to, "note", note, copy.calling[0], loose=True, handling=True))

    def _hear(self, agent: str, copy: Copy, number: int, answer: Answer) -> None:
        """The answer to a question; one that this state does not wait for was heard before."""
        note = copy.state.get("asked", {}).pop(str(number), None)
        if note is not None:
            copy.state.setdefault("heard", []).append(note if answer.ok else "an error")
        self._checkpoint(agent, copy, heard=(number,))

    def _checkpoint(
        self,
        agent: str,
        copy: Copy,
        answer: tuple[int, Answer | None] | None = None,
        *letters: Outgoing,
        late: tuple[tuple[Later, Answer], ...] = (),
        heard: tuple[int, ...] = (),
        always: bool = False,
    ) -> None:
        """As a worker does after each message; a state of some size comes in pieces."""
        answers = () if answer is None else (answer,)
        if self.policy == "hop" and not always:
            for letter in letters:
                self._upcalls.sent(agent, letter)
            if answer is not None and answer[1] is not None:
                self._upcalls.answered(agent, answer[0], answer[1])
            elif answer is not None or late or heard:
                self._upcalls.checkpointed(agent, Checkpoint(None, answers, (), (), late, heard))
            return
        raw = codec.encode(copy.state)
        if self.filed:
            kept = self.spool.keep(raw)
            state = Captured(codec.encode(kept.freight), (), (), kept.file)
            self._upcalls.checkpointed(agent, Checkpoint(state, answers, letters, (), late, heard))
            return
        head, pieces = raw[:20], [raw[at : at + 20] for at in range(20, len(raw), 20)]
        known = self.known.get(agent, set())
        digests = [hashlib.blake2b(piece, digest_size=32).digest() for piece in pieces]
        fresh = {digest: piece for digest, piece in zip(digests, pieces, strict=True) if digest not in known}
        self.known[agent] = set(digests)
        state = Captured(head, tuple(digests), tuple(fresh.items()))
        self._upcalls.checkpointed(agent, Checkpoint(state, answers, letters, (), late, heard))

"""When an agent's state is kept beside what it does, and what goes into a checkpoint. In workers only.

By default an agent's state, the message that it consumed and the messages that it produced are one transaction of its
host's journal: what it sends and answers waits here for the next message boundary, and leaves together with the state.
"""

import asyncio
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from msgspec.structs import replace

from agentplatform.agent import Agent
from agentplatform.faults import error_body
from agentplatform.messages import Answer, Captured, Checkpoint, Later, Outgoing, Requires
from agentplatform.parcel import state as states
from agentplatform.parcel.freight import MAX_FREIGHT_BYTES, Freight
from agentplatform.runners.base import Upcalls
from agentplatform.runners.place import DIGEST_BYTES, MAX_STATE_BYTES, PIECE_BYTES, requires
from agentplatform.runners.stowage import Stowage
from ledger import codec
from ledger.errors import Misuse, PlatformError
from services.rms.resources import Needs

SLACK = 16  # a file for a state has so small a part of it more: `run` may add to the state before the file is there
MAX_HELD_BYTES = 8 * 1024 * 1024  # of letters that wait for a boundary; what is more leaves by itself
Policy = float | str


def policy_of(cls: type[Agent]) -> Policy:
    """The class's `checkpoint`. Raises Misuse, with what is allowed, for anything else."""
    policy = cls.checkpoint
    if isinstance(policy, str) and policy in ("message", "hop", "none"):
        return policy
    if isinstance(policy, int | float) and not isinstance(policy, bool) and 0 < policy < math.inf:
        return float(policy)
    raise Misuse(
        f'{cls.__name__}.checkpoint is "message", a number of seconds above 0, "hop" or "none", not {policy!r}'
    )


class TooLarge(Exception):
    """A state is kept as a file alone, which must have this `room`, in bytes."""

    def __init__(self, room: int) -> None:
        self.room = room


class Pieces:
    """What the host has of one agent's state since the last checkpoint: only what changed goes to it again."""

    def __init__(self) -> None:
        self._last: tuple[bytes, tuple[bytes, ...]] | Freight | None = None
        self._hashed: dict[int, tuple[bytes, list[bytes]]] = {}  # by id: what cannot change, and its digests

    def capture(self, agent: Agent, file: int | None = None) -> Captured | None:
        """The agent's state now, written to `file` if it is large; None when it is as it was.

        Raises Misuse for what cannot be captured, TooLarge for what needs a file, or one with more room.
        """
        parts = states.parts(agent)
        if states.size(parts) > MAX_STATE_BYTES:
            return self._large(states.for_file(parts), file)
        frame, body, *rest = parts
        small = len(body) < PIECE_BYTES
        head = b"".join((frame, body)) if small else bytes(frame)
        known = set(self._last[1]) if isinstance(self._last, tuple) else set()
        pieces, fresh = [], {}
        hashed, self._hashed = self._hashed, {}
        for part in rest if small else (body, *rest):
            view = memoryview(part).cast("B")
            cut = [view[at : at + PIECE_BYTES] for at in range(0, len(view), PIECE_BYTES)]
            whole = view.obj
            if isinstance(whole, bytes) and len(whole) == len(view) and whole is not body:  # as values of self.data
                _, digests = self._hashed[id(whole)] = hashed.get(id(whole)) or (whole, list(map(_digest, cut)))
            else:
                digests = list(map(_digest, cut))
            pieces += digests
            for digest, piece in zip(digests, cut, strict=True):
                if digest not in known and digest not in fresh:
                    fresh[digest] = bytes(piece)
        now = head, tuple(pieces)
        if now == self._last:
            return None
        self._last = now
        return Captured(*now, tuple(fresh.items()))

    def _large(self, parts: Sequence[states.Part], file: int | None) -> Captured | None:
        """All of it at once, before anything else of the agent runs: what its arrays have is of one moment."""
        size = states.size(parts)
        if size > MAX_FREIGHT_BYTES:
            raise Misuse(f"its state has {size} bytes; at most {MAX_FREIGHT_BYTES} are kept")
        if file is None and isinstance(self._last, Freight) and states.table(parts) == self._last:
            return None
        if file is None or os.fstat(file).st_size < size:
            raise TooLarge(min(size + size // SLACK, MAX_FREIGHT_BYTES))
        try:
            now = states.keep(parts, file)
        except OSError as error:
            raise Misuse(f"it could not be written to the disk: {error.strerror or error}") from error
        if now == self._last:
            return None
        self._last = now
        return Captured(codec.encode(now), (), (), file="")

    def forget(self) -> None:
        """The host may not have them any more."""
        self._last = None


def _digest(piece: memoryview) -> bytes:
    return hashlib.blake2b(piece, digest_size=DIGEST_BYTES).digest()


class Checkpoints:
    """Of one agent: what it did since the last one, and whether the next is due."""

    def __init__(
        self,
        agent: str,
        upcalls: Upcalls,
        wake: Callable[[], None],
        answer: Callable[[int, Answer], None],
        stowage: Stowage,
    ) -> None:
        """`wake` calls for a message boundary; `answer` answers a call of the agent."""
        self.at_boundary = False  # no hook and no handler of the agent is under way, `run` aside
        self.pieces = Pieces()
        self._agent, self._upcalls, self._wake, self._answer = agent, upcalls, wake, answer
        self._stowage = stowage
        self._policy: Policy = "hop"
        self._answers: list[tuple[int, Answer | None]] = []
        self._letters: list[Outgoing] = []
        self._late: list[tuple[Later, Answer]] = []
        self._heard: list[int] = []
        self._topics: list[tuple[str, bool]] = []
        self._requires: list[Requires] = []  # the last one counts
        self._due = False
        self._resting: int | None = None  # of the late answers, those from here on rest on the state that is due
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, cls: type[Agent], born: bool) -> None:
        """The agent is `born` now, with a state that nobody has yet, or was opened. Raises Misuse."""
        self._policy = policy_of(cls)
        self._due = born and self._policy not in ("hop", "none")
        if born:
            self.begin_needs(cls)

    def begin_needs(self, cls: type[Agent]) -> None:
        """It needs what its class says: nobody has said anything else. Raises Misuse for what nobody can need."""
        needed = requires(cls.needs, cls.task_weight)
        if needed != Requires(Needs()):
            self._requires.append(needed)

    # What the agent does

    def post(self, outgoing: Outgoing) -> None:
        if self._policy != "message":
            self._upcalls.sent(self._agent, replace(outgoing, kept=self._policy != "none"))
            self._acted()
            return
        self._letters.append(outgoing)
        # Who calls in a handler waits for the answer there, and not at the boundary.
        urgent = outgoing.call is not None and not outgoing.then and not self.at_boundary
        if urgent or sum(len(letter.body) for letter in self._letters) > MAX_HELD_BYTES:
            self._let_letters_out(loose=True)
        else:
            self._wake()

    def asked(self, outgoing: Outgoing) -> None:
        """Of the host itself: it leaves at once, and is not kept."""
        self._upcalls.sent(self._agent, outgoing)

    def answered(self, ticket: int, answer: Answer | None) -> None:
        """None: it was handled, and is answered later."""
        if self._policy == "message" or answer is None:
            self._answers.append((ticket, answer))
        else:
            self._upcalls.answered(self._agent, ticket, answer)
        self._acted()

    def late(self, later: Later, answer: Answer) -> None:
        self._late.append((later, answer))
        self._soon()

    def heard(self, number: int) -> None:
        """The agent has the answer to the question, or waits for it no more."""
        self._heard.append(number)
        self._soon()

    def subscribed(self, topic: str, on: bool) -> None:
        self._topics.append((topic, on))
        self._soon()

    def required(self, needed: Requires) -> None:
        self._requires.append(needed)
        self._soon()

    def changed(self) -> None:
        """The platform's part of the agent's state has."""
        if self._policy == "message":
            self._due = True
            self._wake()
        else:
            self._acted()

    def let_out(self, calling: tuple[int, ...]) -> None:
        """The agent is about to be captured, or to end: what it did since the last boundary leaves by itself."""
        self._let_letters_out()
        late, heard, topics = tuple(self._late), tuple(self._heard), tuple(self._topics)
        if late or heard or topics or self._requires:
            told = Checkpoint(None, (), (), calling, late, heard, topics, _last(self._requires), self._loose)
            self._upcalls.checkpointed(self._agent, told)
        for each in (self._late, self._heard, self._topics, self._requires):
            each.clear()

    def _let_letters_out(self, loose: bool = False) -> None:
        """They must not wait for the state, or there will be none: each is kept by itself. But a question whose number
        the state does not know would have an answer that nobody waits for: if the state is to come, it goes with it."""
        letters, self._letters = self._letters, []
        for letter in letters:
            if loose and letter.then:
                self._letters.append(letter)
            else:
                self._upcalls.sent(self._agent, replace(letter, loose=loose))

    # At a message boundary

    async def take(self, agent: Agent, calling: Callable[[], tuple[int, ...]] = tuple) -> None:
        """A checkpoint, if one is due; `calling` says which calls the agent waits for. Raises Misuse when the state
        cannot be captured: then the messages that were handled are answered with that, and nothing else leaves; with
        looser checkpoints it all leaves, without the state.

        Who waits for a file goes on meanwhile, as `run` does; what it did by then is in the checkpoint.
        """
        if not (self._due or any(self._kept())):
            return
        file: int | None = None
        state: Captured | None = None
        try:
            while self._due or self._policy == "message":
                try:
                    state = self.pieces.capture(agent, file)
                    break
                except TooLarge as large:
                    if file is not None:
                        os.close(file)
                        file = None
                    file = await self._stowage.borrow(self._agent, large.room)
        except PlatformError as error:
            self._refuse(calling(), unkept(self._agent, error, self._policy))
        finally:
            if file is not None:
                os.close(file)
        answers, letters, late, heard, topics, needed = self._take_all()
        told = Checkpoint(state, answers, letters, calling(), late, heard, topics, _last(needed), self._loose)
        self._upcalls.checkpointed(self._agent, told)

    def _refuse(self, calling: tuple[int, ...], reason: str) -> NoReturn:
        resting = self._resting
        answers, letters, late, heard, topics, needed = self._take_all()
        refusal = Answer(False, error_body(reason))
        for letter in letters:
            if letter.call is not None:
                self._answer(letter.call, refusal)
        if not self._loose:  # else they rest on no state, but for late ones behind a `snapshot`
            answers = tuple((ticket, refusal) for ticket, _ in answers)
            heard = ()
            resting = 0
        if resting is not None:
            late = (*late[:resting], *((later, refusal) for later, _ in late[resting:]))
        if answers or late or heard or topics or needed:
            told = Checkpoint(None, answers, (), calling, late, heard, topics, _last(needed), self._loose)
            self._upcalls.checkpointed(self._agent, told)
        raise Misuse(reason)

    def _kept(self) -> tuple[list[Any], ...]:
        return self._answers, self._letters, self._late, self._heard, self._topics, self._requires

    def _take_all(self) -> tuple[Any, ...]:
        """What goes into this checkpoint; what is done from now on goes into the next."""
        taken = tuple(map(tuple, self._kept()))
        for each in self._kept():
            each.clear()
        self._due, self._resting = False, None
        return taken

    @property
    def _loose(self) -> bool:
        return self._policy != "message"

    def _soon(self) -> None:
        """At the next boundary; without the state, if the class has chosen looser checkpoints."""
        self._acted()
        self._wake()

    def _acted(self) -> None:
        if isinstance(self._policy, float) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._policy, self.fall_due)

    def wanted(self) -> None:
        """The agent itself asks for one: what it answers late from now on leaves with that, or is refused."""
        if self._resting is None:
            self._resting = len(self._late)
        self.fall_due()

    def fall_due(self) -> None:
        """The next boundary writes a checkpoint, whatever the agent's class has chosen."""
        self._timer, self._due = None, True
        self._wake()


def _last(needed: Sequence[Requires]) -> Requires | None:
    return needed[-1] if needed else None


def unkept(agent: str, error: PlatformError, policy: Policy) -> str:
    if not isinstance(error, Misuse):
        return f"the state of {agent} cannot be kept now: {error}"
    loosest = policy in ("hop", "none")  # then it was asked for: a clone, a snapshot, a deactivation
    or_else = "" if loosest else ', or set `checkpoint` of its class to "hop"'
    return f"the state of {agent} cannot be kept: {error}; leave that out in __getstate__{or_else}"

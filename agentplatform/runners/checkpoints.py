"""When an agent's state is kept beside what it does, and what goes into a checkpoint. In workers only.

By default an agent's state, the message that it consumed and the messages that it produced are one transaction of its
host's journal: what it sends and answers waits here for the next message boundary, and leaves together with the state.
"""

import asyncio
import hashlib
import math
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from agentplatform.agent import Agent
from agentplatform.messages import Answer, Captured, Checkpoint, Later, Outgoing
from agentplatform.parcel import state as states
from agentplatform.runners.base import Upcalls
from agentplatform.runners.place import DIGEST_BYTES, MAX_STATE_BYTES, PIECE_BYTES
from ledger import codec
from ledger.errors import Misuse

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


class Pieces:
    """What the host has of one agent's state since the last checkpoint: only what changed goes to it again."""

    def __init__(self) -> None:
        self._last: tuple[bytes, tuple[bytes, ...]] | None = None

    def capture(self, agent: Agent) -> Captured | None:
        """The agent's state now; None when it is as it was. Raises Misuse for what cannot be captured."""
        parts = states.parts(agent)
        size = sum(memoryview(part).nbytes for part in parts)
        if size > MAX_STATE_BYTES:
            raise Misuse(f"its state has {size} bytes; at most {MAX_STATE_BYTES} are kept")
        frame, body, *rest = parts
        small = len(body) < PIECE_BYTES
        head = b"".join((frame, body)) if small else bytes(frame)
        known = set(self._last[1]) if self._last is not None else set()
        pieces, fresh = [], {}
        for part in rest if small else (body, *rest):
            view = memoryview(part).cast("B")
            for at in range(0, len(view), PIECE_BYTES):
                piece = view[at : at + PIECE_BYTES]
                digest = hashlib.blake2b(piece, digest_size=DIGEST_BYTES).digest()
                pieces.append(digest)
                if digest not in known and digest not in fresh:
                    fresh[digest] = bytes(piece)
        now = head, tuple(pieces)
        if now == self._last:
            return None
        self._last = now
        return Captured(*now, tuple(fresh.items()))

    def forget(self) -> None:
        """The host may not have them any more."""
        self._last = None


class Checkpoints:
    """Of one agent: what it did since the last one, and whether the next is due."""

    def __init__(
        self, agent: str, upcalls: Upcalls, wake: Callable[[], None], answer: Callable[[int, Answer], None]
    ) -> None:
        """`wake` calls for a message boundary; `answer` answers a call of the agent."""
        self.at_boundary = False  # no hook and no handler of the agent is under way, `run` aside
        self.pieces = Pieces()
        self._agent, self._upcalls, self._wake, self._answer = agent, upcalls, wake, answer
        self._policy: Policy = "hop"
        self._answers: list[tuple[int, Answer | None]] = []
        self._letters: list[Outgoing] = []
        self._late: list[tuple[Later, Answer]] = []
        self._heard: list[int] = []
        self._topics: list[tuple[str, bool]] = []
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, cls: type[Agent], born: bool) -> None:
        """The agent is `born` now, with a state that nobody has yet, or was opened. Raises Misuse."""
        self._policy = policy_of(cls)
        self._due = born and self._policy not in ("hop", "none")

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
        if late or heard or topics:
            self._upcalls.checkpointed(self._agent, Checkpoint(None, (), (), calling, late, heard, topics))
        for each in (self._late, self._heard, self._topics):
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

    def take(self, agent: Agent, calling: tuple[int, ...] = ()) -> None:
        """A checkpoint, if one is due. Raises Misuse when the state cannot be captured: then the messages that were
        handled are answered with that, and nothing else leaves."""
        kept: tuple[list[Any], ...] = (self._answers, self._letters, self._late, self._heard, self._topics)
        if not (self._due or any(kept)):
            return
        answers, letters, late, heard, topics = map(tuple, kept)
        for each in kept:
            each.clear()
        with_state, self._due = self._due or self._policy == "message", False
        try:
            state = self.pieces.capture(agent) if with_state else None
        except Misuse as error:
            reason = unkept(self._agent, error, self._policy)
            refusal = Answer(False, codec.encode(reason))
            for letter in letters:
                if letter.call is not None:
                    self._answer(letter.call, refusal)
            if answers or late or topics:
                refused = tuple((ticket, refusal) for ticket, _ in answers)
                belated = tuple((later, refusal) for later, _ in late)
                told = Checkpoint(None, refused, (), calling, belated, (), topics)
                self._upcalls.checkpointed(self._agent, told)
            raise Misuse(reason) from error
        self._upcalls.checkpointed(self._agent, Checkpoint(state, answers, letters, calling, late, heard, topics))

    def _soon(self) -> None:
        """At the next boundary; without the state, if the class has chosen looser checkpoints."""
        self._acted()
        self._wake()

    def _acted(self) -> None:
        if isinstance(self._policy, float) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._policy, self.fall_due)

    def fall_due(self) -> None:
        """The next boundary writes a checkpoint, whatever the agent's class has chosen."""
        self._timer, self._due = None, True
        self._wake()


def unkept(agent: str, error: Misuse, policy: Policy) -> str:
    loosest = policy in ("hop", "none")  # then it was asked for: a clone, a snapshot, a deactivation
    or_else = "" if loosest else ', or set `checkpoint` of its class to "hop"'
    return f"the state of {agent} cannot be kept: {error}; leave that out in __getstate__{or_else}"

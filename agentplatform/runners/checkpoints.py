"""When an agent's state is kept beside what it does, and what goes into a checkpoint. In workers only.

By default an agent's state, the message that it consumed and the messages that it produced are one transaction of its
host's journal: what it sends and answers waits here for the next message boundary, and leaves together with the state.
"""

import asyncio
import hashlib
import math
from collections.abc import Callable

from msgspec.structs import replace

from agentplatform.agent import Agent
from agentplatform.messages import Answer, Captured, Checkpoint, Outgoing
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
        self._answers: list[tuple[int, Answer]] = []
        self._letters: list[Outgoing] = []
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
        urgent = outgoing.call is not None and not self.at_boundary
        if urgent or sum(len(letter.body) for letter in self._letters) > MAX_HELD_BYTES:
            self.let_out(loose=True)
        else:
            self._wake()

    def answered(self, ticket: int, answer: Answer) -> None:
        if self._policy == "message":
            self._answers.append((ticket, answer))
        else:
            self._upcalls.answered(self._agent, ticket, answer)
            self._acted()

    def let_out(self, loose: bool = False) -> None:
        """What was sent leaves now, and is kept by itself: it must not wait for the state, or there will be none."""
        letters, self._letters = self._letters, []
        for letter in letters:
            self._upcalls.sent(self._agent, replace(letter, loose=loose))

    # At a message boundary

    def take(self, agent: Agent, calling: tuple[int, ...] = ()) -> None:
        """A checkpoint, if one is due. Raises Misuse when the state cannot be captured: then the messages that were
        handled are answered with that, and nothing else leaves."""
        if not (self._due or self._answers or self._letters):
            return
        answers, letters = tuple(self._answers), tuple(self._letters)
        self._answers, self._letters, self._due = [], [], False
        try:
            state = self.pieces.capture(agent)
        except Misuse as error:
            reason = unkept(self._agent, error)
            refusal = Answer(False, codec.encode(reason))
            for letter in letters:
                if letter.call is not None:
                    self._answer(letter.call, refusal)
            if answers:
                refused = tuple((ticket, refusal) for ticket, _ in answers)
                self._upcalls.checkpointed(self._agent, Checkpoint(None, refused, (), calling))
            raise Misuse(reason) from error
        self._upcalls.checkpointed(self._agent, Checkpoint(state, answers, letters, calling))

    def _acted(self) -> None:
        if isinstance(self._policy, float) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._policy, self._fall_due)

    def _fall_due(self) -> None:
        self._timer, self._due = None, True
        self._wake()


def unkept(agent: str, error: Misuse) -> str:
    return (
        f"the state of {agent} cannot be kept: {error}; leave that out in __getstate__, or set `checkpoint` of its "
        'class to "hop"'
    )

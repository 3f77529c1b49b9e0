"""What a held agent's host sends to the holders of its checkpoint (custody.copies.holders), on its own channel.

A full copy is all that a restart reads; a change is what one transaction of the custody log did to that. Large states
go ahead of both, in pieces of at most PIECES_AT_ONCE bytes. State and code are opaque bytes here.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from agentplatform.custody.residences import subject_of
from agentplatform.mail import Change, Letter, Loose, Luggage, Seen, Standing
from agentplatform.messages import Answer
from agentplatform.parcel.bundle import MAX_BUNDLE_BYTES
from agentplatform.parcel.manifest import AGENT_ID, MAX_EPOCH, Birth, code_digest
from ledger import codec
from ledger.errors import PeerFault

PIECES_AT_ONCE = 1 << 20  # bytes of one message of pieces
MAX_GROWTH_BYTES = 512 << 20  # that a holder takes of one agent before it asks for a full copy, which replaces all


class _Op(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    pass


# One for each method of agentplatform.outbox.Outbox that writes.


class Checkpointed(_Op, frozen=True):
    change: Change


class Wrote(_Op, frozen=True):
    letter: Letter
    loose: Loose | None


class Answered(_Op, frozen=True):
    """A loose letter."""

    receiver: str
    sequence: int
    answer: Answer


class Settled(_Op, frozen=True):
    """No letter to `receiver` up to this number is kept."""

    receiver: str
    upto: int


class Bound(_Op, frozen=True):
    """No letter is loose any more."""


class Joined(_Op, frozen=True):
    standing: Standing


Op = Checkpointed | Wrote | Answered | Settled | Bound | Joined


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    agent: str
    subject: bytes  # what its residence stands under on the ledger
    epoch: int
    run: int  # the source's incarnation
    position: int

    def __post_init__(self) -> None:
        if not AGENT_ID.fullmatch(self.agent) or not 0 <= self.epoch <= MAX_EPOCH or not 0 <= self.run < 2**62:
            raise ValueError(f"{self.agent!r:.80} is no agent's id, or its epoch cannot be")
        if not -1 <= self.position < 2**62:
            raise ValueError(f"no change of {self.agent} has the position {self.position}")


class Pieces(_Message, frozen=True):
    """Of the state of the copy or change with this position, or of a later one."""

    pieces: tuple[tuple[bytes, bytes], ...]  # digest and body


class Whole(_Message, frozen=True):
    """A full copy: in place of all that the holder has of the agent."""

    certificate: bytes  # of birth
    init: bytes  # what it was created with, if it has no state yet
    code: bytes
    luggage: bytes  # as in its last parcel
    head: bytes | None  # of the state; None: it has none yet
    digests: tuple[bytes, ...]  # of the state's pieces
    seen: tuple[Seen, ...]
    sent: tuple[tuple[str, int, Letter | None], ...]
    loose: tuple[tuple[Loose, Answer | None], ...]
    standing: Standing | None


class Changes(_Message, frozen=True):
    ops: tuple[Op, ...]


class Have(_Message, frozen=True):
    """Holder to source: durable up to `position`; NOTHING: send a full copy."""


class Refused(_Message, frozen=True):
    """Holder to source: not taken now."""

    reason: str


class Unneeded(_Message, frozen=True):
    """Source to holder: the ledger names others."""


CopyMessage = Pieces | Whole | Changes | Have | Refused | Unneeded
_MESSAGE: Any = CopyMessage


def decode(raw: bytes, sender: str) -> CopyMessage:
    """Raises PeerFault."""
    message: CopyMessage = codec.decode(raw, _MESSAGE, sender)
    return message


def check_whole(whole: Whole, birth: Birth, sender: str) -> None:
    """Everything that can be checked without opening it; `birth` is what its certificate says. Raises PeerFault."""
    if birth.agent != whole.agent or subject_of(birth.owner, birth.agent) != whole.subject:
        raise PeerFault(sender, f"sent a copy of {whole.agent} with another's birth certificate")
    if len(whole.code) > MAX_BUNDLE_BYTES or code_digest(whole.code) != birth.code:
        raise PeerFault(sender, f"sent a copy of {whole.agent} with code that is not its own")
    codec.decode(whole.luggage, Luggage, sender).check(whole.agent, sender)
    letters = [letter for _, _, letter in whole.sent if letter is not None]
    if any((letter.receiver, letter.sequence) != each[:2] for each in whole.sent if (letter := each[2]) is not None):
        raise PeerFault(sender, f"sent a copy of {whole.agent} with letters that are filed wrongly")
    _check_own(whole.agent, sender, [*letters, *(loose.letter for loose, _ in whole.loose)], whole.seen)
    _check_standing(whole.agent, sender, whole.standing)


def check_op(agent: str, op: Op, sender: str) -> None:
    """Raises PeerFault: no row may be another agent's, no letter leave in another's name."""
    match op:
        case Checkpointed(change):
            if change.state is not None and change.state.file is not None:
                raise PeerFault(sender, f"sent a copy of {agent} whose state is in a file of its own")
            _check_own(agent, sender, [*change.letters, *(each.letter for each in change.loose)], change.seen)
        case Wrote(letter, loose):
            _check_own(agent, sender, [letter, *(() if loose is None else (loose.letter,))], ())
        case Joined(standing):
            _check_standing(agent, sender, standing)


def _check_own(agent: str, sender: str, letters: Iterable[Letter], seen: Iterable[Seen]) -> None:
    if any(letter.sender != agent for letter in letters):
        raise PeerFault(sender, f"sent a copy of {agent} with letters that others wrote")
    replies = [(each, each.reply) for each in seen if each.reply is not None]
    if any(
        (reply.sender, reply.receiver, reply.sequence) != (agent, each.sender, each.sequence) for each, reply in replies
    ):
        raise PeerFault(sender, f"sent a copy of {agent} with answers that others gave")


def _check_standing(agent: str, sender: str, standing: Standing | None) -> None:
    if standing is not None and standing.group is not None and agent not in standing.group.agents:
        raise PeerFault(sender, f"sent a copy of {agent} with a group that it does not belong to")

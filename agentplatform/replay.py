"""Letters that left before the state that knows of them was written: a handler that must run again does not send them
again. Pure.

A call cannot wait for its handler's end. After a crash the handler runs again, from the state before it; one that is
deterministic makes the same call again, and gets the letter that left then, and the answer that came. The same holds
for what `run` called last, if that is what it calls first when it is started again.
"""

from collections.abc import Iterable, Mapping

import msgspec

from agentplatform.mail import Letter, Loose, Memory
from agentplatform.messages import Answer
from agentplatform.parcel.manifest import AGENT_ID

Key = tuple[str, int]  # receiver and sequence


class _Open(msgspec.Struct, eq=False):
    loose: Loose
    call: int | None  # the agent's own number, if it waits for the answer
    answer: Answer | None
    old: bool  # of a life that a crash has ended: nobody in this one has done it yet


class Replay:
    """Of one agent."""

    def __init__(self, recalled: Iterable[tuple[Loose, Answer | None]] = ()) -> None:
        self._open = {_key(loose.letter): _Open(loose, None, answer, True) for loose, answer in recalled}
        self._old = list(self._open.values())  # nobody in this life has done them yet

    def __len__(self) -> int:
        return len(self._open)

    def add(self, loose: Loose, call: int | None) -> None:
        self._open[_key(loose.letter)] = _Open(loose, call, None, False)

    def adopt(
        self, cause: Key | None, receiver: str, kind: str, body: bytes, call: int | None
    ) -> tuple[Letter, Answer | None] | None:
        """The letter that left in an earlier life for what the agent does now, and its answer if there was one."""
        for each in self._old:
            letter = each.loose.letter
            same = _same(letter.receiver, receiver) and (letter.kind, letter.body) == (kind, body)
            if each.loose.cause == cause and same:
                self._old.remove(each)
                each.old, each.call = False, call
                return letter, each.answer
        return None

    def address(self, old: Letter, new: Letter) -> Loose | None:
        """It was to a name, and is now to the agent of that name. Returns what is remembered of it, if anything is."""
        found = self._open.pop(_key(old), None)
        if found is None:
            return None
        found.loose = Loose(new, found.loose.cause)
        self._open[_key(new)] = found
        return found.loose

    def answered(self, receiver: str, sequence: int, answer: Answer) -> bool:
        """Whether the answer must be remembered."""
        found = self._open.get((receiver, sequence))
        if found is not None:
            found.answer = answer
        return found is not None

    def checkpointed(self, calling: Iterable[int], senders: Mapping[str, Memory]) -> list[Key]:
        """The agent's state is written, with the calls `calling` not answered yet, and what it has handled of
        `senders`. Returns what it need not do again."""
        waiting = set(calling)
        done = [key for key, each in self._open.items() if each.call not in waiting and not _may_come(each, senders)]
        for key in done:
            del self._open[key]
        if self._old and done:
            self._old = [each for each in self._old if _key(each.loose.letter) in self._open]
        return done


def _may_come(each: _Open, senders: Mapping[str, Memory]) -> bool:
    """The message in whose handling it was sent was not handled yet: it will be, and the letter is sent again then."""
    if not each.old or each.loose.cause is None:
        return False
    sender, sequence = each.loose.cause
    return sender not in senders or senders[sender].handled < sequence


def _same(one: str, other: str) -> bool:
    """A name stands for the agent that it was, or will be, resolved to."""
    if AGENT_ID.fullmatch(one) and AGENT_ID.fullmatch(other):
        return one == other
    return _name(one) == _name(other)


def _name(receiver: str) -> str:
    return receiver.rpartition("-")[0] if AGENT_ID.fullmatch(receiver) else receiver


def _key(letter: Letter) -> Key:
    return letter.receiver, letter.sequence

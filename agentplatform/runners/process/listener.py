"""What agents in workers say goes to the daemon's rooms. A handle has let it through: that agent may say it now."""

from collections.abc import Callable

from msgspec.structs import replace

from agentplatform.faults import error_body
from agentplatform.lifecycle import State
from agentplatform.messages import Answer, Captured, Outgoing
from agentplatform.parcel.freight import Freight
from agentplatform.runners.base import Upcalls
from agentplatform.runners.process import wire
from agentplatform.runners.process.handle import Handle, Held
from agentplatform.runners.process.lender import Lender
from ledger import codec

WRITTEN_A_SECOND = 20 << 20  # bytes of a large state, at the least: its capture may take so much longer


class Listener:
    def __init__(
        self,
        upcalls: Upcalls,
        files: Lender,
        capture: float,
        answer: Callable[[str, int, Answer], None],
        release: Callable[[str], None],
    ) -> None:
        """`capture`: seconds that a capture may take. `answer(agent, call, answer)`: to what it asked of its host.
        `release(agent)`: it has left its worker."""
        self._upcalls, self._files, self._capture = upcalls, files, capture
        self._answer, self._release = answer, release

    def hear(self, handle: Handle, held: Held, frame: wire.FromAgent) -> None:
        match frame:
            case wire.Handled():
                answer = _plain_or_error(frame.agent, Answer(frame.ok, frame.body))
                self._upcalls.answered(frame.agent, frame.ticket, answer)
            case wire.Sent() if not wire.is_plain(frame.body):
                self._refuse_letter(frame.agent, Outgoing(frame.receiver, frame.kind, b"", frame.call))
            case wire.Sent():
                self._upcalls.sent(frame.agent, frame.outgoing())
            case wire.Checkpointed():
                self._checkpointed(held, frame)
            case wire.Printed():
                stream = frame.stream if frame.stream in ("out", "err") else "note"
                self._upcalls.printed(frame.agent, stream, frame.text)
            case wire.WantsToGo():
                state = self._files.redeem(held, frame.state)
                held.enter(State.FROZEN)
                self._upcalls.wants_to_go(frame.agent, frame.destination, state)
            case wire.WantsToSleep():
                held.enter(State.FROZEN)
                self._upcalls.wants_to_sleep(frame.agent, frame.seconds)
            case wire.WantsClone():
                self._upcalls.wants_clone(frame.agent)
            case wire.WantsCustody():
                self._upcalls.wants_custody(frame.agent, frame.custody, frame.consent)
            case wire.Books():
                self._upcalls.books(frame.agent, frame.ticket)
            case wire.NeedsFile():
                handle.allow(held, self._capture + frame.size / WRITTEN_A_SECOND)
                self._files.start_lending(handle, held, frame)
            case wire.WantsToEnd():
                self._release(frame.agent)
                self._upcalls.wants_to_end(frame.agent)

    def _checkpointed(self, held: Held, frame: wire.Checkpointed) -> None:
        checkpoint = frame.checkpoint()
        if frame.filed:
            freight = codec.decode(frame.head or b"", Freight, "worker")
            file = self._files.redeem_file(held, freight).file
            checkpoint = replace(checkpoint, state=Captured(codec.encode(freight), (), (), file))
        answers = tuple((ticket, each and _plain_or_error(frame.agent, each)) for ticket, each in checkpoint.answers)
        late = tuple((later, _plain_or_error(frame.agent, each)) for later, each in checkpoint.late)
        letters = []
        for letter in checkpoint.letters:
            if wire.is_plain(letter.body):
                letters.append(letter)
            else:
                self._refuse_letter(frame.agent, letter)
        self._upcalls.checkpointed(frame.agent, replace(checkpoint, answers=answers, letters=tuple(letters), late=late))

    def _refuse_letter(self, agent: str, letter: Outgoing) -> None:
        words = f"the {letter.kind!r} message to {letter.receiver} is no plain data; it was not sent"
        self._upcalls.printed(agent, "note", words)
        if letter.call is not None:
            self._answer(agent, letter.call, Answer(False, error_body(words)))


def _plain_or_error(agent: str, answer: Answer) -> Answer:
    if wire.is_plain(answer.body):
        return answer
    return Answer(False, error_body(f"{agent} sent an answer that is no plain data"))

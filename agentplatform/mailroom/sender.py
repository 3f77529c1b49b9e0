"""What one resident sends: its letters are numbered, and kept until their replies are there."""

import asyncio
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from math import inf

from msgspec.structs import replace

from agentplatform.faults import error_body
from agentplatform.mail import (
    EVERYBODY,
    MAX_NUMBER,
    MAX_OUTBOX_BYTES,
    MAX_OUTBOX_LETTERS,
    Change,
    Letter,
    Loose,
    Luggage,
    Reply,
    Sent,
    check,
    size,
)
from agentplatform.messages import Answer, Outgoing
from agentplatform.outbox import Outbox
from agentplatform.parcel.manifest import AGENT_ID
from agentplatform.replay import Key, Replay
from ledger.errors import Misuse, OutcomeUnknown, Unavailable

RESERVED_NUMBERS = 1024  # written ahead for letters that are not kept
RESEND_AT_ONCE = 64  # letters to one receiver that are sent again in one round
RESEND_AFTER_NEWS = 1024  # and when one of the two has moved: what was on its way then is lost
RESTORED_LIFE = 30.0  # seconds of a letter from before its host was restored from a backup: its answer may be lost
GRACE = 2.0  # seconds that the receiver's word on a letter whose time is over is waited for


class Numbers:
    """Those that an agent may use for its letters to one receiver, if it does not keep them."""

    def __init__(self) -> None:
        self.asked = 0
        self.written = 0
        self.writes: deque[tuple[int, asyncio.Future[None]]] = deque()  # under way: up to which number

    def reserved(self, done: "asyncio.Future[None]") -> None:
        if not done.cancelled() and done.exception() is None:
            self.written, _ = self.writes.popleft()


class Sender:
    """The sending side of one resident agent, as agentplatform.mailbox.Mailbox is its receiving side."""

    def __init__(
        self,
        agent: str,
        epoch: int,
        host: str,
        luggage: Luggage,
        replay: Replay,
        outbox: Outbox,
        answer: Callable[[int, Answer], None],
        clock: Callable[[], float],
    ) -> None:
        """`answer` answers a call of the agent."""
        self.replay = replay
        self._agent, self._epoch, self._host, self._sent = agent, epoch, host, luggage.sent
        self._outbox, self._answer, self._clock = outbox, answer, clock
        self._calls: dict[Key, int] = {}  # the agent's own numbers of those that it waits for
        self._numbers: dict[str, Numbers] = {}  # by receiver
        self._settling: dict[str, int] = {}  # receiver -> settled, not written yet
        # And written, as all luggage is. A receiver that never had a letter which was given up on takes none after it
        # until it hears of that, also from a host where the agent has settled nothing yet.
        self._settled = {receiver: sent.settled for receiver, sent in luggage.sent.items() if sent.settled}
        letters = [each for sent in luggage.sent.values() for each in sent.letters]  # without a reply
        self._bytes = sum(map(size, letters))
        self._floor = luggage.sent.get(EVERYBODY, Sent()).last
        self._ends = {_key(each): clock() + each.left / 1000 for each in letters if each.left is not None}
        old = [_key(each) for each in letters if each.sequence <= self._floor]
        self._ends |= {key: min(self._ends.get(key, inf), clock() + RESTORED_LIFE) for key in old}
        self._unheard: set[Key] = set()  # answered, and the agent's state does not know yet

    def letter(self, receiver: str, outgoing: Outgoing, cause: Key | None) -> Letter | None:
        """The next one, numbered; None for one that left already, before a crash after which the agent does it again.

        Raises Misuse for what no letter can carry, and Unavailable while too many have no reply.
        """
        check(outgoing.kind, outgoing.body)
        if self._adopted(receiver, outgoing, cause):
            return None
        self._check_room(len(outgoing.body))
        sent = self._sent.setdefault(receiver, Sent())
        sent.last = max(sent.last, self._floor)
        if sent.last > MAX_NUMBER - RESERVED_NUMBERS * 2:  # no count of ours: a host that it was on has set it so high
            raise Misuse(f"{self._agent} has no numbers left for letters to {receiver}")
        settled = sent.settled
        sent.last += 1
        left = None if outgoing.seconds is None else max(0, int(outgoing.seconds * 1000))
        question = outgoing.call if outgoing.then else None
        named = receiver, self._host, outgoing.kind, outgoing.body
        letter = Letter(self._agent, self._epoch, sent.last, settled, *named, left, question)
        sent.letters.append(letter)
        self._bytes += size(letter)
        if left is not None:
            self._ends[_key(letter)] = self._clock() + left / 1000
        if outgoing.call is not None and not outgoing.then:
            self._calls[_key(letter)] = outgoing.call
        return letter

    @property
    def names(self) -> list[str]:
        """That it wrote to, when nobody was known to have them."""
        return [receiver for receiver, sent in self._sent.items() if sent.letters and not AGENT_ID.fullmatch(receiver)]

    def address(self, name: str, receiver: str) -> tuple["asyncio.Future[None]", list[Letter]]:
        """Numbers the letters to that name as letters to this agent. They may leave when what is returned is done."""
        named, sent = self._sent[name], self._sent.setdefault(receiver, Sent())
        letters, loose = [], []
        for old in named.letters:
            new = replace(old, receiver=receiver, sequence=sent.last + 1, settled=sent.settled)
            sent.last = new.sequence
            sent.letters.append(new)
            letters.append(new)
            if (left_early := self.replay.address(old, new)) is not None:
                loose.append(left_early)
            if _key(old) in self._ends:
                self._ends[_key(new)] = self._ends.pop(_key(old))
            if _key(old) in self._calls:
                self._calls[_key(new)] = self._calls.pop(_key(old))
        done = [_key(each) for each in named.letters]
        named.letters = []
        self._outbox.drop_letters(self._agent, name, named.last)  # is written with what is written next
        return self._outbox.checkpoint(self._agent, Change(None, letters=letters, loose=loose, done=done)), letters

    def refuse(self, receiver: str, reason: str) -> list[Letter]:
        """Its letters to that receiver are answered with an error. Returns those whose outcome nobody waits for."""
        letters = [each for each in self._sent[receiver].letters if _key(each) not in self._unheard]
        for letter in letters:
            self._outcome(letter, Answer(False, error_body(reason)))
        return [each for each in letters if each.question is None]

    def loose(self, letter: Letter, outgoing: Outgoing, cause: Key | None) -> Loose:
        """It leaves before the state that knows of it."""
        loose = Loose(letter, cause)
        self.replay.add(loose, outgoing.call)
        return loose

    def reserve(self, letter: Letter) -> "asyncio.Future[None] | None":
        """The letter may be lost, but its number must not be used twice: numbers are written ahead, many at a time.
        Returns what the letter must wait for."""
        numbers = self._numbers.setdefault(letter.receiver, Numbers())
        if letter.sequence > numbers.asked - RESERVED_NUMBERS // 2:
            upto = numbers.asked = letter.sequence + RESERVED_NUMBERS
            write = self._outbox.reserve_numbers(self._agent, letter.receiver, upto)
            numbers.writes.append((upto, write))
            write.add_done_callback(numbers.reserved)
        if letter.sequence <= numbers.written:
            return None
        # Not the last one: later letters would leave before this, when an earlier write is done.
        return next(write for upto, write in numbers.writes if letter.sequence <= upto)

    def replied(self, reply: Reply) -> bool:
        """Whether it answers a question: a sleeping agent must wake to hear it."""
        sent = self._sent.get(reply.sender)
        mine = next((each for each in sent.letters if each.sequence == reply.sequence), None) if sent else None
        if mine is not None and _key(mine) not in self._unheard:
            self._outcome(mine, Answer(reply.ok, reply.body))
        return mine is not None and mine.question is not None

    def expire(self, why_late: Callable[[str], str], offline: Callable[[str], bool]) -> list[Letter]:
        """Answers letters whose time is over with an error. Returns those whose outcome nobody waits for.

        The receiver's host does so too, by its own count: while there is a link to it, its word is waited for a little.
        """
        now, over = self._clock(), []
        for key, end in list(self._ends.items()):
            receiver, sequence = key
            sent = self._sent[receiver]
            if key in self._unheard or now < end + (0.0 if offline(receiver) else GRACE):
                continue
            letter = next(each for each in sent.letters if each.sequence == sequence)
            reason = f"{receiver} did not answer {letter.kind!r} in time: it is {why_late(receiver)}"
            if letter.question is None and key not in self._calls:
                over.append(letter)
            late = OutcomeUnknown(f"{reason}; if it was handled, the answer is lost")
            self._outcome(letter, Answer(False, error_body(late)))
        return over

    def heard(self, questions: Iterable[int]) -> None:
        """The agent's state has the answers to these questions, or waits for them no more."""
        numbers = set(questions)
        for sent in self._sent.values() if numbers else ():
            for letter in [each for each in sent.letters if each.question in numbers]:
                self._settle(letter)

    def _outcome(self, letter: Letter, answer: Answer) -> None:
        """The one that its sender hears of."""
        if letter.question is not None:
            self._unheard.add(_key(letter))
            self._answer(letter.question, answer)
            return
        if self.replay.answered(*_key(letter), answer):
            self._outbox.keep_answer(self._agent, *_key(letter), answer)
        self._settle(letter)
        call = self._calls.pop(_key(letter), None)
        if call is not None:
            self._answer(call, answer)

    def _settle(self, letter: Letter) -> None:
        sent = self._sent[letter.receiver]
        sent.letters.remove(letter)
        self._bytes -= size(letter)
        self._ends.pop(_key(letter), None)
        self._unheard.discard(_key(letter))
        if sent.settled and letter.receiver not in self._numbers:
            self._outbox.drop_letters(self._agent, letter.receiver, sent.settled)
            self._settling[letter.receiver] = sent.settled

    def frozen(self) -> None:
        """The captured state knows of all; a call that waited has heard so. Letters have the life that is left."""
        if self.replay:
            self.replay = Replay()
            self._outbox.drop_loose(self._agent)
        self._unheard.clear()  # if the captured state does not know an answer, it is asked for again
        for sent in self._sent.values():
            sent.letters = [self._now(each) for each in sent.letters]

    @property
    def idle(self) -> bool:
        """Nothing that it sent waits for a reply."""
        return not any(sent.letters for sent in self._sent.values())

    def unanswered(self, receivers: Container[str] | None = None, most: int = RESEND_AT_ONCE) -> Iterator[Letter]:
        """To be sent again, to all or to `receivers`; at most so many to each. The later ones follow when these are
        settled.

        `settled` is as of now: a receiver that was restarted may have forgotten what was settled before. So is the
        epoch: a receiver that has heard of this one hears no earlier one any more.
        """
        for receiver, sent in list(self._sent.items()):
            if receivers is not None and receiver not in receivers:
                continue
            settled = self._settled.get(receiver, 0)
            for letter in sent.letters[:most]:
                if _key(letter) not in self._unheard:
                    yield replace(self._now(letter), epoch=self._epoch, settled=max(settled, letter.settled))

    def _now(self, letter: Letter) -> Letter:
        end = self._ends.get(_key(letter))
        return letter if end is None else replace(letter, left=max(0, int((end - self._clock()) * 1000)))

    def flushed(self, durable: "asyncio.Future[None] | None") -> None:
        """Nobody hears that a letter is settled before that is written: he would forget his reply, and we might ask
        for it again after a crash."""
        settling, self._settling = self._settling, {}
        if durable is None:
            self._settled |= settling
        elif settling:
            durable.add_done_callback(
                lambda done: done.cancelled() or done.exception() or self._settled.update(settling)
            )

    def _adopted(self, receiver: str, outgoing: Outgoing, cause: Key | None) -> bool:
        found = self.replay.adopt(cause, receiver, outgoing.kind, outgoing.body, outgoing.call)
        if found is None:
            return False
        letter, answer = found
        if outgoing.call is None:
            return True
        if answer is not None:
            self._answer(outgoing.call, answer)
        else:
            self._calls[_key(letter)] = outgoing.call
        return True

    def _check_room(self, more: int) -> None:
        count = sum(len(sent.letters) for sent in self._sent.values())
        if self._bytes + more > MAX_OUTBOX_BYTES or count >= MAX_OUTBOX_LETTERS:
            raise Unavailable(f"{self._agent} has {count} letters without a reply; send more when some are answered")


def _key(letter: Letter) -> Key:
    return letter.receiver, letter.sequence

"""The mailbox of one agent: what came for it, in order, and what it has answered. Pure."""

from bisect import bisect_right
from collections import deque

from msgspec.structs import replace

from agentplatform.faults import error_body
from agentplatform.mail import MAX_NUMBER, Letter, Luggage, Memory, Reply, Seen, size
from agentplatform.messages import Answer
from ledger.errors import Unavailable

MAX_BOX_BYTES = 64 * 1024 * 1024  # of bodies that wait in one mailbox; what comes then is sent again later
MAX_MEMORY_BYTES = 8 * 1024 * 1024  # of replies that one mailbox keeps for repeats
MAX_SENDERS = 10_000  # that one mailbox remembers
AHEAD_LETTERS = 32  # so many are with an agent at once, that it need not wait for the next one
AHEAD_BYTES = 1024 * 1024


class Mailbox:
    """The receiving side of one resident agent. It handles one letter at a time; a few more are with it already."""

    def __init__(self, luggage: Luggage) -> None:
        self.luggage = luggage
        self.waiting: deque[Letter] = deque()
        self.in_hand: deque[Letter] = deque()  # with the agent: the one that it handles, and the next ones
        self._in_hand_bytes = 0
        self._begun = 0.0  # when the agent came to the first one in hand
        self.open = False  # closed while the agent is frozen
        self._queued: dict[str, int] = {}  # sender -> the highest sequence that waits or is in hand
        self._waiting_bytes = 0
        self._ends: dict[tuple[str, int], float] = {}  # (sender, sequence) -> when a letter's life is over
        self._saved: dict[str, int] = {}  # sender -> handled up to here at the last checkpoint; of those heard since
        # (sender, sequence) -> a late reply, given since the last checkpoint and not settled yet: a looser agent may go
        # on for years without one.
        self._late: dict[tuple[str, int], Reply] = {}
        self._written = set(luggage.senders)  # senders of whom a checkpoint may have something
        self._forgotten: dict[str, int] = {}  # sender -> replies up to here need not be kept any more
        self._memory_bytes = sum(map(size, (reply for memory in luggage.senders.values() for reply in memory.replies)))

    def take(self, letter: Letter, now: float = 0.0, proved: int = MAX_NUMBER) -> Reply | None:
        """Queues a letter that is next in its order; a repeat is answered from memory.

        A letter that leaves a gap, or finds no room, is dropped: its sender sends it again. Of the sender's epoch it
        remembers what is `proved`: else a host that names a high one would keep the sender's own letters out for ever.
        """
        memory = self.luggage.senders.get(letter.sender, Memory())
        if letter.epoch < memory.epoch:
            return None
        memory.epoch = max(memory.epoch, min(letter.epoch, proved))
        self.settle(letter.sender, letter.settled)
        if letter.sequence <= memory.handled:
            return next((reply for reply in memory.replies if reply.sequence == letter.sequence), None)
        # What the sender settled without us it gave up on: no need to wait for it.
        last = max(memory.handled, letter.settled, self._queued.get(letter.sender, 0))
        if letter.sequence == last + 1 and self._waiting_bytes + size(letter) <= MAX_BOX_BYTES:
            self.luggage.senders[letter.sender] = memory
            self.waiting.append(letter)
            self._queued[letter.sender] = letter.sequence
            self._waiting_bytes += size(letter)
            if letter.left is not None:
                self._ends[letter.sender, letter.sequence] = now + letter.left / 1000
        return None

    def settle(self, sender: str, upto: int) -> None:
        """Forgets the replies that `sender` will not ask for again."""
        memory = self.luggage.senders.get(sender)
        while memory is not None and memory.replies and memory.replies[0].sequence <= upto:
            settled = memory.replies.pop(0)
            self._memory_bytes -= size(settled)
            self._late.pop((sender, settled.sequence), None)
            if sender in self._written:
                self._forgotten[sender] = upto

    def seconds(self, letter: Letter, now: float) -> float | None:
        """So much life a letter here has left; None: no end."""
        end = self._ends.get((letter.sender, letter.sequence))
        return None if end is None else end - now

    def expired(self, now: float) -> Reply | None:
        """An error in answer to the next letter, if its time is over and its turn has come. It is not handled."""
        if not self.open or not self.waiting or any(each.sender == self.waiting[0].sender for each in self.in_hand):
            return None
        left = self.seconds(self.waiting[0], now)
        if left is None or left > 0:
            return None
        letter = self.waiting.popleft()
        reason = f"{letter.receiver} did not come to {letter.kind!r} in time: it was not handled"
        return self._done(letter, Answer(False, error_body(Unavailable(reason, retry_after=1.0))))

    def left(self, now: float) -> list[Letter]:
        """All that wait, as they are now: with the life that they have left."""
        letters = []
        for letter in self.waiting:
            seconds = self.seconds(letter, now)
            left = None if seconds is None else max(0, int(seconds * 1000))
            letters.append(replace(letter, left=left))
        return letters

    def next(self, now: float = 0.0) -> Letter | None:
        """The next letter that the agent should have, if it is awake and has not enough; never one that is too late."""
        if not self.open or not self.waiting:
            return None
        left = self.seconds(self.waiting[0], now)
        if left is not None and left <= 0:
            return None
        if self.in_hand and (len(self.in_hand) >= AHEAD_LETTERS or self._in_hand_bytes >= AHEAD_BYTES):
            return None
        letter = self.waiting.popleft()
        if not self.in_hand:
            self._begun = now
        self.in_hand.append(letter)
        self._in_hand_bytes += size(letter)
        return letter

    def at_work(self, now: float) -> tuple[Letter, float] | None:
        """The letter that the agent handles, and for how many seconds; None: it handles none."""
        return (self.in_hand[0], now - self._begun) if self.in_hand else None

    def handled(self, answer: Answer | None, now: float = 0.0) -> Reply | None:
        """The agent is done with the first letter in hand. None when there is none (the agent answered twice), or when
        it will answer later."""
        if not self.in_hand:
            return None
        letter = self.in_hand.popleft()
        self._begun = now
        self._in_hand_bytes -= size(letter)
        return self._done(letter, answer)

    def _done(self, letter: Letter, answer: Answer | None) -> Reply | None:
        self._waiting_bytes -= size(letter)
        self._ends.pop((letter.sender, letter.sequence), None)
        if self._queued[letter.sender] == letter.sequence:
            del self._queued[letter.sender]
        senders = self.luggage.senders
        memory = senders[letter.sender] = senders.pop(letter.sender, Memory())  # to the end: heard just now
        self._saved.setdefault(letter.sender, max(memory.handled, letter.settled))
        memory.handled = letter.sequence
        reply = None
        if answer is not None:
            reply = Reply(letter.receiver, letter.sender, letter.sequence, letter.origin, answer.ok, answer.body)
            memory.replies.append(reply)
            self._memory_bytes += size(reply)
        self._forget_the_silent()
        return reply

    def answered_later(self, reply: Reply) -> bool:
        """The agent answers a letter that it handled before. False for one that it has answered, or never had."""
        memory = self.luggage.senders.get(reply.receiver)
        if memory is None or reply.sequence > memory.handled or not memory.keep(reply):
            return False
        self._late[reply.receiver, reply.sequence] = reply
        self._memory_bytes += size(reply)
        self._forget_the_silent()
        return True

    def is_new(self, reply: Reply) -> bool:
        """Whether it answers a letter that was handled since the last checkpoint."""
        return reply.receiver in self._saved and reply.sequence > self._saved[reply.receiver]

    def alone(self, late: Reply) -> Seen | None:
        """What `expired` gave, for a checkpoint of its own. None while no checkpoint has letters that its sender sent
        before, as with looser ones: after a crash those would not come again."""
        if self._saved[late.receiver] < late.sequence - 1:
            return None
        del self._saved[late.receiver]
        self._written.add(late.receiver)
        return Seen(late.receiver, late.sequence, self.luggage.senders[late.receiver].epoch, late)

    def changes(self) -> tuple[list[Seen], list[tuple[str, int]]]:
        """For a checkpoint: what was handled since the last one, and up to where the replies of a sender may go."""
        senders, seen = self.luggage.senders, []
        for sender, saved in self._saved.items():
            if (memory := senders.get(sender)) is None:
                continue
            fresh = memory.replies[bisect_right(memory.replies, saved, key=lambda reply: reply.sequence) :]
            seen += [Seen(sender, reply.sequence, memory.epoch, reply) for reply in fresh]
            if not fresh or fresh[-1].sequence != memory.handled:
                seen.append(Seen(sender, memory.handled, memory.epoch, None))
        for reply in self._late.values():
            memory = senders.get(reply.receiver)
            if memory is not None and reply in memory.replies and not self.is_new(reply):
                seen.append(Seen(reply.receiver, reply.sequence, memory.epoch, reply))
        forgotten = [
            (sender, min(upto, senders[sender].handled - 1) if sender in senders else upto)
            for sender, upto in self._forgotten.items()
        ]
        self._written.update(sender for sender in self._saved if sender in senders)
        self._written.difference_update(sender for sender in self._forgotten if sender not in senders)
        self._saved, self._forgotten, self._late = {}, {}, {}
        return seen, forgotten

    def close(self) -> None:
        """The agent is frozen: what it has not answered was not handled, and goes back to the head of the queue."""
        self.open = False
        self.waiting.extendleft(reversed(self.in_hand))
        self.in_hand.clear()
        self._in_hand_bytes = 0

    def _forget_the_silent(self) -> None:
        """Clients come and go without a word: the longest silent lose their replies, and in the end their place."""
        senders = self.luggage.senders
        if self._memory_bytes <= MAX_MEMORY_BYTES and len(senders) <= MAX_SENDERS:
            return
        newest = next(reversed(senders))
        for sender, memory in senders.items():
            if self._memory_bytes <= MAX_MEMORY_BYTES:
                break
            self.settle(sender, memory.handled - 1 if sender == newest else memory.handled)
        silent = next((sender for sender in senders if sender not in self._queued), newest)
        if len(senders) > MAX_SENDERS and silent != newest:
            self.settle(silent, senders[silent].handled)
            if silent in self._written:
                self._forgotten[silent] = senders[silent].handled
            del senders[silent]
            self._saved.pop(silent, None)

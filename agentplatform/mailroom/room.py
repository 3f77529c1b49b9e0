"""Where all post of a host comes through: from its residents and clients, and from other hosts."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Any

from agentplatform.faults import error_body
from agentplatform.mail import MAX_NUMBER, Change, Letter, Luggage, Post, Reply, Settled, check
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.addressing import Addressing
from agentplatform.mailroom.clients import Clients
from agentplatform.mailroom.leaving import Leaving
from agentplatform.mailroom.roads import Roads, ended
from agentplatform.mailroom.sender import RESEND_AFTER_NEWS, RESEND_AT_ONCE, Sender
from agentplatform.mailroom.standings import Standings
from agentplatform.mailroom.vouching import may_answer, proved
from agentplatform.messages import Answer, Checkpoint, Delivery, Later, Outgoing, Requires
from agentplatform.outbox import Outbox
from agentplatform.replay import Key, Replay
from agentplatform.subscriptions import Subscribed
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from services.eds.rules import Group
from services.rms.resources import Needs

_POST: Any = Post
LONG = 5.0  # seconds for one message, of which people are told
MAX_HELD = 32  # letters for an agent that is being woken; later ones are sent again


class Mailroom:
    def __init__(
        self,
        host: str,
        roads: Roads,
        release: Callable[[str, Callable[[], None]], None],
        outbox: Outbox,
        deliver: Callable[[str, Delivery], None],
        answer: Callable[[str, int, Answer], None],
        wake: Callable[[str], None],
        announce: Callable[[Subscribed], None],
        broken: Callable[[str], None],
        note: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`release` is the gateway's, `deliver` and `answer` the runner's; `wake(agent)` brings back an agent that was
        deactivated, and may be called again before that is done; `announce` tells the other hosts what an agent here
        has subscribed to; `broken(reason)` ends the host when what an agent did was not written; `note(agent, text)`
        tells its owner."""
        self.host = host
        self.boxes: dict[str, Mailbox] = {}
        self.clients = Clients(host, self.route, roads.why_late, clock)
        self._standings = Standings(host, outbox, announce, note)
        self.subscriptions = self._standings.subscriptions
        self._epochs: dict[str, int] = {}  # of residents, those that are deactivated too
        self._senders: dict[str, Sender] = {}
        self._busy: dict[str, Sender] = {}  # those with letters that have no reply, and some more
        self._asleep: dict[str, list[Letter]] = {}  # deactivated agents, and what came for them
        self._roads, self._outbox = roads, outbox
        self._whereabouts = roads.whereabouts
        self._deliver, self._answer, self._wake = deliver, answer, wake
        self._note, self._clock = note, clock
        self._on_hold = False
        self.settled: Callable[[str], None] = lambda agent: None  # told when an agent goes on here, or is gone
        self._tickets = itertools.count(1)
        self._given: dict[str, deque[int]] = {}  # tickets of the letters that are with the agent, in their order
        self._leaving = Leaving(release, self.route, outbox, broken)
        self._addressing = Addressing(self._whereabouts, self.subscriptions, self._leaving, note)

    def hold(self, on_hold: bool) -> None:
        """From now on no letter is given to an agent: what it does could not be written. Or they are again."""
        self._on_hold = on_hold
        for agent in self.boxes:
            self._pump(agent)

    # Residents

    def admit(
        self,
        agent: str,
        epoch: int,
        luggage: Luggage,
        waiting: Iterable[Letter] = (),
        replay: Replay | None = None,
    ) -> None:
        """A new resident, or one that wakes. Its letters are delivered from now on."""
        box = self.boxes[agent] = Mailbox(luggage)
        self._take_on(agent, epoch, luggage, Replay() if replay is None else replay)
        for letter in (*waiting, *self._asleep.pop(agent, ())):
            box.take(letter, self._clock(), 0)  # whoever brought it
        self.reopen(agent)

    def _take_on(self, agent: str, epoch: int, luggage: Luggage, replay: Replay) -> None:
        self._epochs[agent] = epoch
        answer = lambda call, answer: self._answer(agent, call, answer)  # noqa: E731
        sender = Sender(agent, epoch, self.host, luggage, replay, self._outbox, answer, self._clock)
        self._senders[agent] = sender
        if not sender.idle:
            self._busy[agent] = sender
        self._standings.brought(agent, epoch, luggage)

    def close(self, agent: str) -> Luggage:
        """The agent is frozen. Its letters wait; the luggage is as it was at the freeze."""
        box = self.boxes[agent]
        box.close()
        self._given.pop(agent, None)
        self._senders[agent].frozen()
        return box.luggage

    def sleep(self, agent: str, epoch: int, luggage: Luggage) -> None:
        """The agent is deactivated: it lives here, and no worker has it. A letter for it wakes it; what it has sent is
        sent again until it is answered, also after a restart of the host, if this is called for it then."""
        waiting = self.boxes[agent].left(self._clock()) if agent in self.boxes else []
        self.remove(agent)
        self._take_on(agent, epoch, luggage, Replay())
        if agent not in self._busy:
            del self._senders[agent]  # nothing that it sent waits for a reply
        self._asleep[agent] = waiting
        if waiting:
            self._wake(agent)

    def pause(self, agent: str) -> None:
        """The agent gets nothing more; what it has in hand it may still answer."""
        self.boxes[agent].open = False

    def reopen(self, agent: str) -> None:
        self.boxes[agent].open = True
        self._pump(agent)
        self.settled(agent)

    def waiting(self, agent: str) -> list[Letter]:
        """What may go with it to another host: not what is not written here yet."""
        return [letter for letter in self.boxes[agent].left(self._clock()) if self._leaving.written(letter)]

    def remove(self, agent: str) -> None:
        senders = self._senders, self._busy
        tables: tuple[dict[str, Any], ...] = (self.boxes, *senders, self._given, self._epochs, self._asleep)
        for table in tables:
            table.pop(agent, None)
        self._leaving.transacting.discard(agent)
        self.settled(agent)

    # What residents belong to, and need

    def requires(self, agent: str) -> Requires:
        """Of a resident that is awake; of others, as of one that said nothing."""
        box = self.boxes.get(agent)
        return Requires(Needs()) if box is None else box.luggage.standing.requires

    async def group(self, group: Group) -> None:
        """From now on its agents, all of them residents, are decided about together, and what was another group of
        them, or of its name, is none any more. Returns when that is durable."""
        for agent, box in self.boxes.items():
            before = box.luggage.standing.group
            if agent not in group.agents and before is not None and group.replaces(before):
                self._standings.join(agent, box.luggage, None)
        for agent in group.agents:
            self._standings.join(agent, self.boxes[agent].luggage, group)
        if (durable := self._outbox.flush()) is not None:
            await durable

    def ended(self, agent: str, at: int) -> None:
        """It ended here, `at` milliseconds since 1970: whoever writes to it is told."""
        self.subscriptions.forget(agent)
        self._outbox.keep_end(agent, at)

    def topics_here(self) -> list[Subscribed]:
        """What agents that live here have subscribed to: for a host that comes up."""
        return [each for each in map(self.subscriptions.of, self._epochs) if each is not None]

    # From agents (the runner's upcalls)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        """What an agent is, and did since the last time: one transaction. Its answers and letters leave when that is
        durable. Raises PeerFault for a state that no honest worker sends."""
        box = self.boxes.get(agent)
        if box is None:
            return  # a late frame of an agent that left
        if checkpoint.loose:
            self._leaving.transacting.discard(agent)
        elif any(answer is not None for _, answer in checkpoint.answers):
            self._leaving.transacting.add(agent)
        sender, letters, loose = self._senders[agent], [], []
        if checkpoint.topics:
            self._standings.subscribe(agent, self._epochs[agent], box.luggage, checkpoint.topics)
        if checkpoint.requires is not None:
            self._standings.require(agent, box.luggage, checkpoint.requires)
        if checkpoint.heard:
            sender.heard(checkpoint.heard)
        for outgoing in checkpoint.letters:
            for letter in self._letters(agent, outgoing):
                letters.append(letter)
                if outgoing.call is not None and not outgoing.then:
                    loose.append(sender.loose(letter, outgoing, _cause(box, outgoing)))
        replies = [self._reply(agent, box, *each) for each in checkpoint.answers]
        replies += [self._late(agent, box, *each) for each in checkpoint.late]
        if checkpoint.answers_at_once:
            for reply in filter(None, replies):
                self._leaving.now(reply)
            replies = []
        if checkpoint.answers_alone:
            self._pump(agent)
            return
        posts: list[Letter | Reply] = [post for post in (*replies, *letters) if post is not None]
        seen, forgotten = ([], []) if checkpoint.answers_at_once else box.changes()
        change = Change(
            checkpoint.state,
            seen,
            forgotten,
            letters,
            loose,
            sender.replay.checkpointed(checkpoint.calling, box.luggage.senders),
        )
        self._leaving.when(self._outbox.checkpoint(agent, change), posts)
        self._pump(agent)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        """Numbers what an agent sends and keeps it; it leaves when it is durable."""
        box = self.boxes.get(agent)
        if box is None:
            return
        sender = self._senders[agent]
        for letter in self._letters(agent, outgoing):
            if outgoing.loose:
                loose = sender.loose(letter, outgoing, _cause(box, outgoing))
                self._leaving.when(self._outbox.keep_letter(letter, loose), [letter])
            elif outgoing.kept:
                self._leaving.when(self._outbox.keep_letter(letter), [letter])
            elif (durable := sender.reserve(letter)) is not None:
                self._leaving.when(durable, [letter])
            else:
                self._leaving.now(letter)

    def _letters(self, agent: str, outgoing: Outgoing) -> list[Letter]:
        """One, as a rule; none for what is refused or left already; to a topic one for each subscriber."""
        sender, cause = self._senders[agent], _cause(self.boxes[agent], outgoing)
        letters: list[Letter] = []
        self._busy[agent] = sender
        try:
            receivers = self._addressing.receivers(agent, sender, outgoing)
            numbered = (sender.letter(receiver, outgoing, cause) for receiver in receivers)
            letters.extend(letter for letter in numbered if letter is not None)
        except (Misuse, Unavailable) as error:
            if outgoing.call is not None:
                self._answer(agent, outgoing.call, Answer(False, error_body(error)))
            else:
                self._note(agent, f"{outgoing.kind!r} was not sent to {outgoing.receiver}: {error}")
        return letters

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        """An answer that rests on no checkpoint."""
        box = self.boxes.get(agent)
        reply = None if box is None else self._reply(agent, box, ticket, answer)
        if reply is not None:
            self._leaving.transacting.discard(agent)
            self._leaving.now(reply)
            self._pump(agent)

    def _reply(self, agent: str, box: Mailbox, ticket: int, answer: Answer | None) -> Reply | None:
        given = self._given.get(agent)
        if not given or given[0] != ticket:
            return None  # it handles them in their order
        given.popleft()
        return box.handled(None if answer is None else _checked(answer), self._clock())

    def _late(self, agent: str, box: Mailbox, later: Later, answer: Answer) -> Reply | None:
        """To a letter that it handled before: its worker has kept where the answer goes."""
        answer = _checked(answer)
        reply = Reply(agent, later.sender, later.sequence, later.origin, answer.ok, answer.body)
        return reply if box.answered_later(reply) else None

    # On the way

    def receive(self, host: str, raw: bytes) -> None:
        """Post from another host. Raises PeerFault for what is none, or can never be its own."""
        post: Post = codec.decode(raw, _POST, host)
        if isinstance(post, Reply):
            taken = not may_answer(post.sender, host, self._whereabouts) or self._take_reply(post)
        elif post.sender in self._epochs:
            if isinstance(post, Letter) and post.epoch < self._epochs[post.sender]:
                return  # it was on its way while its sender came here: it is sent from here again
            raise PeerFault(host, f"sent a letter in the name of {post.sender}, which lives here")
        elif (epoch := proved(post, host, self._whereabouts)) is None:
            taken = True
            self._roads.doubt(post.sender, host)
        else:
            taken = self._take(post, epoch)
        if not taken:
            self._roads.astray(post.receiver, host)

    def brought(self, letter: Letter) -> None:
        """It waited elsewhere for an agent that is here now."""
        self._take(letter, 0)

    def route(self, post: Post) -> None:
        """Post from here, or an answer to what came from elsewhere."""
        if not self._take(post):
            self._roads.out(post)

    def resend(self, agents: Container[str] | None = None) -> None:
        """Sends again what has no reply yet: after a pause or a link's return; to `agents`, and from those of them that
        live here, after news of them."""
        # Not of an agent that is frozen: what it has sent is in its luggage.
        awake = [each for each in self._busy.items() if each[0] not in self.boxes or self.boxes[each[0]].open]
        self._addressing.name(awake)
        durable = self._outbox.flush()
        for sender in self._busy.values():
            sender.flushed(durable)
        self._leaving.again(self._unanswered(agents))

    def _unanswered(self, agents: Container[str] | None = None) -> list[Letter]:
        letters = [each for each in self.clients.unanswered() if agents is None or each.receiver in agents]
        most = RESEND_AT_ONCE if agents is None else RESEND_AFTER_NEWS
        for agent, sender in self._busy.items():
            letters += sender.unanswered(None if agents is None or agent in agents else agents, most)
        return letters

    def long_at_work(self, agent: str) -> str | None:
        """On which message, and for how long, for people; None for one that comes to the next soon."""
        now = self._clock()
        work = self.boxes[agent].at_work(now) if agent in self.boxes else None
        if work is None or work[1] < LONG:
            return None
        letter, seconds = work
        behind = len(self.boxes[agent].waiting) + len(self.boxes[agent].in_hand) - 1
        return f"it is at {letter.kind!r} from {letter.sender} for {seconds:.0f} s, with {behind} more behind it"

    def remind(self) -> None:
        """Once in a while: what is too late is answered with an error, and who does not answer is looked for."""
        for agent, sender in list(self._busy.items()):
            for letter in sender.expire(self._roads.why_late, self._roads.offline):
                self._note(agent, f"{letter.kind!r} to {letter.receiver} had no answer in time")
            if sender.idle:
                del self._busy[agent]
                if agent in self._asleep:
                    del self._senders[agent]
        for agent in [agent for agent, box in self.boxes.items() if box.waiting]:
            self._pump(agent)
        self._roads.round({letter.receiver for letter in self._unanswered()} - self._epochs.keys())
        self.resend()

    def _take(self, post: Post, proved: int = MAX_NUMBER) -> bool:
        """Whether it is for somebody here, or for one that ended. `proved`: of its sender's epoch."""
        match post:
            case Letter():
                return self._take_letter(post, proved)
            case Reply():
                return self._take_reply(post)
            case Settled(sender, sequence, receiver):
                if receiver in self.boxes:
                    self.boxes[receiver].settle(sender, sequence)
                return receiver in self._epochs

    def _take_letter(self, letter: Letter, proved: int) -> bool:
        agent = letter.receiver
        if agent in self.boxes:
            repeat = self.boxes[agent].take(letter, self._clock(), proved)
            if repeat is not None:
                self._leaving.again([repeat])  # it may be held still
            self._pump(agent)
            return True
        if agent in self._asleep:
            if len(self._asleep[agent]) < MAX_HELD:
                self._asleep[agent].append(letter)
            self._wake(agent)
            return True
        place = self._whereabouts.believed(agent)
        if place is None or place.ended is None:
            return False
        error = error_body(f"{agent} {ended(place)}")
        self.route(Reply(agent, letter.sender, letter.sequence, letter.origin, False, error))
        return True

    def _take_reply(self, reply: Reply) -> bool:
        if self.clients.replied(reply):
            self._roads.answered(reply.sender)
            return True
        if (sender := self._senders.get(reply.receiver)) is not None:
            self._roads.answered(reply.sender)
            if sender.replied(reply) and reply.receiver in self._asleep:
                self._wake(reply.receiver)
        return reply.receiver in self._epochs

    def _pump(self, agent: str) -> None:
        box = self.boxes[agent]
        while box.waiting and not self._on_hold:
            now = self._clock()
            while (late := box.expired(now)) is not None:
                self._refuse(agent, box, late)
            if (letter := box.next(now)) is None:
                return
            ticket = next(self._tickets)
            self._given.setdefault(agent, deque()).append(ticket)
            named = letter.sender, letter.kind, letter.body, letter.sequence, letter.origin
            self._deliver(agent, Delivery(ticket, *named, box.seconds(letter, now)))

    def _refuse(self, agent: str, box: Mailbox, late: Reply) -> None:
        """It says that a letter was not handled: after a crash, a copy that comes late must not be handled either."""
        if (seen := box.alone(late)) is None:
            self._leaving.now(late)
        else:
            self._leaving.when(self._outbox.checkpoint(agent, Change(None, [seen])), [late])


def _cause(box: Mailbox, outgoing: Outgoing) -> Key | None:
    """The message in whose handling it was sent. An agent handles the first that it has in hand."""
    if not outgoing.handling or not box.in_hand:
        return None
    return box.in_hand[0].sender, box.in_hand[0].sequence


def _checked(answer: Answer) -> Answer:
    """Or an error in its place."""
    try:
        check("answer", answer.body)
    except Misuse as error:
        return Answer(False, error_body(str(error)))
    return answer

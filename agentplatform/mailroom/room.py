"""Where all post of a host comes through: from its residents and clients, and from other hosts."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agentplatform.mail import Change, Letter, Luggage, Post, Reply, Settled, check
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.clients import Clients
from agentplatform.mailroom.sender import Sender
from agentplatform.messages import Answer, Checkpoint, Delivery, Later, Outgoing
from agentplatform.outbox import Outbox
from agentplatform.parcel.manifest import AGENT_ID
from agentplatform.replay import Key, Replay
from agentplatform.whereabouts import Whereabouts
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable

_POST: Any = Post
_Key = tuple[bool, str, str, int]  # of a letter (True) or reply: sender, receiver, sequence


class Mailroom:
    def __init__(
        self,
        host: str,
        whereabouts: Whereabouts,
        release: Callable[[str, Callable[[], None]], None],
        outbox: Outbox,
        send: Callable[[str, bytes], object],
        deliver: Callable[[str, Delivery], None],
        answer: Callable[[str, int, Answer], None],
        went: Callable[[str], tuple[str, int] | None],
        broken: Callable[[str], None],
        note: Callable[[str, str], None],
    ) -> None:
        """`release` is the gateway's, `send(host, bytes)` the link's, `deliver` and `answer` the runner's; `went`
        gives the forwarding address of an agent that left this host; `broken(reason)` ends the host when what an agent
        did was not written; `note(agent, text)` tells its owner."""
        self.host = host
        self.boxes: dict[str, Mailbox] = {}
        self.clients = Clients(host, whereabouts, self.route)
        self._senders: dict[str, Sender] = {}
        self._whereabouts, self._release, self._outbox = whereabouts, release, outbox
        self._send, self._deliver, self._answer, self._went = send, deliver, answer, went
        self._broken, self._note = broken, note
        self._unwritten: set[_Key] = set()  # what may not leave yet
        self._tickets = itertools.count(1)
        self._given: dict[str, deque[int]] = {}  # tickets of the letters that are with the agent, in their order
        self._transacting: set[str] = set()  # agents whose answers rest on checkpoints

    # Residents

    def admit(
        self,
        agent: str,
        epoch: int,
        luggage: Luggage,
        waiting: Iterable[Letter] = (),
        replay: Replay | None = None,
    ) -> None:
        """A new resident. Its letters are delivered from now on."""
        box = self.boxes[agent] = Mailbox(luggage)
        self._senders[agent] = Sender(
            agent,
            epoch,
            self.host,
            luggage,
            Replay() if replay is None else replay,
            self._outbox,
            lambda call, answer: self._answer(agent, call, answer),
        )
        for letter in waiting:
            box.take(letter)
        self.reopen(agent)

    def close(self, agent: str) -> Luggage:
        """The agent is frozen. Its letters wait; the luggage is as it was at the freeze."""
        box = self.boxes[agent]
        box.close()
        self._given.pop(agent, None)
        self._senders[agent].frozen()
        return box.luggage

    def pause(self, agent: str) -> None:
        """The agent gets nothing more; what it has in hand it may still answer."""
        self.boxes[agent].open = False

    def reopen(self, agent: str) -> None:
        self.boxes[agent].open = True
        self._pump(agent)

    def waiting(self, agent: str) -> list[Letter]:
        return list(self.boxes[agent].waiting)

    def remove(self, agent: str) -> None:
        for table in (self.boxes, self._senders, self._given):
            table.pop(agent, None)
        self._transacting.discard(agent)

    # From agents (the runner's upcalls)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        """What an agent is, and did since the last time: one transaction. Its answers and letters leave when that is
        durable. Raises PeerFault for a state that no honest worker sends."""
        box = self.boxes.get(agent)
        if box is None:
            return  # a late frame of an agent that left
        if checkpoint.answers:
            self._transacting.add(agent)
        sender, letters, loose = self._senders[agent], [], []
        for outgoing in checkpoint.letters:
            if (letter := self._letter(agent, outgoing)) is not None:
                letters.append(letter)
                if outgoing.call is not None:
                    loose.append(sender.loose(letter, outgoing, _cause(box, outgoing)))
        replies = [self._reply(agent, box, *each) for each in checkpoint.answers]
        replies += [self._late(agent, box, *each) for each in checkpoint.late]
        posts: list[Letter | Reply] = [post for post in (*replies, *letters) if post is not None]
        seen, forgotten = box.changes()
        change = Change(
            checkpoint.state,
            seen,
            forgotten,
            letters,
            loose,
            sender.replay.checkpointed(checkpoint.calling, box.luggage.senders),
            box.luggage.group,
        )
        self._leave(posts, self._outbox.checkpoint(agent, change))
        self._pump(agent)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        """Numbers what an agent sends and keeps it; it leaves when it is durable."""
        box = self.boxes.get(agent)
        if box is None or (letter := self._letter(agent, outgoing)) is None:
            return
        if outgoing.loose:
            loose = self._senders[agent].loose(letter, outgoing, _cause(box, outgoing))
            self._leave([letter], self._outbox.keep_letter(letter, loose))
        elif outgoing.kept:
            self._leave([letter], self._outbox.keep_letter(letter))
        elif (durable := self._senders[agent].reserve(letter)) is not None:
            self._leave([letter], durable)
        else:
            self._release(agent, lambda: self.route(letter))

    def _letter(self, agent: str, outgoing: Outgoing) -> Letter | None:
        receiver = outgoing.receiver
        try:
            if not AGENT_ID.fullmatch(receiver):  # a whole id needs no news: after a restart there is none yet
                receiver = self._whereabouts.resolve(receiver)
            return self._senders[agent].letter(receiver, outgoing, _cause(self.boxes[agent], outgoing))
        except (Misuse, Unavailable) as error:
            if outgoing.call is not None:
                self._answer(agent, outgoing.call, Answer(False, codec.encode(str(error))))
            else:
                self._note(agent, f"{outgoing.kind!r} was not sent to {outgoing.receiver}: {error}")
            return None

    def _leave(self, posts: Sequence[Letter | Reply], durable: "asyncio.Future[None]") -> None:
        """When `durable` is. If that fails, never: the agent is ahead of what is written of it.

        Within the host they need not wait for the disk where what comes of them is written behind them: the log
        has it in this order, or has none of it.
        """
        for post in posts:
            if post.receiver in self._transacting:
                self.route(post)
        posts = [post for post in posts if post.receiver not in self._transacting]
        self._unwritten.update(map(_key, posts))

        def leave(done: "asyncio.Future[None]") -> None:
            if done.cancelled():
                return
            if (error := done.exception()) is not None:
                self._broken(f"the custody journal did not take what an agent did: {error}")
                return
            for post in posts:
                self._unwritten.discard(_key(post))
                self.route(post)

        durable.add_done_callback(leave)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        """An answer that rests on no checkpoint."""
        box = self.boxes.get(agent)
        reply = None if box is None else self._reply(agent, box, ticket, answer)
        if reply is not None:
            self._transacting.discard(agent)
            self._release(agent, lambda: self.route(reply))
            self._pump(agent)

    def _reply(self, agent: str, box: Mailbox, ticket: int, answer: Answer | None) -> Reply | None:
        given = self._given.get(agent)
        if not given or given[0] != ticket:
            return None  # it handles them in their order
        given.popleft()
        return box.handled(None if answer is None else _checked(answer))

    def _late(self, agent: str, box: Mailbox, later: Later, answer: Answer) -> Reply | None:
        """To a letter that it handled before: its worker has kept where the answer goes."""
        answer = _checked(answer)
        reply = Reply(agent, later.sender, later.sequence, later.origin, answer.ok, answer.body)
        return reply if box.answered_later(reply) else None

    # On the way

    def receive(self, host: str, raw: bytes) -> None:
        """Post from another host. Raises PeerFault for what is none."""
        post: Post = codec.decode(raw, _POST, host)
        if post.sender in self.boxes and not isinstance(post, Reply):
            raise PeerFault(host, f"sent a letter in the name of {post.sender}, which lives here")
        self.route(post, came_from=host)

    def route(self, post: Post, came_from: str | None = None) -> None:
        match post:
            case Letter():
                self._route_letter(post, came_from)
            case Reply():
                self._route_reply(post, came_from)
            case Settled(sender, sequence, receiver):
                box = self.boxes.get(receiver)
                if box is not None:
                    box.settle(sender, sequence)
                else:
                    self._forward(post, self._whereabouts.host_of(receiver), came_from)

    def resend(self) -> None:
        """Sends again what has no reply yet: after a pause, a link's return, or news of an agent's place."""
        for letter in self.clients.unanswered():
            self.route(letter)
        durable = self._outbox.flush()
        for sender in list(self._senders.values()):
            sender.flushed(durable)
            for letter in sender.unanswered():
                if _key(letter) not in self._unwritten:
                    self.route(letter)

    def _route_letter(self, letter: Letter, came_from: str | None) -> None:
        box = self.boxes.get(letter.receiver)
        if box is not None:
            repeat = box.take(letter)
            if repeat is not None and _key(repeat) not in self._unwritten:
                self._release(letter.receiver, lambda: self.route(repeat))  # it may be held still
            self._pump(letter.receiver)
            return
        host = self._whereabouts.host_of(letter.receiver)
        if host == "":
            error = codec.encode(f"{letter.receiver} was disposed of")
            self.route(Reply(letter.receiver, letter.sender, letter.sequence, letter.origin, False, error))
        else:
            self._forward(letter, host, came_from)

    def _route_reply(self, reply: Reply, came_from: str | None) -> None:
        if self.clients.replied(reply):
            return
        sender = self._senders.get(reply.receiver)
        if sender is not None:
            sender.replied(reply)
        else:
            self._forward(reply, self._whereabouts.host_of(reply.receiver) or reply.origin, came_from)

    def _forward(self, post: Post, host: str | None, came_from: str | None) -> None:
        """What is our own goes where the receiver is believed to be. What another host sent goes on only along our own
        journal's forwarding address: by hearsay it could go in circles for ever."""
        if came_from is not None:
            address = self._went(post.receiver)
            host = address[0] if address is not None else None
        if host and host not in (self.host, came_from):
            self._send(host, codec.encode(post))

    def _pump(self, agent: str) -> None:
        box = self.boxes[agent]
        while (letter := box.next()) is not None:
            ticket = next(self._tickets)
            self._given.setdefault(agent, deque()).append(ticket)
            self._deliver(
                agent, Delivery(ticket, letter.sender, letter.kind, letter.body, letter.sequence, letter.origin)
            )


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
        return Answer(False, codec.encode(str(error)))
    return answer


def _key(post: Letter | Reply) -> _Key:
    return isinstance(post, Letter), post.sender, post.receiver, post.sequence

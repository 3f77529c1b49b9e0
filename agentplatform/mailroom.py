"""The mailroom of a host: takes letters from agents, clients and other hosts to where they go.

The rules are in agentplatform.mail; here they meet the wire, the runner and the disk.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from agentplatform.mail import (
    LETTER_BYTES,
    MAX_BODY_BYTES,
    MAX_KIND,
    MAX_OUTBOX_BYTES,
    MAX_OUTBOX_LETTERS,
    Change,
    Letter,
    Loose,
    Luggage,
    Mailbox,
    Post,
    Reply,
    Sent,
    Settled,
)
from agentplatform.messages import Answer, Checkpoint, Delivery, Later, Outgoing
from agentplatform.outbox import Outbox
from agentplatform.parcel.manifest import AGENT_ID
from agentplatform.replay import Replay
from agentplatform.whereabouts import Whereabouts
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable

_POST: Any = Post
_Key = tuple[bool, str, str, int]  # of a letter (True) or reply: sender, receiver, sequence
RESERVED_NUMBERS = 1024  # written ahead for letters that are not kept
RESEND_AT_ONCE = 64  # letters to one receiver that are sent again in one round
MAX_IDLE_CLIENTS = 1_000  # whose numbering is kept


class Client:
    """One client of this host: its numbering, and the letters that it waits for."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.pending: dict[tuple[str, int], tuple[Letter, asyncio.Future[Reply]]] = {}

    def settled(self, receiver: str) -> int:
        open_ones = [sequence for agent, sequence in self.pending if agent == receiver]
        return min(open_ones) - 1 if open_ones else self.sent.get(receiver, 0)


class Numbers:
    """Those that an agent may use for its letters to one receiver, if it does not keep them."""

    def __init__(self) -> None:
        self.asked = 0
        self.written = 0
        self.write: asyncio.Future[None] | None = None

    def reserved(self, upto: int, done: "asyncio.Future[None]") -> None:
        if not done.cancelled() and done.exception() is None:
            self.written = upto


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
        self._epochs: dict[str, int] = {}
        self._whereabouts, self._release, self._outbox = whereabouts, release, outbox
        self._send, self._deliver, self._answer, self._went = send, deliver, answer, went
        self._broken, self._note = broken, note
        self._clients: dict[str, Client] = {}
        self._calls: dict[tuple[str, str, int], int] = {}  # (agent, receiver, sequence) -> the agent's own number
        self._unwritten: set[_Key] = set()  # what may not leave yet
        self._numbers: dict[tuple[str, str], Numbers] = {}  # (agent, receiver)
        self._settling: dict[tuple[str, str], int] = {}  # (agent, receiver) -> settled, not written yet
        self._settled: dict[tuple[str, str], int] = {}  # and written
        self._tickets = itertools.count(1)
        self._given: dict[str, deque[int]] = {}  # tickets of the letters that are with the agent, in their order
        self._replays: dict[str, Replay] = {}
        self._transacting: set[str] = set()  # agents whose answers rest on checkpoints
        self._outbox_bytes: dict[str, int] = {}  # agent -> of its letters without a reply

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
        self._replays[agent] = Replay() if replay is None else replay
        self._epochs[agent] = epoch
        self._outbox_bytes[agent] = sum(_size(each) for sent in luggage.sent.values() for each in sent.letters)
        for letter in waiting:
            box.take(letter)
        self.reopen(agent)

    def close(self, agent: str) -> Luggage:
        """The agent is frozen. Its letters wait; the luggage is as it was at the freeze."""
        box = self.boxes[agent]
        box.close()
        self._given.pop(agent, None)
        if self._replays[agent]:  # the captured state knows of all; a call that waited has heard so
            self._replays[agent] = Replay()
            self._outbox.drop_loose(agent)
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
        self.boxes.pop(agent, None)
        self._epochs.pop(agent, None)
        self._given.pop(agent, None)
        self._replays.pop(agent, None)
        self._transacting.discard(agent)
        self._outbox_bytes.pop(agent, None)
        for key in [key for key in self._calls if key[0] == agent]:
            del self._calls[key]
        for table in (self._settled, self._settling, self._numbers):
            for address in [address for address in table if address[0] == agent]:
                del table[address]

    # From clients

    async def ask(self, client: str, receiver: str, kind: str, body: bytes, patience: float) -> Reply:
        """Sends a client's message and waits `patience` seconds for the reply, wherever the agent is or goes."""
        check(kind, body)
        desk = self._clients[client] = self._clients.pop(client, Client())  # to the end: heard just now
        self._forget_an_idle_client()
        settled = desk.settled(receiver)
        sequence = desk.sent[receiver] = desk.sent.get(receiver, 0) + 1
        letter = Letter(client, 0, sequence, settled, receiver, self.host, kind, body)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        desk.pending[receiver, sequence] = letter, future
        self.route(letter)
        try:
            return await asyncio.wait_for(future, patience)
        except TimeoutError:
            where = self._whereabouts.host_of(receiver)
            place = f"last heard of on {where}" if where else "not heard of"
            raise Unavailable(
                f"{receiver} ({place}) did not answer {kind!r} within {patience:g} s; it may still do so. "
                "Look at: agentplatform status",
                retry_after=patience,
            ) from None
        finally:
            desk.pending.pop((receiver, sequence), None)
            self.route(Settled(client, desk.settled(receiver), receiver))

    async def tell(self, client: str, receiver: str, kind: str, body: bytes, patience: float) -> None:
        """Like `ask`, when nobody waits: whatever comes of it is dropped."""
        with contextlib.suppress(Unavailable):
            await self.ask(client, receiver, kind, body, patience)

    def _forget_an_idle_client(self) -> None:
        if len(self._clients) > MAX_IDLE_CLIENTS:
            idle = next((name for name, desk in self._clients.items() if not desk.pending), None)
            if idle is not None:
                del self._clients[idle]

    # From agents (the runner's upcalls)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        """What an agent is, and did since the last time: one transaction. Its answers and letters leave when that is
        durable. Raises PeerFault for a state that no honest worker sends."""
        box = self.boxes.get(agent)
        if box is None:
            return  # a late frame of an agent that left
        if checkpoint.answers:
            self._transacting.add(agent)
        replay, loose = self._replays[agent], []
        letters = []
        for outgoing in checkpoint.letters:
            if (letter := self._numbered(agent, box, outgoing)) is not None:
                letters.append(letter)
                if outgoing.call is not None:
                    loose.append(Loose(letter, _cause(box, outgoing)))
                    replay.add(loose[-1], outgoing.call)
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
            replay.checkpointed(checkpoint.calling, box.luggage.senders),
            box.luggage.group,
        )
        self._leave(posts, self._outbox.checkpoint(agent, change))
        self._pump(agent)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        """Numbers what an agent sends and keeps it; it leaves when it is durable."""
        box = self.boxes.get(agent)
        if box is None or (letter := self._numbered(agent, box, outgoing)) is None:
            return
        if outgoing.loose:
            loose = Loose(letter, _cause(box, outgoing))
            self._replays[agent].add(loose, outgoing.call)
            self._leave([letter], self._outbox.keep_letter(letter, loose))
        elif outgoing.kept:
            self._leave([letter], self._outbox.keep_letter(letter))
        else:
            self._leave_unkept(letter)

    def _leave_unkept(self, letter: Letter) -> None:
        """The letter may be lost, but its number must not be used twice: numbers are written ahead, many at a time."""
        key = letter.sender, letter.receiver
        numbers = self._numbers.setdefault(key, Numbers())
        if letter.sequence > numbers.asked - RESERVED_NUMBERS // 2:
            upto = numbers.asked = letter.sequence + RESERVED_NUMBERS
            numbers.write = self._outbox.reserve_numbers(*key, upto)
            numbers.write.add_done_callback(lambda done: numbers.reserved(upto, done))
        if letter.sequence <= numbers.written:
            self._release(letter.sender, lambda: self.route(letter))
        else:
            assert numbers.write is not None
            self._leave([letter], numbers.write)

    def _numbered(self, agent: str, box: Mailbox, outgoing: Outgoing) -> Letter | None:
        try:
            check(outgoing.kind, outgoing.body)
            receiver = outgoing.receiver
            if not AGENT_ID.fullmatch(receiver):  # a whole id needs no news: after a restart there is none yet
                receiver = self._whereabouts.resolve(receiver)
            sent = box.luggage.sent.get(receiver, Sent())
            if self._adopted(agent, box, receiver, outgoing):
                return None
            self._check_room(agent, box.luggage, len(outgoing.body))
        except (Misuse, Unavailable) as error:
            self._not_sent(agent, outgoing, str(error))
            return None
        box.luggage.sent[receiver] = sent
        settled = sent.settled
        sent.last += 1
        letter = Letter(
            agent, self._epochs[agent], sent.last, settled, receiver, self.host, outgoing.kind, outgoing.body
        )
        sent.letters.append(letter)
        self._outbox_bytes[agent] += _size(letter)
        if outgoing.call is not None:
            self._calls[agent, receiver, letter.sequence] = outgoing.call
        return letter

    def _adopted(self, agent: str, box: Mailbox, receiver: str, outgoing: Outgoing) -> bool:
        """Whether it left already, before a crash after which the agent does it again."""
        cause = _cause(box, outgoing)
        found = self._replays[agent].adopt(cause, receiver, outgoing.kind, outgoing.body, outgoing.call)
        if found is None:
            return False
        letter, answer = found
        if outgoing.call is None:
            return True
        if answer is not None:
            self._answer(agent, outgoing.call, answer)
        else:
            self._calls[agent, receiver, letter.sequence] = outgoing.call
        return True

    def _check_room(self, agent: str, luggage: Luggage, size: int) -> None:
        count = sum(len(sent.letters) for sent in luggage.sent.values())
        if self._outbox_bytes[agent] + size > MAX_OUTBOX_BYTES or count >= MAX_OUTBOX_LETTERS:
            raise Unavailable(f"{agent} has {count} letters without a reply; send more when some are answered")

    def _not_sent(self, agent: str, outgoing: Outgoing, reason: str) -> None:
        if outgoing.call is not None:
            self._answer(agent, outgoing.call, Answer(False, codec.encode(reason)))
        else:
            self._note(agent, f"{outgoing.kind!r} was not sent to {outgoing.receiver}: {reason}")

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
        for desk in self._clients.values():
            for letter, _ in list(desk.pending.values()):
                self.route(replace(letter, settled=desk.settled(letter.receiver)))
        self._flush()
        for agent, box in list(self.boxes.items()):
            for receiver, sent in list(box.luggage.sent.items()):
                # The later ones follow when these are settled. `settled` is as of now: a receiver that was
                # restarted may have forgotten what was settled before.
                settled = self._settled.get((agent, receiver), 0)
                for letter in sent.letters[:RESEND_AT_ONCE]:
                    if _key(letter) not in self._unwritten:
                        self.route(replace(letter, settled=max(settled, letter.settled)))

    def _flush(self) -> None:
        """Nobody hears that a letter is settled before that is written: he would forget his reply, and we might ask
        for it again after a crash."""
        settling, self._settling = self._settling, {}
        durable = self._outbox.flush()
        if durable is None:
            self._settled |= settling
        else:
            durable.add_done_callback(
                lambda done: done.cancelled() or done.exception() or self._settled.update(settling)
            )

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
        client = self._clients.get(reply.receiver)
        if client is not None:
            _, future = client.pending.get((reply.sender, reply.sequence), (None, None))
            if future is not None and not future.done():
                future.set_result(reply)
            return
        box = self.boxes.get(reply.receiver)
        if box is not None:
            self._settle(reply.receiver, box.luggage, reply)
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

    def _settle(self, agent: str, luggage: Luggage, reply: Reply) -> None:
        sent = luggage.sent.get(reply.sender)
        mine = next((each for each in sent.letters if each.sequence == reply.sequence), None) if sent else None
        if sent is None or mine is None:
            return  # a repeat
        sent.letters.remove(mine)
        self._outbox_bytes[agent] -= _size(mine)
        if sent.settled and (agent, reply.sender) not in self._numbers:
            self._outbox.drop_letters(agent, reply.sender, sent.settled)
            self._settling[agent, reply.sender] = sent.settled
        answer = Answer(reply.ok, reply.body)
        if self._replays[agent].answered(reply.sender, reply.sequence, answer):
            self._outbox.keep_answer(agent, reply.sender, reply.sequence, answer)
        call = self._calls.pop((agent, reply.sender, reply.sequence), None)
        if call is not None:
            self._answer(agent, call, answer)

    def _pump(self, agent: str) -> None:
        box = self.boxes[agent]
        while (letter := box.next()) is not None:
            ticket = next(self._tickets)
            self._given.setdefault(agent, deque()).append(ticket)
            self._deliver(
                agent, Delivery(ticket, letter.sender, letter.kind, letter.body, letter.sequence, letter.origin)
            )


def _cause(box: Mailbox, outgoing: Outgoing) -> tuple[str, int] | None:
    """The message in whose handling it was sent. An agent handles the first that it has in hand."""
    if not outgoing.handling or not box.in_hand:
        return None
    return box.in_hand[0].sender, box.in_hand[0].sequence


def check(kind: str, body: bytes) -> None:
    """Raises Misuse for what no letter can carry."""
    if not isinstance(kind, str) or not 1 <= len(kind) <= MAX_KIND:
        raise Misuse(f"a message's kind is a text of 1 to {MAX_KIND} characters, not {kind!r:.40}")
    if len(body) > MAX_BODY_BYTES:
        raise Misuse(f"a message has at most {MAX_BODY_BYTES} bytes; this one has {len(body)}")


def _checked(answer: Answer) -> Answer:
    """Or an error in its place."""
    try:
        check("answer", answer.body)
    except Misuse as error:
        return Answer(False, codec.encode(str(error)))
    return answer


def _key(post: Letter | Reply) -> _Key:
    return isinstance(post, Letter), post.sender, post.receiver, post.sequence


def _size(letter: Letter) -> int:
    return LETTER_BYTES + len(letter.body)
